"""Comparing two policies until it is decided, and the results that other systems made."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from pipeline.cli.main import COMMANDS, main
from pipeline.config import make
from pipeline.errors import SettingsError
from pipeline.methods.registry import METHODS
from pipeline.policies.checkpoint import Checkpoint, save_checkpoint
from pipeline.report.statistics import difference_estimate
from pipeline.stages.compare import blocks_of
from pipeline.stages.contenders import BATCH, open_contender, play_blocks
from pipeline.stages.eval_info import read_eval_infos
from pipeline.stages.recorded import read_recorded
from pipeline.stages.settings import AsksPolicies
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.pendulum.lqr import REST, linearise, lqr
from pipeline.tasks.pendulum.world import WORLD
from tests.conftest import Run, files_of
from tests.test_play import server

CONDITIONS = PENDULUM.conditions

HORIZON = 15
QUICK = ("--margin", 0.3, "--max-episodes", 9 * 20)
linear = cache(lambda: linearise(WORLD, REST, 1))


def plan(states: np.ndarray) -> np.ndarray:
    """What the LQR would do by the linear model: it controls well, and costs nothing."""
    by_state, by_action = linear()
    away, actions = states - REST, []
    for _ in range(HORIZON):
        actions.append(lqr(0, away + REST))
        away = away @ by_state.T + actions[-1] @ by_action.T
    return np.stack(actions, axis=1)


def answer(actions: np.ndarray) -> tuple[int, bytes]:
    return 200, json.dumps({"predictions": actions.tolist()}).encode()


def good(states: list) -> tuple[int, bytes]:
    return answer(plan(np.array(states)))


def idle(states: list) -> tuple[int, bytes]:
    return answer(np.zeros((len(states), HORIZON, 1)))


@pytest.fixture(scope="module")
def controls() -> Iterator[str]:
    """The address of a server that controls the pendulum."""
    with server(good) as url:
        yield url


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of ours, not trained: all its episodes fall."""
    method = METHODS["pi0"]
    settings = make(method.settings_type, {**files_of("pi0", data), "width": 16, "layers": 1})
    interface = method.prepare(settings).interface
    torch.manual_seed(0)
    weights = method.build(settings, interface).state_dict()
    path = tmp_path_factory.mktemp("compare") / "idle.pth"
    save_checkpoint(path, Checkpoint(method, settings, interface, weights, {"name": "idle"}))
    return path


def compared(run: Run, *words: object, code: int) -> dict[str, Any]:
    """The command's JSON; its exit code is checked."""
    made = run("pipeline", "compare", *words, "--json")
    assert made.returncode == code and not made.stderr, made.stderr
    found: dict[str, Any] = json.loads(made.stdout)
    return found


def refused(run: Run, *words: object, code: int = 2) -> str:
    made = run("pipeline", "compare", *words)
    (line,) = made.stderr.splitlines()
    assert made.returncode == code and not made.stdout and line.startswith("error: ")
    return line


def test_a_server_and_a_file_both_ways(run: Run, controls: str, model: Path) -> None:
    """The same episodes, mirrored results; it stops as soon as it is decided."""
    there = compared(run, controls, model, *QUICK, code=0)
    assert there["verdict"] == "better" and there["a"] == controls and there["b"] == f"{model}, idle"
    assert there["score"] == "calm" and there["margin"] == 0.3 and 0 < there["interval"][0] < there["difference"]
    assert there["episodes"] % len(CONDITIONS) == 0 and there["episodes"] < 9 * 20
    assert [each["condition"] for each in there["conditions"]][:2] == ["0.01, 10", "0.01, 13"]
    # The episodes hang on the server's port, and few decide: one condition may be unlucky.
    assert all(each["a"] >= each["b"] and each["b"] < 0.1 for each in there["conditions"])
    assert np.mean([each["a"] for each in there["conditions"]]) > 0.4
    back = compared(run, model, controls, *QUICK, code=1)
    assert back["verdict"] == "worse" and back["episodes"] == there["episodes"]
    assert back["interval"] == [-there["interval"][1], -there["interval"][0]]
    assert [(each["a"], each["b"]) for each in back["conditions"]] == [
        (each["b"], each["a"]) for each in there["conditions"]
    ]


def test_a_model_with_itself_is_equivalent(run: Run, model: Path, tmp_path: Path) -> None:
    copy = shutil.copy(model, tmp_path / "copy.pth")
    for score in ("calm", "success"):
        found = compared(run, model, copy, *QUICK, "--score", score, code=10)
        assert found["verdict"] == "equivalent" and found["difference"] == 0 and found["score"] == score
        assert found["interval"][1] == -found["interval"][0] < 0.3 and found["episodes"] == 9 * 19


def test_one_model_meets_itself_by_another_rule(run: Run, controls: str, model: Path) -> None:
    found = compared(run, model, model, "--act", "start_noise=1", *QUICK, code=10)
    assert (found["a"], found["b"]) == (f"{model}, idle", f"{model}, idle start_noise=1")
    assert "expected a model of ours as B, found" in refused(run, model, controls, "--act", "start_noise=1")
    assert "found 'decoding'" in refused(run, model, model, "--act", "decoding=greedy")


def test_too_few_episodes_leave_it_undecided(run: Run, controls: str, model: Path) -> None:
    made = run("pipeline", "compare", controls, model, "--max-episodes", 17)
    assert made.returncode == 11 and not made.stderr
    assert "verdict   undecided: A minus B is +" in made.stdout and "episodes  9 of each policy" in made.stdout
    (needed,) = re.findall(r"needed    about ([\d,]+) episodes of each policy", made.stdout)
    assert int(needed.replace(",", "")) > 9
    assert "1 paired episodes per condition" in made.stdout
    quiet = run("pipeline", "compare", controls, model, "--max-episodes", 17, "--quiet")
    assert quiet.returncode == 11 and quiet.stdout.startswith("undecided: ") and quiet.stdout.count("\n") == 1


def test_another_seed_has_other_episodes(
    controls: str, model: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for seed in ("0", "0", "1"):
        assert main(COMMANDS, ["compare", controls, str(model), "--max-episodes", "9", "--seed", seed]) == 11
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


def test_episodes_are_the_same_in_all_conditions_but_not_in_all_batches(model: Path, controls: str) -> None:
    contenders = [open_contender(PENDULUM, place, AsksPolicies()) for place in (str(model), controls)]
    with closing(play_blocks(PENDULUM, contenders, BATCH + 2, 0, "test")) as played:
        first, second = played
    assert [columns["calm"].shape for columns in (*first, *second)] == 2 * [(9, BATCH)] + 2 * [(9, 2)]
    with closing(play_blocks(PENDULUM, contenders[::-1], 2, 0, "test")) as played:
        (fewer,) = played
    assert_allclose(fewer[1]["angle"], first[0]["angle"][:, :2], atol=1e-3)  # batches of other sizes round otherwise
    assert not np.isclose(second[0]["angle"], fewer[1]["angle"], atol=1e-3).all()
    with closing(play_blocks(PENDULUM, contenders, 2, 0, "other")) as played:
        assert not np.isclose(next(played)[0]["angle"], fewer[1]["angle"], atol=1e-3).all()


def test_a_server_that_fails_on_the_way_fails_the_comparison(
    model: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []

    def fails(states: list) -> tuple[int, bytes]:
        asked.append(len(states))
        return good(states) if len(asked) < 5 else (500, b"out of memory")

    with server(fails) as url:
        assert main(COMMANDS, ["compare", url, str(model), "--max-episodes", "45"]) == 1
    said = capsys.readouterr()
    said_of = f"error: in the middle of its episodes: {url}: expected plans, found status 500: out of memory\n"
    assert said.err == said_of and not said.out
    assert len(asked) == 5


def test_a_server_is_asked_for_a_few_states_at_a_time(model: Path) -> None:
    asked = []

    def counts(states: list) -> tuple[int, bytes]:
        asked.append(len(states))
        return idle(states)

    with (
        server(counts) as url,
        closing(play_blocks(PENDULUM, [open_contender(PENDULUM, url, AsksPolicies())], BATCH, 0, "test")) as played,
    ):
        next(played)
    assert asked[0] == 2 and max(asked) <= 200 and sum(asked[1:3]) == 9 * BATCH


@pytest.mark.usefixtures("with_store")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "policy: expected two policies, A and B, or --csv, found 0."),
        (["A"], "policy: expected two policies, A and B, or --csv, found 1."),
        (["A", "B", "C"], "found 3."),
        (["--csv", "c.csv", "--act", "start_noise=1"], "act: expected policies, which can act, found the table"),
        (["A", "B", "--csv", "c.csv"], "policy: expected two policies or --csv, found both"),
        (["none.pth", "MODEL"], "policy: expected a model file, a run's id, models:/NAME@ALIAS, "),
        (["MODEL", "0" * 32], "expected a run of this store"),
        (["MODEL", "models:/pi0"], "expected models:/NAME@ALIAS or models:/NAME/NUMBER, found 'models:/pi0'"),
        (["MODEL", "models:/pi0@champion"], "expected a version of MLflow's registry, found none called"),
        (["MODEL", "http://127.0.0.1:9"], "http://127.0.0.1:9: expected an answer of a policy server, found: "),
        (["MODEL", "http://"], "policy: expected an address like http://127.0.0.1:5001"),
        (["MODEL", "SHORT"], ": expected chunks of at least 15 actions, the longest replan interval of"),
        (["MODEL", "OTHER"], "expected 4 state and 1 action dimensions, for the task"),
        (["MODEL", "data/trajectories.npz"], "data/trajectories.npz: expected a .pth file"),
        (["MODEL", "MODEL", "--score", "grace"], "score: expected one of calm, success, converge, which lie in [0, 1]"),
        (["MODEL", "MODEL", "--score", "angle"], "found 'angle'"),
        (["MODEL", "MODEL", "--margin", "0"], "margin: expected a number above 0"),
        (["MODEL", "MODEL", "--margin", "1"], "margin: expected a number below 1 for scores in [0, 1], found 1"),
        (["MODEL", "MODEL", "--max-episodes", "8"], "max_episodes: expected 9 or more, one in every condition"),
        (["MODEL", "a.json"], "policy: expected two eval_info.json, compared by success"),
        (["a.json", "b.json", "--score", "calm"], "policy: expected two eval_info.json, compared by success"),
        (["a.json", "b.json"], "a.json: expected lerobot's eval_info.json, with per_episode or per_task, found: "),
        (["--csv", "none.csv"], "none.csv: expected a table as CSV, found: "),
    ],
)
def test_bad_input(
    words: list[str], message: str, model: Path, workplace: Path, capsys: pytest.CaptureFixture[str], data: Path
) -> None:
    def short(states: list) -> tuple[int, bytes]:
        return answer(np.zeros((len(states), 5, 1)))

    with server(short) as url:
        places = {"MODEL": str(model), "SHORT": url, "OTHER": "other.pth"}
        if "OTHER" in words:
            save_other(Path("other.pth"), data)
        assert main(COMMANDS, ["compare", *(places.get(word, word) for word in words)]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.startswith("error: ") and said.err.count("\n") == 1 and not said.out


def save_other(path: Path, data: Path) -> None:
    """A model of another task: of three state dimensions."""
    method = METHODS["regression"]
    settings = make(method.settings_type, {**files_of("pi0", data), "width": 16, "layers": 1})
    made = method.prepare(settings).interface
    state = type(made.state)(made.state.mean[:3], made.state.std[:3])
    interface = type(made)(**{**vars(made), "state": state})
    save_checkpoint(
        path, Checkpoint(method, settings, interface, method.build(settings, interface).state_dict(), {"name": "other"})
    )


def table(path: Path, means: dict[str, list[float]], episodes: int = 40, conditions: int = 1) -> Path:
    """A table of models with these means, whose scores differ between episodes."""
    random = np.random.default_rng(0)
    lines = ["method,model,condition,episode,score"]
    for condition in range(conditions):
        hard = random.normal(0, 0.05, episodes)
        for method, models in means.items():
            for model, mean in enumerate(models):
                scores = mean + hard + random.normal(0, 0.02, episodes)
                lines += [f"{method},{model},c{condition},{n},{score}" for n, score in enumerate(scores)]
    path.write_text("\n".join(lines) + "\n")
    return path


LOW, HIGH = [0.50, 0.51, 0.49, 0.5], [0.70, 0.71, 0.69, 0.7]


@pytest.mark.parametrize(
    ("first", "second", "margin", "verdict", "code"),
    [
        (HIGH, LOW, 0.05, "better", 0), (LOW, HIGH, 0.05, "worse", 1), (LOW, LOW, 0.05, "equivalent", 10),
        (LOW, [0.5, 0.6, 0.4, 0.5], 0.05, "undecided", 11), ([0.5], [0.7], 0.05, "undecided", 11),
    ],
)  # fmt: skip
def test_methods_of_a_table(
    first: list[float], second: list[float], margin: float, verdict: str, code: int, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = table(tmp_path / "results.csv", {"ours": first, "theirs": second}, conditions=2)
    words = ["compare", "--csv", str(path), "--margin", str(margin)]
    assert main(COMMANDS, [*words, "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    (pair,) = found["pairs"]
    assert (pair["a"], pair["b"], pair["verdict"]) == ("ours", "theirs", verdict)
    scores = read_recorded(path)
    assert scores["ours"].shape == (len(first), 2, 40)
    estimate = difference_estimate(scores["ours"].mean(1), scores["theirs"].mean(1))
    expected = [estimate.interval().low, estimate.interval().high] if estimate else None
    assert pair["interval"] == expected and (estimate is None) == (len(first) == 1)
    assert main(COMMANDS, words) == code
    said = capsys.readouterr().out
    assert "ours minus theirs" in said and verdict in said and "40 episodes in each of 2 conditions" in said
    assert ("No interval: one model" in said) == (len(first) == 1)


def test_three_methods_have_letters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path / "results.csv", {"a": LOW, "b": HIGH, "c": LOW[::-1]})
    assert main(COMMANDS, ["compare", "--csv", str(path), "--margin", "0.03", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["methods"][0]["method"] == "b" and all(each["needs"] == [] for each in found["pairs"])
    assert {each["method"]: each["letters"] for each in found["methods"]} == {"a": "b", "b": "a", "c": "b"}
    assert {(each["a"], each["b"]): each["verdict"] for each in found["pairs"]} == {
        ("a", "b"): "worse", ("a", "c"): "equivalent", ("b", "c"): "better",
    }  # fmt: skip
    closer = ["compare", "--csv", str(path), "--margin", "0.008"]
    assert main(COMMANDS, [*closer, "--json"]) == 0
    needs = {(each["a"], each["b"]): each["needs"] for each in json.loads(capsys.readouterr().out)["pairs"]}
    assert [pair for pair, found in needs.items() if found] == [("a", "c")]
    assert main(COMMANDS, closer) == 0
    told = capsys.readouterr().out
    assert f"a and c: What would probably decide: {needs['a', 'c'][0]['models']} models per group on " in told
    assert "95% interval (Holm)" in told


def test_too_few_episodes_for_all_conditions_are_refused() -> None:
    task = replace(PENDULUM, conditions=PENDULUM.conditions * 2)
    with pytest.raises(SettingsError, match="max_episodes: expected 18 or more, one in every condition of 'pendulum'"):
        blocks_of(task, 17)
    assert blocks_of(task, 37) == 2


def test_another_column_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path / "results.csv", {"a": LOW, "b": HIGH})
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{header},loss", *(f"{line},{1 - float(line.rpartition(',')[2])}" for line in lines)]))
    for words, code in (([], 1), (["--score", "score"], 1), (["--score", "loss"], 0)):
        assert main(COMMANDS, ["compare", "--csv", str(path), *words]) == code
    capsys.readouterr()
    assert main(COMMANDS, ["compare", "--csv", str(path), "--score", "calm"]) == 2
    assert "expected the columns method, model, episode, calm, and condition" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-1], "found none for method 'b', model '3', condition 'c0', episode '2'"),
        (lambda lines: [*lines, lines[5]], "line 26: expected every episode of a model once, found method 'a', model "),
        (lambda lines: [*lines, "b,4,c0,0,0.5"], "found none for method 'b', model '4', condition 'c0', episode '1'"),
        (lambda lines: [*lines[:3], "a,0,c0,2,good", *lines[4:]], "line 4: expected a finite number as score, found"),
        (lambda lines: [*lines[:3], "a,0,c0,2,nan", *lines[4:]], "line 4: expected a finite number as score, found"),
        (lambda lines: [*lines[:3], "a,0,c0", *lines[4:]], "line 4: expected 5 fields, as in the first line, found"),
        (lambda lines: [*lines[:3], "a,0,c0,2,0,91", *lines[4:]], "line 4: expected 5 fields, as in the first line"),
        (lambda lines: ["method,model,episode,value", *lines[1:]], "found no 'score'"),
        (lambda lines: lines[:13], "expected two methods or more, found 1"),
        (lambda _lines: [], "found no 'method'"),
        (lambda _lines: ["\0"], "found no 'method'"),
    ],
)
def test_tables_that_are_not_whole(
    change: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "results.csv", {"a": LOW, "b": HIGH}, episodes=3)
    path.write_text("\n".join(change(path.read_text().splitlines())))
    assert main(COMMANDS, ["compare", "--csv", str(path)]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and not said.out


def eval_info(path: Path, successes: list[bool], seeds: list[int | None] | None = None) -> Path:
    """As lerobot writes it for one task."""
    path.parent.mkdir(exist_ok=True)
    rows = [
        {"episode_ix": n, "sum_reward": 1.0, "max_reward": 1.0, "success": success, "seed": seed}
        for n, (success, seed) in enumerate(zip(successes, seeds or [None] * len(successes), strict=True))
    ]
    path.write_text(json.dumps({"per_episode": rows, "aggregated": {"pc_success": 50.0}}))
    return path


def test_recorded_episodes_of_lerobot(run: Run, tmp_path: Path) -> None:
    """Pairs are episodes of equal seed, whatever their order; eight wins without a loss decide."""
    first = eval_info(tmp_path / "a" / "eval_info.json", [True] * 12, list(range(12)))
    second = eval_info(tmp_path / "b" / "eval_info.json", [True] + [False] * 11, list(range(12))[::-1])
    found = compared(run, first, second, code=0)
    assert found["verdict"] == "better" and (found["wins"], found["losses"]) == (8, 0) and found["score"] == "success"
    assert found["interval"][0] >= 0 and found["episodes"] == 8
    made = run("pipeline", "compare", second, first)
    assert made.returncode == 1 and "0 won by A, 8 by B" in made.stdout and "A is worse than B" in made.stdout
    assert compared(run, first, first, code=11)["difference"] == 0
    assert compared(run, first, first, "--margin", 0.6, code=10)["verdict"] == "equivalent"


def test_recorded_episodes_of_several_tasks_are_blocks(tmp_path: Path) -> None:
    def tasks(*successes: list[bool]) -> dict[str, Any]:
        return {
            "per_task": [
                {"task_group": "libero", "task_id": n, "metrics": {"successes": each, "sum_rewards": [0.0] * 3}}
                for n, each in enumerate(successes)
            ]
        }

    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    paths[0].write_text(json.dumps(tasks([True, False, True], [True, True, True])))
    paths[1].write_text(json.dumps(tasks([False, False, True], [True, True, False])))
    names, a, b = read_eval_infos(*paths)
    assert names == ("libero 0", "libero 1") and a.tolist() == [[1, 0, 1], [1, 1, 1]]
    assert b.tolist() == [[0, 0, 1], [1, 1, 0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "b.json: expected lerobot's eval_info.json, with per_episode or per_task, found: "),
        ("{}", "found: 'per_episode'"),
        ('{"per_episode": []}', "found: no episodes"),
        ('{"per_episode": [{"success": true, "seed": 0}]}', "a.json: expected the same episodes as in the other file"),
        ('{"per_episode": [{"success": 3, "seed": 0}]}', "a success that is neither true nor false"),
        ('{"per_episode": [{"success": true, "seed": 0}, {"success": true, "seed": 0}]}', "a seed that is there twice"),
        (
            '{"per_task": [{"task_group": "x", "task_id": 0, "metrics": {"successes": [true, true]}}]}',
            "found one in this",
        ),
        ('{"per_task": [{"task_group": "x", "task_id": 0}]}', "found: 'metrics'"),
        ("[" * 100_000, "expected lerobot's eval_info.json"),
        ("\xff", "expected lerobot's eval_info.json"),
    ],
)
def test_files_that_are_not_lerobots(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = eval_info(tmp_path / "a.json", [True, False], [0, 1]), tmp_path / "b.json"
    second.write_text(content, encoding="latin-1")
    assert main(COMMANDS, ["compare", str(first), str(second)]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and not said.out
