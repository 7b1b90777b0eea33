"""A data set tells what it is; without a simulator it is a task by its name, and never leads to code."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.data.pairs import load_action_pairs
from pipeline.data.trajectories import load_trajectories
from pipeline.errors import DataError, SettingsError
from pipeline.tasks.dataset import DataSet, find_dataset, read_dataset, write_dataset
from pipeline.tasks.registry import find_task
from pipeline.tasks.score import OF_HELD_OUT
from pipeline.tasks.task import Channel, Condition, unscored

ARM = DataSet(
    name="arm",
    task="arm",
    observation=(Channel("joint 1", "joint 1", "rad"), Channel("ünger", "finger", "m")),
    action=(Channel("torque", "torque", "N m", 2.0),),
    control_seconds=0.1,
    horizon=20,
    episodes=30,
    frames=1234,
    format="npz",
    source="somewhere/arm.npz",
    source_sha256="0" * 64,
    licence="MIT",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "arm").mkdir(parents=True)
    return tmp_path / "data" / "arm"


def test_what_is_written_is_read(folder: Path) -> None:
    write_dataset(ARM)
    assert read_dataset("arm") == find_dataset("arm") == ARM and not ARM.has_simulator
    before = (folder / "dataset.json").read_bytes()
    write_dataset(ARM)
    assert (folder / "dataset.json").read_bytes() == before
    assert read_dataset("other") is None
    for name in ("other", "../data/arm", ""):
        with pytest.raises(SettingsError, match="expected the name of a data set"):
            find_dataset(name)


def test_the_remedy_of_a_damaged_file_is_what_made_it(folder: Path) -> None:
    for name in ("trajectories.npz", "training_pairs_original.npz"):
        (folder / name).write_bytes(b"PK")
    for dataset, command in ((ARM, "import"), (replace(ARM, simulated=True), "collect"), (None, "collect")):
        if dataset is None:
            (folder / "dataset.json").write_text("{")
        else:
            write_dataset(dataset)
        for load, name in ((load_trajectories, "trajectories"), (load_action_pairs, "training_pairs_original")):
            with pytest.raises(DataError, match=f"Make it again with 'python -m pipeline {command}'"):
                load(Path(f"data/arm/{name}.npz"))


def test_it_is_a_task_without_a_simulator() -> None:
    write_dataset(ARM)
    task = find_task("arm")
    assert (task.name, task.state_dim, task.action_dim, task.horizon, task.control_seconds) == ("arm", 2, 1, 20, 0.1)
    assert task.observation == ARM.observation and task.limits.tolist() == [2.0]
    assert task.conditions == (Condition(0, 4), Condition(0, 10), Condition(0, 20)) and task.longest_replan == 20
    assert task.own_scores is OF_HELD_OUT and task.primary == "agreement" and task.world is None
    with pytest.raises(
        SettingsError, match="expected one with a simulator, found 'arm', which has none: nothing can be con"
    ):
        _ = task.simulator
    assert task.score is unscored and not task.yardsticks
    assert task.digest != replace(task, action=(Channel("torque", "torque", "N m", 3.0),)).digest
    assert replace(task, horizon=1, conditions=()).conditions == (Condition(0, 1),)


def test_data_of_a_task_with_a_simulator_are_no_task() -> None:
    for task, own in (("reacher", "reacher"), ("mine", "path/to/file.py:NAME")):
        write_dataset(replace(ARM, task=task))
        assert find_dataset("arm").has_simulator
        with pytest.raises(
            SettingsError, match=f"'arm' is data of the task '{task}'. Name it: --task {own} --data arm"
        ):
            find_task("arm")
    write_dataset(replace(ARM, simulated=True))
    with pytest.raises(SettingsError, match="'arm' is data of the task 'arm'"):
        find_task("arm")


def test_no_name_of_a_task_of_the_project_without_its_simulator(folder: Path) -> None:
    folder.with_name("reacher").mkdir()
    mine = replace(ARM, name="reacher", task="reacher")
    with pytest.raises(SettingsError, match="name: expected another than the project's pendulum"):
        write_dataset(mine)
    write_dataset(replace(mine, simulated=True))
    assert find_task("reacher").world is not None


WRONG = {
    "name": "leg",
    "task": "../arm",
    "observation": [],
    "action": [{"name": "a", "label": "a", "unit": ""}] * 2,
    "control_seconds": float("nan"),
    "horizon": 1001,
    "episodes": -1,
    "frames": True,
    "format": None,
    "source": "two\nlines",
    "source_sha256": 5,
    "simulated": "no",
    "licence": "x" * 4001,
    "more": 1,
}
CHANNELS = [
    5,
    {"name": "a"},
    {"name": "a", "label": 5, "unit": ""},
    {"name": "", "label": "a", "unit": ""},
    {"name": "a", "label": "a", "unit": "", "limit": "1"},
    {"name": "a", "label": "a", "unit": "", "limit": 10**400},
    {"name": "a", "label": "a", "unit": "", "code": "print"},
]


@pytest.mark.parametrize(
    "change", [*({key: value} for key, value in WRONG.items()), *({"action": [each]} for each in CHANNELS)]
)
def test_a_faulty_file_is_refused_in_one_line(folder: Path, change: dict[str, object]) -> None:
    (folder / "dataset.json").write_text(json.dumps(asdict(ARM) | change))
    with pytest.raises(
        DataError, match=r"^data/arm/dataset.json: expected what .* found: [^\n]* Collect or import it again\.$"
    ):
        find_task("arm")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b"{", b"[" * 100_000, b'{"observation": 9' + b"9" * 5000 + b"}"]
)
def test_a_file_of_something_else_is_refused(folder: Path, content: bytes) -> None:
    (folder / "dataset.json").write_bytes(content)
    with pytest.raises(DataError, match="Collect or import it again"):
        find_dataset("arm")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from([*asdict(ARM)]), value=VALUES, remove=st.booleans())
def test_any_other_value_is_refused_or_can_be_written_again(
    folder: Path, key: str, value: object, remove: bool
) -> None:
    content = asdict(ARM) | {key: value}
    if remove:
        del content[key]
    (folder / "dataset.json").write_text(json.dumps(content))
    try:
        found = find_dataset("arm")
    except DataError as error:
        assert "\n" not in str(error)
    else:
        write_dataset(found)
        assert read_dataset("arm") == found
