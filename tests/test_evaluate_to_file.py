"""Episodes by blocks: the same bits as all at once, on any executor; the table that they make, and who reads it."""

from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli.main import COMMANDS, main
from pipeline.errors import DataError
from pipeline.evaluation.control import draw_episodes
from pipeline.evaluation.protocol import Protocol
from pipeline.evaluation.yardsticks import evaluate_yardstick
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import Pi0Settings
from pipeline.stages import evaluate_to_file as at_scale
from pipeline.stages.evaluate import Candidate, row_of
from pipeline.stages.evaluate_to_file import stream
from pipeline.stages.judging import EvaluationSpec, judge_file, judge_yardstick
from pipeline.stages.recorded import read_recorded
from pipeline.stages.settings import EvaluateSettings
from pipeline.stages.train import train
from pipeline.tasks.project import TASKS
from pipeline.tasks.registry import find_task
from pipeline.tracking.query import StoredRun
from tests.conftest import Run

EPISODES = 7


@pytest.mark.parametrize("name", list(TASKS))
@pytest.mark.parametrize("first", [0, 1, 4])
def test_a_block_is_drawn_as_among_all(name: str, first: int) -> None:
    task = find_task(name)
    whole = draw_episodes(task, task.conditions, EPISODES, 5, "test")
    count = EPISODES - first
    block = draw_episodes(task, task.conditions, count, 5, "test", first=first)
    rows = np.concatenate([np.arange(first, EPISODES) + EPISODES * n for n in range(len(task.conditions))])
    assert np.array_equal(block.starts, whole.starts[rows]) and np.array_equal(block.noise, whole.noise[rows])


@pytest.fixture
def model(workplace: Path, with_store: None) -> Path:
    settings = Pi0Settings(epochs=1, width=16, layers=1)
    return train(METHODS["pi0"], settings, lambda _line: None, lambda _step: None).mirror.model


def test_the_table_has_the_bits_of_an_evaluation(
    model: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(at_scale, "BLOCK", 3)
    task, protocol = find_task("pendulum"), Protocol(EPISODES, 11)
    settings = EvaluateSettings(episodes=EPISODES, seed=11, out="all.parquet", executor="serial")
    judges = {model.stem: partial(judge_file, model, "none"), "zero action": partial(judge_yardstick, "zero action")}
    contenders = [
        Candidate(name, group, judge) for (name, judge), group in zip(judges.items(), ("pi0", "yardstick"), strict=True)
    ]
    spec = EvaluationSpec("pendulum", protocol, Path("none"))
    means = stream(settings, contenders, spec, lambda _event: None).means
    table = pq.read_table("all.parquet").to_pandas().sort_values(["model", "condition", "episode"])
    assert pq.ParquetFile("all.parquet").num_row_groups == 2 * 9 * 3 and len(table) == 2 * 9 * EPISODES
    for name, judge in judges.items():
        whole = judge(spec, lambda _share: None).evaluation.by_condition()
        rows = table[table.model == name]
        for number, condition in enumerate(task.conditions):
            own = rows[rows.condition == str(condition)]
            assert own.episode.tolist() == list(range(EPISODES))
            for score, column in whole.items():
                assert np.array_equal(own[score].to_numpy(), column[number].astype(float)), (name, score)
                assert means[name][number][score] == pytest.approx(column[number].mean(), abs=1e-12)
    assert set(table["tokens_per_plan"].isna()) == {True}  # neither has tokens
    assert table.score.equals(table.calm)
    written = table[["method", "model", "condition", "episode", "score"]]
    written.to_csv("all.csv", index=False)
    by_csv, by_parquet = read_recorded(Path("all.csv")), read_recorded(Path("all.parquet"))
    assert by_csv.keys() == by_parquet.keys() == {"pi0", "yardstick"}
    assert all(np.allclose(by_csv[name], by_parquet[name], rtol=0, atol=1e-12) for name in by_csv)
    capsys.readouterr()
    assert main(COMMANDS, ["compare", "--csv", "all.parquet", "--score", "return"]) in (0, 1, 10, 11)
    assert f"{EPISODES} episodes in each of 9 conditions" in capsys.readouterr().out


def test_from_the_command_line(model: Path, capsys: pytest.CaptureFixture[str], run: Run) -> None:
    words = ["evaluate", str(model), "--episodes", "2", "--executor", "serial"]
    assert main(COMMANDS, [*words, "--out", "made/some.parquet", "--json"]) == 0
    assert pq.read_metadata("made/some.parquet").num_rows == 2 * 9
    assert '"tinypi-evaluation-means-1"' in capsys.readouterr().out
    pool = run("pipeline", *words, "--executor", "pool", "--workers", 2, "--out", "pool.parquet")
    assert pool.returncode == 0, pool.stderr
    tables = [pq.read_table(name).to_pandas() for name in ("made/some.parquet", "pool.parquet")]
    one, other = (table.astype(str).sort_values(["condition", "episode"], ignore_index=True) for table in tables)
    assert one.equals(other)
    for wrong, said in (
        (["--out", "some.csv"], "out: expected a name that ends in .parquet, found 'some.csv'"),
        ([str(model), "--out", "a.parquet"], f"out: expected models of different names, found '{model.stem}' twice."),
    ):
        assert main(COMMANDS, [*words, *wrong]) == 2
        assert said in capsys.readouterr().err


def test_entropy_over_ways_is_left_out() -> None:
    schema = at_scale.schema_of(find_task("avoiding"), Protocol(1, 0), [])
    assert "ways" not in schema.names and "switches" in schema.names


@pytest.mark.parametrize("first_done", [0, 1])
def test_methods_come_as_they_were_named_whichever_is_done_first(first_done: int, tmp_path: Path) -> None:
    """Which one is A decides the sign and the exit code of `compare --csv`."""
    task, path = find_task("pendulum"), tmp_path / "a.parquet"
    named = [Candidate("slow", "b", print), Candidate("old", "a", print), Candidate("fast", "a", print)]  # type: ignore[arg-type]
    done = [named[0], *named[:0:-1]] if first_done == 0 else [named[2], named[0], named[1]]
    schema = at_scale.schema_of(task, Protocol(1, 0), named)
    with pq.ParquetWriter(path, schema) as writer:
        for each in done:
            scores = {name: np.full(1, named.index(each) / 10) for name in task.scores if name in schema.names}
            for number in range(len(task.conditions)):
                writer.write_table(at_scale.rows_of(schema, task, each, at_scale.Block(number, 0, 1), scores))
    found = read_recorded(path)
    assert list(found) == ["b", "a"] and found["a"][:, 0, 0].tolist() == [0.1, 0.2]


def test_means_do_not_depend_on_which_block_is_done_first() -> None:
    blocks = [{"score": np.array([each])} for each in (0.1, 1e16, 0.3, -1e16)]
    means = set()
    for order in permutations(blocks):
        sums = at_scale.Sums()
        for block in order:
            sums.add(block)
        means.add(sums.means()["score"])
    assert means == {0.1}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"episode": [0, 1]}, "expected a column 'method'"),
        ({"method": ["a", "b"], "model": ["1", "1"], "episode": [0, 0], "score": [1.0, None]}, "a finite number"),
        ({"method": ["a", "a"], "model": ["1", "2"], "episode": [0, 0], "score": [1.0, 0.0]}, "two methods or more"),
        ({"method": ["a", "b"], "model": ["1", "1"], "episode": [0, 1], "score": [1.0, 0.0]}, "the same episodes"),
        (
            {"method": ["a", "b", "b"], "model": ["1"] * 3, "episode": [0, 0, 0], "score": [1.0] * 3},
            "the same episodes of the same conditions, each once",
        ),
    ],
)
def test_a_faulty_table_is_refused(columns: dict, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match=said):
        read_recorded(path)


def test_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("no parquet")
    for name in ("a.parquet", "none.parquet"):
        with pytest.raises(DataError, match="expected a table as parquet"):
            read_recorded(tmp_path / name)


def test_yardsticks_by_blocks() -> None:
    task = find_task("reacher")
    name = next(name for name, each in task.yardsticks.items() if not each.planned)
    whole = evaluate_yardstick(name, draw_episodes(task, task.conditions[:1], 5, 3), 1)
    block = evaluate_yardstick(name, draw_episodes(task, task.conditions[:1], 3, 3, first=2), 1)
    for score in block.columns.keys() - {at_scale.OF_ALL}:  # its own products add up in another order
        assert np.allclose(block.columns[score], whole.columns[score][2:], rtol=0, atol=1e-9), score


def test_an_average_is_no_further_model_of_its_group() -> None:
    def run(name: str, **tags: str) -> StoredRun:
        return StoredRun(name, name, "FINISHED", 0, {}, {}, {"method": "pi0", "name": name} | tags, "1")

    average = run("pi0 average of 2", group="pi0 width=64", kind="average", members="0" * 64)
    assert [row_of(each) for each in (run("a", group="pi0 width=64"), average, run("b"))] == [
        "pi0 width=64", "pi0 average of 2", "pi0",
    ]  # fmt: skip
