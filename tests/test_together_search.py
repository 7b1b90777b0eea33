"""A search that trains models together: one stack for what can be one, the same trials however it was interrupted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from mlflow.entities import Run as MlflowRun

from pipeline.cli.main import COMMANDS, EXIT_INTERRUPTED, main
from pipeline.errors import ResumeError, RunError
from pipeline.executors.jobs import Job
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import RegressionSettings
from pipeline.report.search import COMPLETE, FAILED
from pipeline.stages import train, train_together
from pipeline.stages.account import Training
from pipeline.stages.finish import Trained
from pipeline.stages.unfinished import find_unfinished
from pipeline.studies import search_rounds
from pipeline.studies.jobs import with_files
from pipeline.tracking.journal import journal_of
from pipeline.training.fit import Epoch
from tests.conftest import put_store, runs_of

SPACE = """
regression:
  lr: {low: 0.001, high: 0.02, log: true}
  weight_decay: {low: 0.001, high: 0.1, log: true}
  far_weight: {low: 0.05, high: 1.0}
"""
WORDS = ["--space", "space.yaml", "--set", "epochs=2,width=8,layers=1,batch_size=512", "--episodes", "1",
         "--executor", "serial", "--trials", "2", "--seeds-per-trial", "2", "--methods", "regression"]  # fmt: skip

pytestmark = pytest.mark.xdist_group("search together")


def search(*words: object) -> int:
    return main(COMMANDS, ["search", *WORDS, "--together", "yes", *map(str, words)])


def of_kind(kind: str) -> list[MlflowRun]:
    return [run for run in runs_of(Path.cwd()) if run.data.tags.get("kind") == kind]


def outcomes() -> dict[str, tuple[Any, ...]]:
    """What is true of each trial, without times and ids."""
    found = {}
    for run in of_kind("trial"):
        told, group = json.loads(run.data.tags["outcome"]), run.data.tags["group"]
        models = [each for each in of_kind("model") if each.data.tags["group"] == group]
        weights = {each.data.params["seed"]: each.data.tags["weights_sha256"] for each in models}
        assert len(weights) == len(models) and {each.info.status for each in models} == {"FINISHED"}
        found[group] = (run.data.tags["tried"], told["state"], told["scores"], weights)
    return found


@pytest.fixture
def place(workplace: Path) -> Path:
    put_store(workplace)
    Path("space.yaml").write_text(SPACE)
    return workplace


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search of two trials with two seeds each."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "data").symlink_to(data)
    put_store(folder)
    (folder / "space.yaml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert search() == 0
    return folder


@pytest.fixture
def in_undisturbed(undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(undisturbed)
    yield undisturbed


@pytest.mark.slow(seconds=8)
@pytest.mark.usefixtures("in_undisturbed")
def test_the_trials_of_a_round_are_one_stack() -> None:
    models = of_kind("model")
    assert len(models) == 4 and {run.info.status for run in runs_of(Path.cwd())} == {"FINISHED"}
    assert {run.data.tags["together"] for run in models} == {"2"}  # two trials, one seed of each
    for name in ("lr", "weight_decay", "far_weight"):
        assert len({run.data.params[name] for run in models}) == 2, f"each trial has its own {name}"
    trials = {run.info.run_id: run.data.tags["group"] for run in of_kind("trial")}
    assert {run.info.run_id: run.data.tags["group"] for run in models} == {
        run.info.run_id: trials[run.data.tags["mlflow.parentRunId"]] for run in models
    }
    for _, state, scores, weights in outcomes().values():
        assert state == COMPLETE and len(scores) == 2 and set(weights) == {"1000000", "1000001"}
    assert "Trained together: regression." in Path("train/reports/search/search.md").read_text()


@pytest.mark.usefixtures("in_undisturbed")
def test_alone_and_together_are_not_mixed(capsys: pytest.CaptureFixture[str]) -> None:
    def refused(setting: str) -> str:
        assert search("--together", setting) == 2
        errors = capsys.readouterr().err
        assert errors.count("\n") == 1
        return errors

    for setting in ("no", "auto"):  # on a CPU
        assert "'search' has training of regression together, and alone is asked for" in refused(setting)
    assert "or use --together yes." in refused("no")
    (plan,) = Path("mlruns").rglob("plan.json")
    before = plan.read_text()
    terms = {name: term for name, term in json.loads(before).items() if not name.startswith("training of ")}
    try:
        plan.write_text(json.dumps(terms))  # as of before searches knew another way
        assert "has training of regression alone, and together is asked for" in refused("yes")
    finally:
        plan.write_text(before)
    assert search() == 0 and "done in" not in capsys.readouterr().out


@pytest.mark.slow(seconds=6)
def test_an_interrupted_search_ends_with_the_trials_of_an_undisturbed_one(
    place: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is interrupted in the stack of the second seeds, after an epoch."""
    moments = [1_000_001]

    def record(under_way: train.UnderWay, event: Any) -> None:
        seed = under_way.training.settings.seed
        if isinstance(event, Epoch) and event.epoch == 2 and seed in moments:
            moments.remove(seed)
            raise KeyboardInterrupt
        train.record(under_way, event)

    monkeypatch.setattr("pipeline.stages.train_together.record", record)
    monkeypatch.setattr("pipeline.training.together.STEP_EVENTS", 1)
    assert [search(), search()] == [EXIT_INTERRUPTED, 0]
    resumed = {(run.data.params["seed"], run.data.tags.get("resumed")) for run in of_kind("model")}
    assert resumed == {("1000000", None), ("1000001", "1")}
    assert {run.data.tags["together"] for run in of_kind("model")} == {"2"}
    found = outcomes()
    monkeypatch.chdir(undisturbed)
    assert found == outcomes()


@pytest.mark.slow(seconds=4)
@pytest.mark.usefixtures("place")
def test_a_trial_fails_by_its_own_settings_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """A weight decay of 10 at a rate of 1 multiplies all weights by -9 at each step; the original has another width."""
    space = "&both {lr: {choices: [0.01, 1]}, arch: {choices: [small, original]}}"
    Path("space.yaml").write_text(f"regression: {space}\npi0: *both\n")
    fixed = "epochs=1,width=8,layers=1,batch_size=40,weight_decay=10,schedule=constant,warmup=0"
    words = ["--methods", "regression,pi0", "--sampler", "grid", "--trials", 4, "--parallel", 4, "--seeds-per-trial", 1]
    words += ["--set", fixed]
    assert search(*words) == 0
    printed = capsys.readouterr().out
    assert printed.count("in a stack of 2: done in") == 4, "two of each method"
    reasons: dict[tuple[str, float], list[str]] = {}
    for run in of_kind("trial"):
        tried, told = json.loads(run.data.tags["tried"]), json.loads(run.data.tags["outcome"])
        assert told["state"] == (FAILED if told["reason"] else COMPLETE)
        reasons.setdefault((tried["arch"], tried["lr"]), []).append(told["reason"])
    assert reasons["small", 0.01] == ["", ""]
    assert all("expected a finite loss and gradient" in reason for reason in reasons["small", 1])
    for lr in (0.01, 1):
        assert all("width: expected its default with arch 'original'" in reason for reason in reasons["original", lr])
    models = sorted((run.info.status, run.data.tags["together"]) for run in of_kind("model"))
    assert models == [("FAILED", "2")] * 2 + [("FINISHED", "2")] * 2
    assert search(*words) == 0 and "done in" not in capsys.readouterr().out


@pytest.mark.slow(seconds=3)
@pytest.mark.usefixtures("place")
def test_why_settings_make_no_model_is_kept_where_others_of_the_stack_fail_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As above, a rate of 1 diverges; of the other training no file can be written."""
    Path("space.yaml").write_text("regression: {lr: {choices: [0.01, 1]}}")
    full, finish = [True], train_together.finish

    def fail_to_finish(training: Training) -> Trained:
        if full:
            raise RunError("the disk is full")
        return finish(training)

    monkeypatch.setattr(train_together, "finish", fail_to_finish)
    fixed = "epochs=1,width=8,layers=1,batch_size=40,weight_decay=10,schedule=constant,warmup=0"
    words = ["--sampler", "grid", "--seeds-per-trial", 1, "--set", fixed]
    assert search(*words) == 1
    printed = "".join(capsys.readouterr())
    assert "in a stack of 2: done in" in printed and "the disk is full. Run the same command again" in printed
    reasons = {json.loads(run.data.tags["tried"])["lr"]: run.data.tags.get("reason", "") for run in of_kind("trial")}
    assert reasons[0.01] == "" and "expected a finite loss and gradient" in reasons[1]
    full.clear()
    assert search(*words) == 0
    models = [(run.data.params["lr"], run.info.status) for run in of_kind("model")]
    assert sorted(models) == [("0.01", "FINISHED"), ("1.0", "FAILED")], "each was begun once"


@pytest.mark.usefixtures("place")
def test_that_somebody_works_on_a_run_says_nothing_about_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    other = journal_of("a" * 32)
    assert other.make({"method": "regression"})
    settings = RegressionSettings(resume="a" * 32)
    with pytest.raises(ResumeError, match="expected a run that nobody works on") as found:
        find_unfinished(METHODS["regression"], settings)

    def meet(*_: object) -> NoReturn:
        raise found.value

    with pytest.raises(ResumeError):
        search_rounds.attempt("a", meet, lambda _done: None)
    monkeypatch.setattr(search_rounds, "make_together", meet)
    with pytest.raises(ResumeError):
        search_rounds.attempt_together([], "0", lambda _done: None)


def test_a_stack_goes_on_with_what_its_members_left() -> None:
    left = {name: [Path(name)] for name in ("a", "b", "c", "stack")}
    jobs = [Job("stack", "x", str, makes=("a", "b", "new")), Job("c", "x", str)]
    assert [job.left for job in with_files(jobs, (), left)] == [(Path("a"), Path("b")), (Path("c"),)]
