"""A task without a simulator through training, study, report, export and registry: its plans are judged, no control."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.cli.main import COMMANDS, main
from pipeline.config import make
from pipeline.data.normalisation import Normalisation
from pipeline.data.pairs import load_action_pairs, save_action_pairs
from pipeline.data.split import split_pairs
from pipeline.errors import DataError, SettingsError
from pipeline.evaluation.held_out import count_held_out, evaluate_plans, hold_out
from pipeline.methods.method import Plans
from pipeline.policies.policy import Policy
from pipeline.report.suite import suite_text
from pipeline.results.gather import gather
from pipeline.results.suite import write_suite
from pipeline.stages.evaluate import evaluate
from pipeline.stages.settings import EvaluateSettings
from pipeline.studies.settings import SuiteSettings
from pipeline.studies.suite import plan_studies
from pipeline.tasks.facts import facts_of
from pipeline.tasks.registry import find_task
from tests.arm import ARM, HORIZON, make_arm
from tests.conftest import put_store, runs_of, store

PAIRS = Path("data/arm/training_pairs_original.npz")
STUDY = "ensemble --task arm --study armed --n-models 2 --methods pi0,pi0_fast --executor serial"
SMALL = "--epochs 1 --width 16 --layers 1"


def call(words: list[str]) -> int:
    """Run a command in this process; its exit code."""
    return main(COMMANDS, words)


@pytest.fixture
def arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_arm()
    return tmp_path


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set and a finished study of it."""
    folder = tmp_path_factory.mktemp("armed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_arm()
        put_store(folder)
        assert call([*STUDY.split(), *SMALL.split()]) == 0
    return folder


def policy_of(plans: np.ndarray, noise: bool = False, rebuilt: float | None = None) -> Policy:
    """A policy that plans the state's first number everywhere, plus `plans (H, A)`, and maybe noise."""

    def act(states: np.ndarray, draw: object) -> Plans:
        drawn = draw((len(states), *plans.shape)).numpy() if noise else 0
        return Plans((plans + drawn + 0 * states[:, :1, None]).astype(np.float32))

    return Policy(
        name="mine", method="pi0", task=facts_of(find_task("arm")), state_dim=6, horizon=len(plans), action_dim=2,
        _act=act, rebuild=None if rebuilt is None else lambda chunks: chunks + np.float32(rebuilt),
    )  # fmt: skip


def test_scores_of_plans_are_as_defined(arm: Path) -> None:
    pairs = load_action_pairs(PAIRS)
    split = split_pairs(pairs.trajectory, len(pairs.state))
    assert pairs.trajectory is not None and count_held_out(PAIRS, pairs) == 4
    task = find_task("arm")
    plans = np.tile(np.array([0.3, -2.0]), (HORIZON, 1))
    evaluation, errors = evaluate_plans(policy_of(plans, rebuilt=0.25), hold_out(task, PAIRS, 100), 0)
    std = Normalisation.of(pairs.action_chunk[split.train]).std.astype(np.float64)
    of_episode = []
    for episode in np.unique(pairs.trajectory[split.test]):
        chunks = pairs.action_chunk[pairs.trajectory == episode]
        of_episode.append(np.abs(plans - chunks) / std)
    assert [condition.replan for condition in evaluation.conditions] == [2, 5, 10]
    for number, steps in enumerate((2, 5, 10)):
        found = {name: column[number] for name, column in evaluation.by_condition().items()}
        assert_allclose(found["plan_error"], [each[:, :steps].mean() for each in of_episode], rtol=1e-5)
        assert_allclose(
            found["agreement"], [(1 - each[:, :steps].clip(max=1)).mean() for each in of_episode], rtol=1e-5
        )
        assert_allclose(found["reconstruction"], (0.25 / std).mean(), rtol=1e-4)
        # The agreement is the share within t deviations, on average over t.
        shares = np.mean([(each[:, :steps] <= t).mean() for t in np.linspace(0, 1, 2001) for each in of_episode[:1]])
        assert found["agreement"][0] == pytest.approx(shares, abs=2e-3)
    rows = np.concatenate(
        [np.flatnonzero(pairs.trajectory == each) for each in np.unique(pairs.trajectory[split.test])]
    )
    assert_allclose(errors.mae_by, np.abs(plans - pairs.action_chunk[rows]).mean(0), rtol=1e-5)  # in units of the data
    assert errors.rebuilt_mae_by is not None
    assert_allclose(errors.rebuilt_mae_by, 0.25, rtol=1e-4)


def test_a_perfect_plan_agrees_and_a_far_one_does_not(arm: Path) -> None:
    task = find_task("arm")
    held_out = hold_out(task, PAIRS, 2)
    assert set(held_out.episode) == {0, 1}
    still = replace(held_out, chunks=np.zeros_like(held_out.chunks))
    for plan, agreement in ((0.0, 1.0), (1e6, 0.0)):
        evaluation, _ = evaluate_plans(policy_of(np.full((HORIZON, 2), plan)), still, 0)
        assert_array_equal(evaluation.columns["agreement"], agreement)
        assert "reconstruction" not in evaluation.columns


def test_noise_depends_on_the_seed_and_not_on_the_other_episodes(arm: Path) -> None:
    task, policy = find_task("arm"), policy_of(np.zeros((HORIZON, 2)), noise=True)
    whole, few = hold_out(task, PAIRS, 4), hold_out(task, PAIRS, 1)
    scores, again, other = (evaluate_plans(policy, whole, seed)[0].by_condition() for seed in (0, 0, 1))
    alone = evaluate_plans(policy, few, 0)[0].by_condition()
    assert_array_equal(scores["plan_error"], again["plan_error"])
    assert (scores["plan_error"] != other["plan_error"]).all()
    assert_array_equal(scores["plan_error"][:, :1], alone["plan_error"])


def test_data_that_cannot_be_held_out(arm: Path) -> None:
    task, pairs = find_task("arm"), load_action_pairs(PAIRS)
    save_action_pairs(Path("flat.npz"), replace(pairs, trajectory=None))
    with pytest.raises(DataError, match=r"flat\.npz: has no key 'trajectory', so no episodes can be held out"):
        hold_out(task, Path("flat.npz"), 4)
    make_arm(12, replace(ARM, name="leg", task="leg"))
    with pytest.raises(DataError, match="expected one of the task 'arm', found one of 'leg'"):
        hold_out(task, Path("data/leg/training_pairs_original.npz"), 4)
    with pytest.raises(DataError, match=r"expected an \.npz file, found none"):
        evaluate(make(EvaluateSettings, {"task": "arm", "run": ["0" * 32], "pairs": "none.npz"}), lambda _event: None)


@pytest.mark.slow(seconds=15)
@pytest.mark.xdist_group("armed")
def test_a_study_says_what_was_judged(
    studied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(studied)
    models = [run for run in runs_of(studied) if run.data.tags.get("kind") == "model"]
    assert len(models) == 4 and {run.data.tags["task"] for run in models} == {"arm"}
    for run in models:
        metrics = run.data.metrics
        assert not any(name.startswith(("check_", "chunk_")) for name in metrics)
        assert 0 <= metrics["agreement/mean"] <= 1 and metrics["plan_mae/1 grip"] > metrics["plan_mae/0 shoulder _t_"]
        assert ("tokenizer_mae/1 grip" in metrics) == (run.data.tags["method"] == "pi0_fast")
        assert math.isfinite(metrics["test_loss_at_best_val"]) and run.data.tags["evaluation_episodes"] == "4"
    study = next(run for run in runs_of(studied) if run.data.tags.get("kind") == "study")
    assert "No control was judged: the task has no simulator." in study.data.tags["mlflow.note.content"]
    assert study.data.tags["design.conditions"] == "noise0_replan2, noise0_replan5, noise0_replan10"
    assert call(["report", "--study", "armed", "--html", "--out", "rep"]) == 0
    told = capsys.readouterr().out
    assert "No control was judged" in told and "in agreement" in told
    page, text = Path("rep/report.html").read_text(), Path("rep/report.md").read_text()
    for each in (page, text):
        assert "No control was judged" in each and "shoulder $torque$, N m" in each and "tokenizer alone" in each
        assert "first actions" in each and "noise, replan" not in each and "No real machine" not in each
    assert Path("rep/errors.png").is_file() and Path("rep/plans.png").is_file() and not Path("rep/paths.png").exists()
    values = json.loads(Path("rep/report.json").read_text())
    assert values["judged"] == "plans" and "tokenizer_mae/0 shoulder _t_" in values["groups"][1]["errors"]


@pytest.mark.xdist_group("armed")
def test_models_are_registered_with_a_card_and_named_channels(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(studied)
    client = store(studied)
    version = client.get_model_version_by_alias("arm-pi0", "best-armed")
    assert "never tested in control" in version.description and "chosen by validation loss" in version.description
    assert "joint 0, rad" in version.description and "grip, mm" in version.description
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{studied}/mlruns/mlflow.db")
    monkeypatch.setattr(sys, "path", [*sys.path])  # it puts the model's own code there
    model = mlflow.pyfunc.load_model(f"models:/{version.name}/{version.version}")
    names = [channel.name for channel in ARM.observation]
    assert model.metadata.metadata["state"] == names
    rows = np.random.default_rng(0).normal(size=(3, 6))
    shuffled = pd.DataFrame(rows, columns=names)[names[::-1]]
    assert_array_equal(model.predict(shuffled), model.predict(rows))


@pytest.mark.xdist_group("armed")
def test_evaluate_export_and_what_needs_a_simulator(
    studied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(studied)
    model = str(next(Path("train/trained_models").glob("tinypi0fast_arm*.pth")))
    assert call(["evaluate", "--task", "arm", model]) == 0
    out = capsys.readouterr().out
    assert "grip, mm" in out and "tokenizer alone" in out and "No control was judged" in out and "first actions" in out
    assert call(["evaluate", "--task", "arm", model, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    found = values["models"][0]["plan_against_expert"]
    assert (
        values["judged"] == "plans"
        and values["episodes"] == 4
        and np.shape(found["mae_by_step_and_action"]) == (HORIZON, 2)
    )
    assert call(["export", model]) == 0
    capsys.readouterr()
    for words, why in (
        (f"play {model} --task arm", "no episode can be played"),
        (f"compare {model} {model} --task arm", "two policies cannot meet on new episodes"),
        ("promote --task arm --study armed", "no champion can be chosen by control"),
        (f"evaluate {model} --task arm --yardsticks", "it has no yardsticks"),
        (f"evaluate {model} --task arm --policy http://127.0.0.1:9", "what somebody else's policy was trained on"),
    ):
        assert call(words.split()) == 2
        error = capsys.readouterr().err
        assert why in error and "which has none" in error and error.count("\n") == 1
    assert call(["collect", "--task", "arm"]) == 2
    assert "has no demonstrator, so its data are imported" in capsys.readouterr().err
    make_arm(45)  # other data: the test split is another
    assert call(["evaluate", "--task", "arm", model]) == 2
    assert "it may know these episodes" in capsys.readouterr().err
    assert call(["evaluate", "--task", "arm", "--study", "armed"]) == 2
    assert "whose test split judges it" in capsys.readouterr().err
    make_arm()


def test_a_users_own_file_without_a_world(arm: Path) -> None:
    Path("mine.py").write_text(
        "from pipeline.tasks.task import Channel, Task\n"
        "LEG = Task(name='leg', description='A leg.', observation=(Channel('a', 'a', ''),),\n"
        "           action=(Channel('b', 'b', ''),), control_seconds=0.1, horizon=20)\n"
    )
    task = find_task("mine.py:LEG")
    assert task.world is None and task.primary == "agreement" and task.longest_replan == 20
    with pytest.raises(SettingsError, match="expected one with a simulator, found 'leg'"):
        _ = task.simulator


@pytest.mark.xdist_group("armed")
def test_a_suite_says_which_task_has_no_simulator(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(studied)
    comparison = gather(store(studied), "armed").comparison
    (path, *_) = write_suite("mine", {"arm": comparison}, Path("suite"))
    assert "Note, arm: No control was judged" in path.read_text() and "No control was judged" in suite_text(
        {"arm": comparison}
    )
    studies = plan_studies(make(SuiteSettings, {"tasks": "arm,reacher"}))
    assert studies["arm"].task == "arm" and studies["arm"].study == "suite-arm"
