"""What all tasks share: nothing outside a task's folder knows it, and what does not fit together is refused."""

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from pipeline.cli.main import COMMANDS, main
from pipeline.cli.train import train_command
from pipeline.data.pairs import load_action_pairs, load_token_pairs
from pipeline.data.trajectories import load_trajectories
from pipeline.evaluation.control import draw_episodes, evaluate_planner
from pipeline.evaluation.stored import read_episodes, write_episodes
from pipeline.files import file_digest
from pipeline.methods.method import Plans
from pipeline.methods.settings import Pi0FastSettings, Pi0Settings
from pipeline.policies.checkpoint import load_checkpoint
from pipeline.tasks.facts import TaskFacts, facts_of, read_facts
from pipeline.tasks.project import DEFAULT, TASKS
from pipeline.tasks.registry import find_task
from pipeline.tasks.score import OF_PLANS, primary_of
from tests.conftest import ROOT

TRAIN = {"pi0": train_command("pi0", Pi0Settings), "pi0_fast": train_command("pi0_fast", Pi0FastSettings)}
OTHER = "avoiding"
OF_THE_PENDULUM = r"cart|carts|pole|pendulum|100 N|0\.04 s|ACTION_DIM|STATE_DIM|theta|omega|converge_steps?|PID"


def trained(method: str, *words: object) -> Path:
    """Train a tiny model, and return its file."""
    before = set(Path("train/trained_models").glob("*.pth"))
    small = ["--epochs", 1, "--layers", 1, "--width", 8, "--heads", 1, *words]
    assert main(TRAIN[method], list(map(str, small))) == 0
    (made,) = set(Path("train/trained_models").glob("*.pth")) - before
    return made


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(()),
        [],
        "reacher",
        {"name": "reacher"},
        {"name": 1, "digest": "", "observation": [], "action": []},
        {"name": "a\nb", "digest": "", "observation": [], "action": []},
        {"name": "a", "digest": "", "observation": "x", "action": []},
        {"name": "a", "digest": "", "observation": [["x"]], "action": []},
    ],
)
def test_what_tells_no_task_is_refused(values: object) -> None:
    with warnings.catch_warnings(), pytest.raises((KeyError, TypeError, ValueError)):
        warnings.simplefilter("error")
        read_facts(values)


def test_nothing_outside_a_tasks_folder_knows_it() -> None:
    names = "|".join(TASKS)
    for path in [*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "train").glob("*.py")]:
        if path.is_relative_to(ROOT / "pipeline" / "tasks"):
            continue
        text = re.sub(r"^EXAMPLES = \([^()]*\)$", "", path.read_text(), flags=re.M)  # of a command's help
        found = re.search(rf"\b({names}|{OF_THE_PENDULUM})\b", text)
        assert found is None, f"{path.relative_to(ROOT)}: {found}"
    for path in (ROOT / "pipeline" / "report" / "templates").iterdir():
        assert re.search(rf"\b({names}|{OF_THE_PENDULUM})\b", path.read_text()) is None, path.name


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_whole(name: str) -> None:
    task = find_task(name)
    assert task.name == name and task.description.endswith(".")
    assert re.fullmatch(r"\w+", name) and len({channel.name for channel in task.observation}) == task.state_dim
    primary = task.scores[primary_of(task.scores)]
    assert primary.better == 1 and sum(score.primary for score in task.scores.values()) == 1
    assert list(task.pair_steps) == sorted(set(task.pair_steps)) and task.pair_steps[0] == 0
    assert task.pair_steps[-1] + task.horizon <= task.demonstration_steps and task.longest_replan <= task.horizon
    assert np.isfinite(task.limits).all() and task.demonstrator and task.yardsticks and task.scene
    assert (ROOT / "docs" / "tasks" / f"{name}.md").exists()
    facts = facts_of(task)
    assert read_facts(json.loads(json.dumps(facts.values()))) == facts != TaskFacts()


@pytest.mark.parametrize("name", TASKS)
def test_every_episode_of_a_task_has_all_scores_and_can_be_drawn(name: str, tmp_path: Path) -> None:
    task = find_task(name)
    episodes = draw_episodes(task, task.conditions, 3, seed=0)

    def plan(states: np.ndarray, *_where: object) -> Plans:
        chunk = 0.2 * np.sin(np.arange(task.horizon))[:, None] * np.ones(task.action_dim)
        return Plans(np.tile(chunk, (len(states), 1, 1)).astype(np.float32))

    found = evaluate_planner(plan, episodes, 1)
    plain = {score for score in task.scores if score not in OF_PLANS}
    assert found.columns.keys() == plain
    for score in (task.primary, *(each for each in plain if task.scores[each].binary)):
        assert ((found.columns[score] >= 0) & (found.columns[score] <= 1)).all(), score
    write_episodes(tmp_path / "episodes.csv", task, found.by_condition())
    stored = read_episodes(tmp_path / "episodes.csv", 3, task)
    for score, column in stored.items():
        assert_array_equal(column, found.by_condition()[score])

    states, actions = task.world.simulate(
        lambda _step, states: np.zeros((len(states), task.action_dim)), episodes.starts[:1], episodes.noise[:1], 1
    )
    assert task.world.observe(states).shape[-1] == task.state_dim and task.scene is not None
    scene = task.scene(states[0], task.applied(actions, episodes.noise[:1])[0])
    assert scene.left < scene.right and scene.bottom < scene.top
    for shape in scene.shapes:
        assert shape.points.ndim == 3 and len(shape.points) in (1, task.episode_steps + 1) and shape.size >= 0
        assert np.isfinite(shape.points).all()


def test_data_and_models_of_another_task_are_refused(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(COMMANDS, ["collect", "--task", OTHER, "--trajectories", "30"]) == 0
    pairs = Path("data") / OTHER / "training_pairs_original.npz"
    assert load_action_pairs(pairs).task == facts_of(find_task(OTHER))
    assert main(COMMANDS, ["tokenize", "--task", OTHER]) == 0
    assert load_token_pairs(pairs.with_name("training_pairs_fast.npz")).task.name == OTHER
    theirs, ours = trained("pi0", "--task", OTHER), trained("pi0")
    assert theirs.name.startswith(f"tinypi0_{OTHER}_") and load_checkpoint(theirs).interface.task.name == OTHER
    assert load_checkpoint(ours).interface.task == facts_of(find_task(DEFAULT))

    capsys.readouterr()
    for words in (
        ["tokenize", "--pairs", pairs],
        ["evaluate", theirs],
        ["evaluate", ours, "--task", OTHER],
        ["compare", ours, theirs],
        ["play", theirs, "--out", "none"],
    ):
        assert main(COMMANDS, list(map(str, words))) == 2, words
        said = capsys.readouterr()
        assert not said.out and said.err.startswith("error: ") and said.err.count("\n") == 1
        assert re.search(r"expected one of the task '\w+', found one of '\w+'", said.err), said.err
    for method, words in (("pi0", ["--pairs", str(pairs)]), ("pi0", ["--task", OTHER, "--pairs", f"{DEFAULT}.npz"])):
        assert main(TRAIN[method], words) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main(COMMANDS, ["evaluate", str(theirs), "--task", OTHER, "--episodes", "2", "--json"]) == 0
    assert find_task(OTHER).primary in capsys.readouterr().out


@pytest.mark.parametrize("command", ["collect", "tokenize", "evaluate", "compare", "play", "ensemble", "report", "pi0"])
def test_an_unknown_task_is_refused(command: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"evaluate": ["--yardsticks"], "compare": ["a.pth", "b.pth"], "play": ["a.pth"]}.get(command, [])
    known = TRAIN.get(command, COMMANDS)
    words = [*([] if command in TRAIN else [command]), *more, "--task", "juggling"]
    assert main(known, words) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: task: expected ") and "found 'juggling'" in said.err
    assert said.err.count("\n") == 1 and not said.out
    assert sorted(path.name for path in workplace.iterdir()) == ["data"]


def test_another_horizon_has_data_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also longer than the demonstrations of the task: then these are longer."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    made = {}
    for horizon in (20, 60):
        assert main(COMMANDS, ["collect", "--trajectories", "30", "--horizon", str(horizon)]) == 0
        assert main(COMMANDS, ["tokenize", "--horizon", str(horizon)]) == 0
        folder = Path("data") / f"horizon_{horizon}"
        pairs = load_action_pairs(folder / "training_pairs_original.npz")
        assert pairs.action_chunk.shape == (30 * 25, horizon, 1)
        made[horizon] = load_trajectories(folder / "trajectories.npz"), pairs
        model = trained("pi0", "--horizon", horizon)
        assert load_checkpoint(model).interface.horizon == horizon
        assert load_checkpoint(trained("pi0_fast", "--horizon", horizon)).interface.horizon == horizon
        assert main(COMMANDS, ["evaluate", str(model), "--episodes", "1"]) == 0
    (own, of_short), (longer, of_long) = made[20], made[60]
    assert longer.states.shape == (30, 108, 4), "the same demonstrations, that go on"
    assert_array_equal(longer.states[:, :100], own.states)
    assert_array_equal(longer.actions[:, :100], own.actions)
    digest = file_digest(Path("data/horizon_20/trajectories.npz"))
    assert of_short.metadata["trajectories_sha256"] == of_long.metadata["begin_as_sha256"] == digest
    assert of_long.metadata["trajectories_sha256"] == file_digest(Path("data/horizon_60/trajectories.npz")) != digest

    capsys.readouterr()
    before = {path: path.read_bytes() for path in Path("data").rglob("*.*")}
    words = ["--horizon", "20", "--pairs", "data/horizon_60/training_pairs_original.npz"]
    for known, command in ((TRAIN["pi0"], words), (COMMANDS, ["tokenize", *words])):
        assert main(known, command) == 2
        said = capsys.readouterr().err
        assert "expected chunks of 20 actions, for the task 'pendulum', found 60. Name" in said
    assert {path: path.read_bytes() for path in Path("data").rglob("*.*")} == before


@pytest.mark.parametrize("command", ["collect", "tokenize", "ensemble", "pi0"])
def test_a_horizon_below_the_longest_replan_interval_is_refused(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--horizon", "14"]
    assert main(TRAIN[command], words) == 2 if command in TRAIN else main(COMMANDS, [command, *words]) == 2
    said = capsys.readouterr()
    expected = "chunks of at least 15 actions, the longest replan interval of the task 'pendulum', found 14"
    assert (said.out, said.err) == ("", f"error: horizon: expected {expected}. See --help.\n")
    assert not list(tmp_path.iterdir())
