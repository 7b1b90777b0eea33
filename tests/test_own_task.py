"""A user's own task: the page's code runs as it stands there, and what is wrong with a task is said in one line."""

import json
import os
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from numpy.testing import assert_array_equal

from pipeline.cli.main import COMMANDS, main
from pipeline.cli.train import train_command
from pipeline.data.pairs import load_action_pairs
from pipeline.data.trajectories import load_trajectories
from pipeline.errors import RunError, SettingsError
from pipeline.evaluation.control import draw_episodes, evaluate_planner
from pipeline.evaluation.yardsticks import evaluate_yardstick
from pipeline.methods.method import Plans
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import Pi0Settings
from pipeline.stages.collect import demonstrate
from pipeline.stages.settings import CollectSettings
from pipeline.stages.unfinished import find_unfinished
from pipeline.streams import numpy_stream
from pipeline.tasks import gymnasium_world
from pipeline.tasks.check import check_task
from pipeline.tasks.gymnasium_world import OVER, REWARD, SUCCESS, gymnasium_task
from pipeline.tasks.project import TASKS
from pipeline.tasks.registry import find_task
from pipeline.tasks.simulation import mujoco_world
from pipeline.tasks.task import Condition, Task
from pipeline.tracking.journal import journal_of
from tests import warm
from tests.conftest import ROOT, environment, mlflow_run, put_store

PAGE = (ROOT / "docs" / "how-to" / "own_task.md").read_text()
FILES = dict(re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
SWING, SLIDE = "swing.py:SWING", "slide.py:SLIDE"
TINY = ("--epochs", "1", "--layers", "1", "--width", "8", "--heads", "1")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder outside the project with the page's files."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(folder: Path, *words: str) -> str:
    done = warm.run(folder, ["-m", *words], environment())
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return done.stdout


def test_the_files_are_of_the_length_that_the_page_promises() -> None:
    assert list(FILES) == ["swing.py", "slide.py"]
    assert all(60 <= text.count("\n") <= 100 for text in FILES.values())


@pytest.mark.slow(seconds=12)
def test_the_task_of_gymnasium_through_a_study(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a pool of processes, each of which finds the task by its reference."""
    put_store(own)
    task = "--task", SWING
    assert "40 of the task swing" in call(own, "pipeline", "collect", *task, "--trajectories", "40")
    small = "--n-models", "1", "--episodes", "3", "--epochs", "1", "--layers", "1", "--set", "width=8,heads=1"
    told = call(own, "pipeline", "ensemble", *task, "--study", "swing", *small)
    assert "5 jobs run, 0 models reused, 0 failed" in told
    assert "Verdict by upright" in (own / "train/reports/swing/report.md").read_text()

    assert main(COMMANDS, ["report", "--study", "swing"]) == 2
    refusal = capsys.readouterr().err
    assert refusal.count("\n") == 1 and "found runs of 'swing'" in refusal and "--task path/to/file.py:NAME" in refusal
    assert main(COMMANDS, ["report", "--study", "swing", *task]) == 0
    assert "demonstrator" in capsys.readouterr().out
    (model,) = map(str, (own / "train/trained_models").glob("tinypi0_swing_*.pth"))
    assert main(COMMANDS, ["evaluate", model, *task, "--episodes", "2", "--yardsticks", "--json"]) == 0
    names = [each["name"] for each in json.loads(capsys.readouterr().out)["models"]]
    assert names == [Path(model).stem, "demonstrator", "zero action"]


@pytest.mark.slow(seconds=10)
def test_the_task_of_a_model_through_both_trainings(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In `mlflow run` a relative path starts from the project's folder, as of every other parameter."""
    (own / "project" / "mine").mkdir(parents=True)
    (own / "slide.py").rename(own / "project" / "mine" / "slide.py")
    (own / "data").mkdir()
    mlflow_run(own, "-e", "collect", "-P", "task=mine/slide.py:SLIDE", "-P", "trajectories=40")
    task = "--task", "project/mine/slide.py:SLIDE"
    for script in ("train.train_pi0", "train.train_pi0_fast"):
        assert "a first check" in call(own, script, *task, *TINY)
    models = sorted(map(str, (own / "train/trained_models").glob("*.pth")))
    assert ["tinypi0_slide_" in models[0], "tinypi0fast_slide_" in models[1]] == [True, True]
    assert main(COMMANDS, ["play", models[1], *task, "--lockstep", "--out", "slide.gif"]) == 0
    assert "\nslide  " in capsys.readouterr().out and (own / "slide.gif").stat().st_size > 10_000
    assert main(COMMANDS, ["evaluate", models[0], *task, "--episodes", "2", "--yardsticks", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["models"]) > 1
    assert main(COMMANDS, ["report", *task]) == 0
    assert "pi0_fast" in capsys.readouterr().out
    assert main(COMMANDS, ["evaluate", *models]) == 2
    assert "expected one of the task 'pendulum', found one of 'slide'" in capsys.readouterr().err


def test_a_file_that_no_data_set_can_name_is_refused_before_anything_is_simulated(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own / "swing.py").rename(own / "swi\tng.py")
    assert main(COMMANDS, ["collect", "--task", "swi\tng.py:SWING"]) == 2
    errors = capsys.readouterr().err
    assert "data set 'swing': expected what dataset.json can hold, found a source that is not one line" in errors
    assert errors.count("\n") == 1 and not [*own.rglob("*.npz")]


@pytest.mark.parametrize("name", TASKS)
def test_the_projects_tasks_pass_the_check(name: str) -> None:
    check_task(find_task(name))


def refused(capsys: pytest.CaptureFixture[str], reference: str) -> str:
    """The one line by which a command refuses a task; nothing is written."""
    before = sorted(Path.cwd().rglob("*"))
    assert main(COMMANDS, ["collect", "--task", reference, "--trajectories", "2"]) == 2
    said = capsys.readouterr()
    assert not said.out and said.err.startswith("error: ") and said.err.count("\n") == 1 and len(said.err) < 700
    assert sorted(Path.cwd().rglob("*")) == before
    return said.err


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("juggling", "task: expected one of pendulum, "),
        ("slide.py", "or your own as path/to/file.py:NAME or package.module:NAME, found 'slide.py'"),
        ("slide.py:", "or your own as"),
        (":SLIDE", "or your own as"),
        ("nowhere.py:SLIDE", "nowhere.py, found none"),
        ("nowhere:SLIDE", "nowhere does not import: ModuleNotFoundError: No module named 'nowhere'"),
        ("slide.py:GLIDE", "expected a Task called 'GLIDE' in "),
        ("slide.py:GLIDE", "found nothing of that name; its tasks are SLIDE."),
        ("slide.py:STARTS", "found ndarray of that name"),
        (".py:SLIDE", "found none"),
    ],
)
def test_a_reference_that_leads_nowhere(
    reference: str, message: str, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, reference)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "import numpy",
            "import nonesuch, numpy",
            "line 3 does not import: ModuleNotFoundError: No module named 'none",
        ),
        ("NEAR, LAST =", "NEAR, LAST ==", "line 22 does not import: NameError"),
        ("def score(", "def score(:", "does not import: SyntaxError: invalid syntax (slide.py, line 35)"),
        ("    score=score,\n", "", "score: expected a function that gives the columns of own_scores, found none."),
        ("    scene=scene,", "    scenes=scene,", "unexpected keyword argument 'scenes'"),
        ("import numpy", "raise SystemExit(0)\nimport numpy", "line 3 does not import: SystemExit: 0"),
    ],
)
def test_a_file_that_does_not_import(
    old: str, new: str, message: str, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in FILES["slide.py"]
    (own / "slide.py").write_text(FILES["slide.py"].replace(old, new, 1))
    assert message in refused(capsys, SLIDE)


WORLD_FAULTS = [
    (
        "draw_starts=lambda g, n: g.uniform(-1, 1, n)",
        "draw_starts: expected an array of the shape (3, any), found (3,)",
    ),
    ("draw_starts=lambda g, n: np.full((n, 4), np.nan)", "draw_starts: expected finite numbers, found NaN"),
    ("draw_starts=lambda g, n: g.uniform(-1, 1, (4, n)).T", "draw_starts: expected the same first starts"),
    ("draw_starts=lambda g, n: np.random.uniform(-1, 1, (n, 4))", "draw_starts: expected the same first starts"),
    ("draw_starts=lambda g, n: g.uniform(-1, 1, (n, 3))", "world.simulate: ValueError: "),
    ("draw_starts=None", "draw_starts: TypeError: 'NoneType' object is not callable"),
    ("observe=lambda s: s", "world.observe: expected an array of the shape (3, 101, 3), found (3, 101, 4)"),
    ("observe=lambda s: s[..., :3] if s.ndim > 2 else s[..., :2]", "observe: expected an array of the shape (3, 3)"),
    ("observe=lambda s: s[..., :3] + s.shape[0] * s.ndim", "observe: expected the same of a state alone"),
    ("observe=lambda s: s[..., :3] * np.nan", "observe: expected finite numbers up to the end, found NaN"),
    ("observe=lambda s: list(s[..., :3])", "observe: expected an array of the shape (3, 101, 3), found list"),
    ("ended=lambda s: s[..., 0]", "ended: expected True and False, found float64"),
    ("ended=lambda s: s.any(-1)", "ended: expected no episode to begin at its end"),
    ("ended=lambda s: np.array(False)", "ended: expected an array of the shape (3, 101), found ()"),
    (
        "simulate=lambda c, s, n, t: WORLD.simulate(c, s, n, t)[0]",
        "simulate: expected (states, actions), found ndarray",
    ),
    ("simulate=lambda c, s, n, t: WORLD.simulate(c, s, 0 * n, t)", "simulate: expected the same states of an episode"),
    ("simulate=lambda c, s, n, t: (lambda x, a: (x, a + n + 1))(*WORLD.simulate(c, s, n, t))", "without noise"),
    (
        "simulate=lambda c, s, n, t: (lambda x, a: (x * np.nan, a))(*WORLD.simulate(c, s, n, t)), "
        "ended=lambda s: s[..., 0] > 9",
        "world.simulate: expected finite states up to the end, found NaN",
    ),
    (
        "simulate=lambda c, s, n, t: WORLD.simulate(c, s, n[:, 1:], t)",
        "simulate: expected an array of the shape (3, 101",
    ),
    ("source='text'", "world.source: expected bytes, found str"),
    ("most=0", "world.most: expected a whole number, 1 or more, found 0"),
]
DEMONSTRATOR_FAULTS = [
    ("draw_variation=lambda g, n: g.uniform(0, 1, n)", "draw_variation: expected an array of the shape (3, any)"),
    (
        "controller=lambda v, s: lambda step, x: x[:, 0]",
        "demonstrator.controller: expected an array of the shape (3, 1)",
    ),
    ("controller=lambda v, s: lambda step, x: x[:, :1] / 0 * 0", "demonstrator.controller: expected finite numbers"),
    ("controller=lambda v, s: lambda step, x: x[:, 7:8]", "demonstrator.controller: expected an array of the shape"),
    ("controller=lambda v, s: 1 / 0", "demonstrator.controller: ZeroDivisionError: division by zero"),
    ("find_faults=lambda s, a: s[:, 0, 0] > 0", "find_faults: expected a table of faults, found ndarray"),
    ("find_faults=lambda s, a: {'late': s[:, 0] > 0}", "find_faults: late: expected an array of the shape (3)"),
    ("action_noise=-1.0", "demonstrator.action_noise: expected 0 or more, found -1.0"),
]
WAYS = "decisions=(('left', 'right'),), entropy=1.0, taken={0}, planned={1}, path=lambda s: s[..., :2]"
SIDE = "lambda s, *_: np.zeros((len(s), 1), int)"
OF_TASK = [
    ("name='slide to'", "task 'slide to': name: expected letters, digits and _, found slide to"),
    ("name='pendulum'", "name: expected another than the project's pendulum, "),
    ("name=None", "name: expected letters"),
    ("observation=SLIDE.observation[:2]", "observe: expected an array of the shape (3, 101, 2), found (3, 101, 3)"),
    ("observation=()", "observation: expected one or more of Channel, found ()"),
    ("observation=('x', 'goal', 'v')", "observation: expected one or more of Channel"),
    ("observation=SLIDE.observation[:1] * 3", "observation: expected different short names"),
    ("action=SLIDE.action * 2", "action: expected different short names"),
    ("action=(Channel('a', 'a', '', 1.0), Channel('b', 'b', '', 1.0))", "world.simulate: ValueError: "),
    ("action=(Channel('force', 'force', '', -1.0),)", "action: expected limits above 0, or None, found [-1.0]"),
    ("control_seconds=0", "control_seconds: expected seconds above 0"),
    ("control_seconds='fast'", "its fields: TypeError: "),
    ("episode_steps=9.5", "episode_steps: expected a whole number, 1 or more, found 9.5"),
    ("horizon=0", "horizon: expected a whole number"),
    ("horizon=9", "conditions: expected replan intervals within the horizon 9, found noise0.05_replan10"),
    ("conditions=()", "conditions: expected one or more of Condition"),
    ("conditions=(Condition(-0.1, 5),)", "conditions: expected noise of 0 or more"),
    ("conditions=(Condition(0.1, 0),)", "conditions: replan: expected a whole number, 1 or more, found 0"),
    ("conditions=SLIDE.conditions * 2", "conditions: expected different ones"),
    ("pair_steps=()", "pair_steps: expected increasing steps"),
    ("pair_steps=(0, 4, 4)", "pair_steps: expected increasing steps, 0 or more, found [0, 4, 4]"),
    ("pair_steps=(np.int64(0), 4)", "pair_steps: expected a whole number, 0 or more, found np.int64(0)"),
    ("action=(Channel('force', 'force', '', 0.5),)", "world.simulate: expected twice the limit of an action to act as"),
    ("pair_steps=(-1, 4)", "pair_steps: expected a whole number, 0 or more, found -1"),
    ("pair_steps=(0, 101)", "demonstration_steps: expected at least 151"),
    ("world=None", "conditions: expected no noise where there is no world, found some"),
    ("world=None, conditions=()", "world: expected a World, for episode_steps, pair_steps, demonstration_steps, dem"),
    ("world='mine'", "world: expected a World, or None for no simulator, found mine"),
    ("demonstrator='me'", "demonstrator: expected a Demonstrator, or None, found me"),
    ("demonstrator=None", "task: 'slide' has no demonstrator, so its data are imported, not collected. See"),
    ("own_scores={}", "own_scores: expected one or more of Score"),
    ("own_scores={'a b': Score('', '', '', 1, 1, primary=True)}", "own_scores: expected names of letters"),
    ("own_scores={'ways': Score('', '', '', 1, 1, primary=True)}", "own_scores: expected names of letters"),
    ("own_scores={'distance': SLIDE.own_scores['distance']}", "own_scores: expected one primary score, found none"),
    ("own_scores={'stopped': Score('', '', '', 1, -1, primary=True)}", "own_scores: stopped: expected better=+1"),
    ("score=lambda s, a: {'stopped': s[:, 0, 0]}", "score: expected the columns of own_scores, stopped, distance"),
    ("score=lambda s, a: {'stopped': 2.0 + 0 * s[:, 0, 0], 'distance': s[:, 0, 0]}", "a primary score in [0, 1]"),
    ("score=lambda s, a: {'stopped': 0 * s[:, 0], 'distance': s[:, 0]}", "stopped: expected an array of the shape (3)"),
    ("score=lambda s, a: {'stopped': 0 * s[:, 0, 0], 'distance': np.log(-1 - s[:, 0, 0] ** 2)}", "expected finite"),
    ("score=lambda s, a: {'stopped': s['x'], 'distance': s[:, 0, 0]}", "score: IndexError: only integers"),
    ("score=lambda s, a: {k: v / len(s) for k, v in score(s, a).items()}", "expected the same of an episode alone"),
    ("score=lambda s, a: None", "score: expected columns by name, found NoneType"),
    (f"ways=Ways({WAYS.format('lambda s: s', SIDE)})", "ways.taken: expected an array of the shape (3, 1)"),
    (f"ways=Ways({WAYS.format(SIDE + ' + 2', SIDE)})", "ways.taken: expected numbers of options, or -1"),
    (f"ways=Ways({WAYS.format(SIDE, SIDE + ' * 0.5')})", "ways.planned: expected numbers, found float64"),
    ("yardsticks={'none': Yardstick(lambda s: [])}", "yardsticks: none: expected one or more controllers, found 0"),
    ("yardsticks={'flat': Yardstick(lambda s: [lambda t, x: x[:, 0]])}", "flat: expected an array of the shape (3, 1)"),
    ("yardsticks={'two': Yardstick(lambda s: [print] * 2, planned=False)}", "two: expected one controller, found 2"),
    ("scene=lambda s, a: None", "scene: expected a Scene, found NoneType"),
    ("scene=lambda s, a: Scene((Shape('disc', 'goal', s[:, None], 1),), 0, 1, 0, 1)", "points: expected an array"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *OF_TASK,
        *((f"world=replace(WORLD, {change})", message) for change, message in WORLD_FAULTS),
        *((f"demonstrator=replace(SLIDE.demonstrator, {change})", message) for change, message in DEMONSTRATOR_FAULTS),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_a_task_that_is_wrong(change: str, message: str, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = "from dataclasses import replace\nfrom pipeline.tasks.task import Ways\n"
    (own / "slide.py").write_text(f"{FILES['slide.py']}\n{more}SLIDE = replace(SLIDE, {change})\n")
    assert message in refused(capsys, SLIDE)


def test_one_fault_is_told_of_a_task_in_gymnasium_too(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for old, new, message in (
        (
            '"Pendulum-v1"',
            '"Pendulum-v9"',
            "Pendulum-v9: expected an environment of Gymnasium, found none: Environment",
        ),
        ('"Pendulum-v1"', '"nonesuch:Pendulum-v1"', "found none: No module named 'nonesuch'."),
        ('"Pendulum-v1"', '"CartPole-v1"', "CartPole-v1: expected actions in a flat Box, found Discrete(2)."),
        ('"Pendulum-v1"', '"FrozenLake-v1"', "FrozenLake-v1: expected observations in a flat Box, found Discrete(16)."),
        ('"Pendulum-v1"', '"Pendulum-v1", {"wind": 1}', "got an unexpected keyword argument 'wind'"),
        ("    score=score,\n", "", "score: expected a function that gives the columns of own_scores, found none."),
        (
            ", planned=False),\n    },",
            "),\n    },",
            "zero action: expected planned=False, where a state cannot be a start",
        ),
        ('N m", TORQUE),)', 'N m", TORQUE),) * 2', "action: expected different short names"),
    ):
        assert old in FILES["swing.py"]
        (own / "other.py").write_text(FILES["swing.py"].replace(old, new))
        assert message in refused(capsys, "other.py:SWING"), new
        find_task.__globals__["_own_task"].cache_clear()


class Counter(gymnasium.Env[Any, Any]):
    """Counts steps from where its seed says; over, and a success, at `end`; what it asks for must be respected."""

    def __init__(self, end: int = 6, grows: bool = False, forgets: bool = True, picture: bool = False) -> None:
        self.observation_space = Box(-9, 9, (2, 2) if picture else (2,), np.float32)
        self.action_space = Box(np.float32([-1, 0]), np.float32([1, 3]))
        self.end, self.grows, self.forgets, self.episodes = end, grows, forgets, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.count, self.place, self.episodes = 0, self.np_random.uniform(-1, 1), self.episodes + 1
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action) and self.count < self.end
        self.count += 1
        self.place += float(action.sum()) + self.np_random.normal()
        done = self.count == self.end
        return self._observation(), float(action[0]), done, False, {"is_success": np.array([done])}

    def _observation(self) -> np.ndarray:
        place = self.place if self.forgets else self.place + self.episodes
        return np.array([self.count, place] + [0] * (self.grows and self.count > 2), np.float32)


for name, options in {
    "Counter": {}, "Long": {"end": 99}, "Growing": {"grows": True}, "Remembering": {"forgets": False},
    "Picture": {"picture": True},
}.items():  # fmt: skip
    gymnasium.register(f"tests/{name}-v0", Counter, max_episode_steps=8, kwargs=options)


COUNTER: dict[str, Any] = {
    "name": "counter", "description": "Counts.", "conditions": (Condition(0.5, 3), Condition(0.9, 2)),
    "control_seconds": 0.1, "horizon": 4,
}  # fmt: skip


def counter(name: str = "Counter", **more: Any) -> Task:
    return gymnasium_task(f"tests/{name}-v0", **(COUNTER | more))


def test_what_an_environment_tells_makes_a_task() -> None:
    task = counter()
    assert [channel.name for channel in (*task.observation, *task.action)] == ["o0", "o1", "a0", "a1"]
    assert task.limits.tolist() == [1, 3] and (task.episode_steps, task.pair_steps) == (8, tuple(range(8)))
    assert task.primary == "success" and task.demonstration_steps == 7 + 4
    assert counter(pair_steps=(0, 2)).demonstration_steps == 8, "an episode is demonstrated whole"
    assert task.digest != counter("Long").digest
    check_task(task)
    for name, message in (
        ("Growing", "tests/Growing-v0: expected observations of 2 numbers, found the shape (3,)"),
        ("Remembering", "world.simulate: expected the same states of an episode alone"),
    ):
        with pytest.raises(SettingsError, match=re.escape(message)):
            check_task(counter(name))
    with pytest.raises(SettingsError, match="expected observations in a flat Box, found Box"):
        counter("Picture")
    ends = [gymnasium_task("tests/Counter-v0", {"end": end}, **COUNTER).digest for end in (np.int64(3), 3, 4)]
    assert ends[0] == ends[1] != ends[2]
    with pytest.raises(SettingsError, match=r"options: expected numbers, texts and lists of them, .*, found object"):
        gymnasium_world.gymnasium_world("tests/Counter-v0", {"end": object()})
    with pytest.raises(SettingsError, match="expected 2 action channels, found 1"):
        check_task(replace(task, action=task.action[:1]))


def test_gymnasium_is_stepped_to_the_end_of_an_episode_and_paired_by_its_seed() -> None:
    world = counter().world
    starts = world.draw_starts(numpy_stream(0, "starts"), 3)
    actions = np.random.default_rng(0).uniform(-4, 4, (3, 9, 2))
    states, given = world.simulate(lambda step, _: actions[:, step], starts, np.zeros_like(actions), 1)
    assert_array_equal(given, actions)  # as they were given, not as they were clipped
    for row, (seed,) in enumerate(starts):
        environment = Counter()
        assert_array_equal(states[row, 0, :2], environment.reset(seed=int(seed))[0])
        for step in range(6):
            action = actions[row, step].clip([-1, 0], [1, 3]).astype(np.float32)
            observation, reward, over, _, _ = environment.step(action)
            assert_array_equal(states[row, step + 1], [*observation, reward, over, over])
    assert_array_equal(states[:, 7:, :2], np.repeat(states[:, 6:7, :2], 3, axis=1))
    assert not states[:, 7:, REWARD].any() and states[:, 6:, SUCCESS].all()
    assert_array_equal(world.ended(states), np.tile(np.arange(10) >= 6, (3, 1)))
    assert_array_equal(states[..., OVER] > 0, world.ended(states))
    assert_array_equal(gymnasium_world.succeeded(states), True)
    assert_array_equal(gymnasium_world.returns(states), states[:, 1:7, REWARD].sum(1))
    endless, _ = counter("Long").world.simulate(lambda step, _: actions[:, step], starts, np.zeros_like(actions), 1)
    assert not endless[..., OVER].any() and endless[0, -1, 0] == 9  # no time limit but the task's


def test_the_physics_are_gymnasiums_to_the_bit(own: Path) -> None:
    """Also in an environment that was used before, and whatever is simulated beside it."""
    world = find_task(SWING).world
    starts = world.draw_starts(numpy_stream(1, "starts"), 3)
    actions = np.random.default_rng(1).uniform(-3, 3, (3, 220, 1))
    for _ in range(2):
        states, _ = world.simulate(lambda step, _: actions[:, step], starts, np.zeros_like(actions), 1)
    for row in range(3):
        environment = gymnasium.make("Pendulum-v1", max_episode_steps=300)
        assert_array_equal(states[row, 0, :3], environment.reset(seed=int(starts[row, 0]))[0])
        for step in range(220):
            observation, reward, *_ = environment.step(actions[row, step].astype(np.float32).clip(-2, 2))
            assert_array_equal(states[row, step + 1, :4], [*observation, reward])


@pytest.mark.parametrize(("name", "most"), [("pendulum", 1), ("reacher", 3), ("swing", 5)])
def test_blocks_of_episodes_change_no_bit(name: str, most: int, own: Path) -> None:
    whole = find_task(SWING if name == "swing" else name)
    whole = replace(
        whole, conditions=whole.conditions[:1] + whole.conditions[-1:], world=replace(whole.world, most=None)
    )
    parts = replace(whole, world=replace(whole.world, most=most))

    def plan(states: np.ndarray, episodes: np.ndarray, step: int) -> Plans:
        phase = states[:, :1, None] + episodes[:, None, None] + step + np.arange(whole.horizon)[:, None]
        return Plans(np.repeat(0.3 * np.sin(phase), whole.action_dim, 2).astype(np.float32), tokens=episodes + step)

    fractions: list[float] = []
    one, other = (draw_episodes(task, task.conditions, 4, seed=0) for task in (whole, parts))
    found = evaluate_planner(plan, one, 1), evaluate_planner(plan, other, 1, fractions.append)
    assert fractions == sorted(fractions) and fractions[0] >= 0 and 0.9 < fractions[-1] < 1
    yardsticks = [each for each in whole.yardsticks if each != "LQR, planned"]
    pairs = [found, *((evaluate_yardstick(each, one, 1), evaluate_yardstick(each, other, 1)) for each in yardsticks)]
    for first, second in pairs:
        assert first.columns.keys() == second.columns.keys()
        for column in first.columns:
            assert_array_equal(first.columns[column], second.columns[column])
        if first.paths is not None:
            assert_array_equal(first.paths, second.paths)
    made = [demonstrate(CollectSettings(trajectories=7, threads=1), task).trajectories for task in (whole, parts)]
    for array in ("states", "actions", "gains"):
        assert_array_equal(getattr(made[0], array), getattr(made[1], array))


def test_an_evaluation_goes_from_process_to_process(own: Path) -> None:
    """A task does not: its functions may be closures, and each process finds it anew."""
    task = find_task(SWING)
    evaluation = evaluate_yardstick("zero action", draw_episodes(task, task.conditions, 1, 0), 1)
    again = pickle.loads(pickle.dumps(evaluation))
    assert again.scores == task.scores and again.conditions == task.conditions
    assert_array_equal(again.columns["upright"], evaluation.columns["upright"])


ENDING = """
from dataclasses import replace
from slide import SLIDE, WORLD, np, score

def ended(states):
    return np.abs(states[..., 0] - states[..., 1]) < 0.1

def simulate(controller, starts, noise, threads):
    states, actions = WORLD.simulate(controller, starts, noise, threads)
    after = np.zeros(states.shape[:2], bool)
    after[:, 1:] = np.logical_or.accumulate(ended(states), axis=1)[:, :-1]
    return np.where(after[..., None], np.nan, states), actions

ENDING = replace(
    SLIDE,
    name="ending",
    score=lambda states, actions: score(np.nan_to_num(states), actions),
    world=replace(WORLD, ended=ended, simulate=simulate),
)
BARE = replace(SLIDE, name="bare", demonstrator=None)
"""
"""A task whose episodes end at the goal, with states that are no numbers afterwards, and one without a demonstrator."""


@pytest.fixture
def endings(own: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(own)
    (own / "endings.py").write_text(ENDING)
    return own


def test_nothing_is_learned_from_after_an_episodes_end(endings: Path) -> None:
    """Nor is anything written there that no reader takes: the observation stays."""
    task = find_task("endings.py:ENDING")
    assert main(COMMANDS, ["collect", "--task", "endings.py:ENDING", "--trajectories", "40"]) == 0
    made, pairs = (
        load(Path("data/ending") / name)
        for load, name in (
            (load_trajectories, "trajectories.npz"),
            (load_action_pairs, "training_pairs_original.npz"),
        )
    )
    over = np.abs(made.states[..., 0].astype(float) - made.states[..., 1].astype(float)) < 0.1
    lengths = np.where(over.any(1), over.argmax(1), over.shape[1])
    expected = [(row, step) for row, length in enumerate(lengths) for step in task.pair_steps if step < length]
    assert 40 < len(expected) < 0.8 * 40 * len(task.pair_steps) and lengths.max() < 100
    assert_array_equal(np.stack((pairs.trajectory, pairs.step), 1), expected)
    for number, (row, step) in enumerate(expected):  # chunks go on over the end
        assert_array_equal(pairs.action_chunk[number], made.actions[row, step : step + 50])
        assert_array_equal(pairs.state[number], made.states[row, step])
    for states, length in zip(made.states, lengths, strict=True):
        assert np.isfinite(states).all() and (states[length:] == states[length]).all()
    assert main(COMMANDS, ["tokenize", "--task", "endings.py:ENDING"]) == 0


def test_without_a_demonstrator_nothing_is_collected_nor_written(
    endings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train_command("pi0", Pi0Settings), ["--task", "endings.py:BARE"]) == 2
    said = capsys.readouterr()
    assert said.err == (
        "error: task: 'bare' has no demonstrator, so its data are imported, not collected. See 'import --help'.\n"
    )
    assert not said.out and not (endings / "data").exists()


BALL = """
<mujoco><worldbody><geom type="plane" size="1 1 1"/>
<body pos="0 0 0.2"><joint name="z" type="slide" axis="0 0 1"/><geom type="sphere" size="0.1" mass="1"/></body>
</worldbody><actuator><general joint="z"{0}/></actuator></mujoco>
"""


def test_bodies_of_an_own_model_touch_unless_it_says_otherwise() -> None:
    def last(**chosen: Any) -> float:
        world = mujoco_world(
            BALL.format(""), frame_skip=5, draw_starts=draw, ended=lambda states: states[..., 0] > 9, **chosen
        )
        states, _ = world.simulate(lambda _step, states: 0 * states[:, :1], draw(None, 1), np.zeros((1, 100, 1)), 1)
        return float(states[0, -1, 0])

    def draw(_generator: Any, count: int) -> np.ndarray:
        return np.zeros((count, 2))

    assert last() == pytest.approx(-0.1, abs=0.01), "the ball lies on the plane"
    assert last(contacts=False) < -4


def test_a_model_whose_state_is_more_than_places_and_velocities_is_refused() -> None:
    world = mujoco_world(
        BALL.format(' dyntype="filter" dynprm="1"'), frame_skip=1, draw_starts=lambda g, n: np.zeros((n, 2)), ended=bool
    )
    with pytest.raises(SettingsError, match=r"^xml: expected a model whose state is its 2 .*, found 3 numbers\. Use"):
        world.simulate(lambda _step, states: states[:, :1], np.zeros((1, 2)), np.zeros((1, 3, 1)), 1)


def test_a_file_never_leads_to_code(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The record of an unfinished run names the task's file: the user has to name it again."""
    (own / "evil.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    settings = Pi0Settings(task="evil.py:TASK")
    journal = journal_of("0" * 32)
    about = {"method": "pi0", "settings": settings.model_dump(mode="json"), "files": {}, "code": "", "name": "x"}
    assert journal.make(about)
    journal.release()
    for words in ([], ["--task", SLIDE]):
        assert main(train_command("pi0", Pi0Settings), ["--resume", journal.run_id, *words]) == 2
        refusal = capsys.readouterr().err
        assert re.search(r"is of your own task 'evil\.py:TASK'.*name it again by --task", refusal), refusal
    assert find_unfinished(METHODS["pi0"], settings.model_copy(update={"resume": journal.run_id})).settings == settings
    assert not (own / "ran").exists()


def test_each_file_is_a_module_of_its_own(own: Path) -> None:
    """Two of one name do not meet, and nothing is left beside them."""
    (own / "there").mkdir()
    (own / "there" / "slide.py").write_text(FILES["slide.py"].replace('name="slide"', 'name="glide"'))
    assert [find_task(each).name for each in (SLIDE, "there/slide.py:SLIDE", str(own / SLIDE))] == [
        "slide", "glide", "slide",
    ]  # fmt: skip
    assert find_task(SLIDE) is find_task(f"{own}/slide.py:SLIDE")
    assert sorted(path.name for path in own.rglob("*")) == ["slide.py", "slide.py", "swing.py", "there"]


def test_a_module_that_is_installed_is_found_by_its_name(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "ourlab").mkdir()
    (own / "ourlab" / "tasks.py").write_text(FILES["slide.py"])
    monkeypatch.syspath_prepend(own)
    assert find_task("ourlab.tasks:SLIDE").name == "slide"


def test_an_error_of_the_simulator_is_one_of_the_run() -> None:
    task = counter("Growing")
    with pytest.raises(RunError, match=r"Growing-v0: expected observations of 2 numbers"):
        task.world.simulate(lambda _step, states: np.zeros((1, 2)), np.zeros((1, 1)), np.zeros((1, 5, 2)), 1)
