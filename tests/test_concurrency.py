"""Many processes at once on one store and one folder of data: nothing is lost, locked or half built."""

import hashlib
from pathlib import Path

import pytest

from pipeline.errors import SettingsError
from pipeline.methods.registry import METHODS
from pipeline.names import Kind
from pipeline.stages.collect import collect
from pipeline.stages.settings import CollectSettings, TokenizeSettings
from pipeline.stages.tokenize import tokenize
from pipeline.tracking.store import open_store
from pipeline.tracking.study import open_study, tag_of
from tests import warm
from tests.conftest import environment, files_of, runs_of, store
from tests.test_runs import EPOCH_METRICS

SMALL = ("--epochs", "3", "--width", "16", "--layers", "1", "--batch-size", "50")

WRITER = """
from pathlib import Path
from pipeline.stages.settings import TokenizeSettings
from pipeline.stages.tokenize import tokenize
for number in range(12):
    pairs = Path("data/training_pairs_original.npz")
    tokenize(TokenizeSettings(pairs=pairs, out=Path("data"), vocabulary=700 + 200 * (number % 2)))
"""

# `python -m train.train_pi0_fast`, with less data where they are missing.
FEWER = """
import runpy
from pipeline.stages.settings import CollectSettings
CollectSettings.model_fields["trajectories"].default = 100
CollectSettings.model_rebuild(force=True)
runpy.run_module("train.train_pi0_fast", run_name="__main__", alter_sys=True)
"""


def start(workplace: Path, *words: object) -> warm.Command:
    return warm.Command(workplace, ["-m", *map(str, words)], environment())


@pytest.mark.slow(seconds=10)
@pytest.mark.parametrize("count", [4, pytest.param(8, marks=pytest.mark.long)])
def test_trainings_at_once_on_a_fresh_store(workplace: Path, count: int) -> None:
    started = [(method, seed) for seed in range(count // 2) for method in ("pi0", "pi0_fast")]
    processes = [start(workplace, f"train.train_{method}", *SMALL, "--seed", seed) for method, seed in started]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0 and errors == "", errors
    runs, client = runs_of(workplace), store(workplace)
    assert [run.info.status for run in runs] == ["FINISHED"] * count
    names = {run.data.tags["name"] for run in runs}
    assert len(names) == count == len({run.data.tags["weights_sha256"] for run in runs})
    for run in runs:
        for metric in EPOCH_METRICS:
            assert [point.step for point in client.get_metric_history(run.info.run_id, metric)] == [1, 2, 3]
        stored = {item.path for item in client.list_artifacts(run.info.run_id)}
        name = run.data.tags["name"]
        assert stored == {f"{name}.txt", f"{name}.pth", f"{name}.png", "settings.json", "lock.json"}
    for folder in ("logs", "trained_models", "loss_pics"):
        assert {path.stem for path in (workplace / "train" / folder).iterdir()} == names


@pytest.mark.slow(seconds=8)
@pytest.mark.usefixtures("with_store")
def test_missing_data_are_made_once_by_trainings_that_start_together(workplace: Path) -> None:
    (workplace / "data").unlink()
    words = ["--epochs", "1", "--width", "16", "--layers", "1", "--batch-size", "500"]
    processes = [warm.Command(workplace, ["-c", FEWER, *words], environment()) for _ in range(3)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert sum("collecting 100 demonstrations" in out for out, _ in outputs) == 1
    assert sum("fitting the FAST tokenizer" in out for out, _ in outputs) == 1
    assert len({run.data.tags["tokenizer_sha256"] for run in runs_of(workplace)}) == 1
    made = {path.name: path.read_bytes() for path in (workplace / "data").glob("[!.]*")}
    assert made.keys() == {
        "trajectories.npz", "training_pairs_original.npz", "dataset.json", "fast_tokenizer.json",
        "training_pairs_fast.npz",
    }  # fmt: skip
    assert start(workplace, "train.train_pi0", *words).wait() == 0  # and what is there is not made again
    assert made == {path.name: path.read_bytes() for path in (workplace / "data").glob("[!.]*")}


def test_readers_of_data_that_are_being_built_see_old_or_new_and_never_a_mixture(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    pairs = folder / "training_pairs_original.npz"
    collect(CollectSettings(trajectories=20, out=folder))
    expected = set()
    for vocabulary in (700, 900):
        tokenize(TokenizeSettings(pairs=pairs, out=folder, vocabulary=vocabulary))
        expected.add(hashlib.sha256((folder / "fast_tokenizer.json").read_bytes()).hexdigest())
    writer = warm.Command(tmp_path, ["-c", WRITER], environment())
    method = METHODS["pi0_fast"]
    settings = method.settings_type(**files_of("pi0_fast", folder))
    seen = set()
    while writer.returncode is None:
        seen.add(method.prepare(settings).source.digests["tokenizer"])
    assert writer.returncode == 0 and seen <= expected


@pytest.mark.slow(seconds=5)
@pytest.mark.usefixtures("with_store")
def test_two_studies_of_one_name(workplace: Path) -> None:
    study = ("--methods", "pi0", "--n-models", 1, "--episodes", 2, "--executor", "serial", *SMALL)
    processes = [start(workplace, "pipeline", "ensemble", *study) for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 2], outputs
    assert sum("is running already in another process" in errors for _, errors in outputs) == 1
    kinds = [run.data.tags.get("kind") for run in runs_of(workplace)]
    assert kinds.count("study") == kinds.count("model") == 1


@pytest.mark.usefixtures("with_store")
def test_a_study_a_suite_and_a_search_have_names_of_their_own() -> None:
    client, kinds = open_store(), (Kind.STUDY, Kind.SUITE, Kind.SEARCH)
    for kind in kinds:
        mine = open_study(client, tag_of(kind, kind), "tinypi", kind)
        mine.end("FINISHED")
        for other in kinds:
            if other == kind:
                again = open_study(client, tag_of(kind, kind), "tinypi", kind)
                assert again.run_id == mine.run_id
                again.end("FINISHED")
                continue
            with pytest.raises(SettingsError, match=f"^{other}: expected a name of its own, found that a {kind} is "):
                open_study(client, tag_of(kind, other), "tinypi", other)
            open_study(client, tag_of(kind, other), f"{other} elsewhere", other).end("FINISHED")
