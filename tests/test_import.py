"""Demonstrations that people bring: read exactly, checked, refused in one line, written whole or not at all."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from pipeline.cli.main import COMMANDS, main
from pipeline.data.npz import write_npz
from pipeline.data.pairs import load_action_pairs
from pipeline.data.sources import hdf5, registry, spool
from pipeline.data.sources import npz as npz_source
from pipeline.data.trajectories import Trajectories, cut_pairs, load_trajectories, save_trajectories
from pipeline.errors import DataError
from pipeline.files import file_digest
from pipeline.stages import import_data
from pipeline.tasks.dataset import read_dataset
from tests import layouts, warm
from tests.conftest import ROOT, environment, put_store
from tests.layouts import FPS, NAMES, WRITERS, Demos, demos

HORIZON = 10
UNEQUAL = (12, 25, 10, 17, 31)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path


def imported(path: Path, *words: object, name: str = "mine") -> int:
    return main(COMMANDS, ["import", str(path), "--out", f"data/{name}", "--horizon", str(HORIZON), *map(str, words)])


def without_rate(path: Path) -> list[object]:
    return ["--fps", FPS] if path.suffix == ".npz" or (path / "data" / "metadata.json").exists() else []


def check_written(episodes: Demos, every: int = 2, name: str = "mine") -> None:
    """The data set holds these episodes, bit for bit, and the pairs cut from them."""
    folder = Path("data") / name
    found = load_trajectories(folder / "trajectories.npz")
    written = list(found.episodes())
    assert len(written) == len(episodes)
    pairs = load_action_pairs(folder / "training_pairs_original.npz")
    row = 0
    for number, ((states, actions), (seen, acted)) in enumerate(zip(episodes, written, strict=True)):
        assert_array_equal(states.astype(np.float32), seen, strict=True)
        assert_array_equal(actions.astype(np.float32), acted, strict=True)
        for step in range(0, len(states) - HORIZON + 1, every):
            assert_array_equal(pairs.state[row], seen[step])
            assert_array_equal(pairs.action_chunk[row], acted[step : step + HORIZON])
            assert (pairs.trajectory[row], pairs.step[row]) == (number, step)  # type: ignore[index]
            row += 1
    assert row == len(pairs.state)
    equal = len({len(states) for states, _ in episodes}) == 1
    assert (found.episode_ends is None) == equal == (found.states.ndim == 3)


@pytest.mark.parametrize("lengths", [(20, 20, 20), UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("format", list(WRITERS))
def test_every_format_is_read_to_the_bit(format: str, lengths: tuple[int, ...], place: Path) -> None:
    episodes = demos(lengths)
    path = WRITERS[format](place / "source", episodes)
    assert imported(path, *without_rate(path)) == 0
    check_written(episodes)
    dataset = read_dataset("mine")
    assert dataset is not None and not dataset.has_simulator
    assert (dataset.episodes, dataset.frames, dataset.format) == (len(lengths), sum(lengths), format)
    assert (dataset.horizon, dataset.control_seconds) == (HORIZON, 1 / FPS)
    assert sorted(each.name for each in (place / "data" / "mine").iterdir()) == [
        "dataset.json",
        "training_pairs_original.npz",
        "trajectories.npz",
    ]
    assert dataset.source_sha256 == file_digest(path) if path.is_file() else len(dataset.source_sha256) == 64


@pytest.mark.parametrize("write", [layouts.lerobot_v3, layouts.lerobot_v2])
def test_plain_lists_and_names_of_channels(write: Any, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    episodes = demos(UNEQUAL, state_dim=3, action_dim=2)
    names = {"observation.state": {"motors": ["pan", "lift", "jaw"]}, "action": {"left": 0, "right": 1}}
    path = write(place / "source", episodes, fixed=False, names=names)
    (path / "README.md").write_text("---\nlicense: apache-2.0\ntags:\n- LeRobot\n---\n\n# A data set\nlicense: mit\n")
    assert imported(path) == 0
    check_written(episodes)
    dataset = read_dataset("mine")
    assert dataset is not None and dataset.licence == "apache-2.0"
    assert [channel.name for channel in dataset.observation] == ["pan", "lift", "jaw"]
    assert [channel.name for channel in dataset.action] == ["left", "right"]
    shown = capsys.readouterr().out
    assert "observation.images.top" in shown and "'balance'" in shown and "licence   apache-2.0" in shown


def test_one_file_of_many_episodes_and_many_chunks_of_files(place: Path) -> None:
    episodes = demos([10 + number for number in range(9)])
    for number, (per_file, chunk) in enumerate(((9, 1), (1, 1), (2, 3))):
        path = layouts.lerobot_v3(
            place / str(number), episodes, per_file=per_file, files_a_chunk=chunk, text_column="__index_level_0__"
        )
        assert imported(path, name=f"set_{number}") == 0
        check_written(episodes, name=f"set_{number}")


def test_several_keys_are_put_side_by_side_in_the_order_given(place: Path) -> None:
    episodes = demos(UNEQUAL)
    path = layouts.robomimic(place / "demo.hdf5", episodes)  # obs/cube (1), obs/eef (3)
    assert imported(path, "--state", "obs/eef,obs/cube") == 0
    check_written([(states[:, [1, 2, 3, 0]], actions) for states, actions in episodes])
    assert [channel.name for channel in read_dataset("mine").observation] == ["eef_0", "eef_1", "eef_2", "cube"]  # type: ignore[union-attr]


def test_spaces_of_minari_are_flattened_in_their_order(place: Path) -> None:
    episodes = demos([15] * 3, state_dim=13, action_dim=2)
    path = layouts.minari(place / "source", episodes)
    with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
        for group in file.values():
            states, actions = group["observations"][:], group["actions"][:]
            del group["observations"], group["actions"]
            group["observations/achieved"] = states[:, :2]
            for number in range(11):  # a tuple of eleven: _index_10 comes last
                group[f"observations/tuple/_index_{number}"] = states[:, 2 + number]
            group["observations/view"] = np.zeros((len(states), 2, 2, 3), np.uint8)
            group["actions/_index_0"], group["actions/_index_1"] = actions[:, :1], actions[:, 1:]
    assert imported(path, "--fps", FPS, "--every", 3) == 0
    check_written(episodes, every=3)
    assert read_dataset("mine").observation[-1].name == "_index_10"  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<f2", np.longdouble])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_float_byte_order_and_memory_order(dtype: Any, order: Any, place: Path) -> None:
    for number, lengths in enumerate(((20, 20, 20), UNEQUAL)):
        episodes = [(states.astype(dtype), actions.astype(dtype)) for states, actions in demos(lengths)]
        join = np.concatenate if number else np.stack
        arrays = {
            key: np.array(join([demo[which] for demo in episodes]), dtype, order=order)
            for which, key in enumerate(("obs", "action"))
        }
        ends = {"episode_ends": np.cumsum(lengths).astype(">i4")} if number else {}
        save = np.savez_compressed if number else np.savez
        save(place / "demos.npz", **arrays, **ends)
        assert imported(place / "demos.npz", "--fps", FPS, name=f"set_{number}") == 0
        check_written(episodes, name=f"set_{number}")


def test_our_own_files_come_back_as_they_are(data: Path) -> None:
    task = ["--task", "pendulum", "--every", 3]
    assert imported(data / "trajectories.npz", *task) == 0
    ours, found = load_trajectories(data / "trajectories.npz"), load_trajectories(Path("data/mine/trajectories.npz"))
    assert_array_equal(ours.states, found.states, strict=True)
    assert_array_equal(ours.actions, found.actions, strict=True)
    pairs = load_action_pairs(Path("data/mine/training_pairs_original.npz"))
    expected = cut_pairs(ours, range(0, 91, 3), HORIZON, {})
    for name in ("state", "action_chunk", "trajectory", "step"):
        assert_array_equal(getattr(pairs, name), getattr(expected, name))
    dataset = read_dataset("mine")
    assert dataset is not None and dataset.has_simulator and dataset.task == pairs.task.name == "pendulum"
    assert pairs.metadata["trajectories_sha256"] == file_digest(Path("data/mine/trajectories.npz"))


def test_the_same_source_gives_the_same_bytes(place: Path) -> None:
    path = layouts.lerobot_v3(place / "source", demos(UNEQUAL))
    assert imported(path, "--task", "pendulum", name="one") == imported(path, "--task", "pendulum", name="two") == 0
    for name in ("trajectories.npz", "training_pairs_original.npz"):
        assert (place / "data/one" / name).read_bytes() == (place / "data/two" / name).read_bytes()


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(
    lengths=st.lists(st.integers(4, 40), min_size=1, max_size=12),
    every=st.integers(1, 7),
    block=st.integers(1, 60),
    left_out=st.sets(st.integers(0, 11), max_size=4),
)
def test_pieces_are_those_of_the_whole(
    lengths: list[int], every: int, block: int, left_out: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    episodes = demos(lengths, 3, 2)
    files = spool.spool(folder, episodes, lambda done: None)
    keep = [number for number in range(len(lengths)) if number not in left_out] or [0]
    first = np.cumsum(lengths) - lengths
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "BLOCK", block)
        source = spool.Spool(files, (3, 2), first[keep], np.array(lengths)[keep])
        spool.write_trajectories(folder / "t.npz", source, {"a": 1})
        count = spool.write_pairs(folder / "p.npz", source, 4, every, {"b": 2})
    found = list(load_trajectories(folder / "t.npz").episodes())
    for number, (states, actions) in zip(keep, found, strict=True):
        assert_array_equal(states, episodes[number][0])
        assert_array_equal(actions, episodes[number][1])
    pairs = load_action_pairs(folder / "p.npz")
    assert count == len(pairs.state) == sum((lengths[number] - 4) // every + 1 for number in keep)
    for row, (trajectory, step) in enumerate(zip(pairs.trajectory, pairs.step, strict=True)):  # type: ignore[arg-type]
        assert_array_equal(pairs.state[row], found[trajectory][0][step])
        assert_array_equal(pairs.action_chunk[row], found[trajectory][1][step : step + 4])


# What is refused


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


def edit_table(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    table = pq.read_table(path)
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    change(columns)
    pq.write_table(pa.table(columns), path)


def number(columns: dict[str, Any], key: str, row: int, value: float) -> None:
    """Change a number of a plain column, or the first of a row of lists."""
    values = columns[key].to_pylist()
    values[row] = [value, *values[row][1:]] if isinstance(values[row], list) else value
    columns[key] = pa.array(values, columns[key].type)


DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
BAD_LEROBOT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no info": (lambda p: (p / "meta/info.json").unlink(), "expected one of the formats"),
    "info cut off": (lambda p: (p / "meta/info.json").write_text('{"fps": '), "expected a JSON object"),
    "version": (
        lambda p: edit(p / "meta/info.json", lambda f: f.update(codebase_version="v2.0")),
        "expected codebase_version v3.0 or v2.1, found 'v2.0'",
    ),
    "rate": (lambda p: edit(p / "meta/info.json", lambda f: f.update(fps=0)), "expected fps above 0, found 0"),
    "path": (
        lambda p: edit(p / "meta/info.json", lambda f: f.update(data_path="{chunk_index:0999999999d}")),
        "expected data_path 'data/chunk-",
    ),
    "absurd frames": (
        lambda p: edit(p / "meta/info.json", lambda f: f.update(total_frames=10**15)),
        "'total_frames' to be a whole number of 1 to 10,000,000,000",
    ),
    "other frames": (
        lambda p: edit(p / "meta/info.json", lambda f: f.update(total_frames=96)),
        "5 episodes and 96 frames that it claims, found 5 and 95",
    ),
    "absurd shape": (
        lambda p: edit(p / "meta/info.json", lambda f: f["features"]["action"].update(shape=[10**12])),
        "shape of 'action'",
    ),
    "no episodes": (lambda p: shutil.rmtree(p / "meta/episodes"), "expected chunk-000/file-000.parquet, found none"),
    "episodes overlap": (
        lambda p: edit_table(p / EPISODES, lambda c: number(c, "dataset_from_index", 2, 30)),
        "expected episode 2 to follow on the one before, without gap or overlap",
    ),
    "lengths": (
        lambda p: edit_table(p / EPISODES, lambda c: (number(c, "length", 1, 24), number(c, "length", 2, 11))),
        "expected episode 1 to follow on",
    ),
    "no data": (lambda p: (p / DATA).unlink(), f"{DATA}: expected a file, found none"),
    "data cut off": (lambda p: (p / DATA).write_bytes((p / DATA).read_bytes()[:-200]), "a damaged or foreign file"),
    "no column": (
        lambda p: edit_table(p / DATA, lambda c: c.pop("action")),
        "expected the column 'action', found only",
    ),
    "fewer rows": (
        lambda p: pq.write_table(pq.read_table(p / DATA).slice(0, 30), p / DATA),
        "expected 37 frames, as meta/episodes says, found 30",
    ),
    "ragged": (
        lambda p: edit_table(
            p / DATA,
            lambda c: c.update(
                {
                    "observation.state": pa.array(
                        [[0.0] * (5 if row == 7 else 3 if row == 8 else 4) for row in range(37)]
                    )
                }
            ),
        ),
        "expected 'observation.state' to have 4 numbers in each row, found [3, 4, 5]",
    ),
    "too few": (
        lambda p: edit_table(p / DATA, lambda c: c.update({"observation.state": pa.array([[0.0] * 3] * 37)})),
        "expected 37 rows of 4 numbers in 'observation.state', found 111 numbers",
    ),
    "text": (
        lambda p: edit_table(p / DATA, lambda c: c.update(action=pa.array(["much"] * 37))),
        "expected 'action' to hold numbers, found string",
    ),
    "null": (
        lambda p: edit_table(p / DATA, lambda c: c.update(action=pa.array([None] + [0.0] * 36))),
        "expected 'action' to hold numbers, found rows without one",
    ),
    "whole numbers": (
        lambda p: edit_table(p / DATA, lambda c: c.update(action=pa.array([1] * 37))),
        "expected 'action' to be continuous, found int64 in episode 0",
    ),
    "NaN": (
        lambda p: edit_table(p / DATA, lambda c: number(c, "observation.state", 17, np.nan)),
        "expected finite numbers in 'observation.state', found NaN, infinity or more in episode 1, frame 5",
    ),
    "gap": (
        lambda p: edit_table(p / DATA, lambda c: number(c, "frame_index", 15, 4)),
        "expected frames numbered 0, 1, 2, ... without a gap, found 4 at 3 in episode 1",
    ),
    "other episode": (
        lambda p: edit_table(p / DATA, lambda c: number(c, "episode_index", 15, 0)),
        "expected 25 frames of episode 1, found 1 of another among them",
    ),
    "late": (
        lambda p: edit_table(p / DATA, lambda c: number(c, "timestamp", 14, 0.1)),
        "expected 0.04 s between frames, for 25 of them a second, found 0.04 to 0.1 s at frame 1 of episode 1",
    ),
    "link": (
        lambda p: ((p / DATA).rename(p.parent / "away"), (p / DATA).symlink_to(p.parent / "away")),
        "found a link that leads out of it",
    ),
}
BAD_HDF5: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no group": (lambda f: f.__delitem__("data"), "expected '/data', found only mask"),
    "no demos": (lambda f: [f.__delitem__(f"data/{name}") for name in [*f["data"]]], "expected groups 'demo_0'"),
    "a name": (
        lambda f: f.move("data/demo_1", "data/demo_01"),
        "expected groups 'demo_0', 'demo_1', ... in 'data', found 'demo_01'",
    ),
    "no actions": (lambda f: f.__delitem__("data/demo_3/actions"), "expected '/data/demo_3/actions', found only"),
    "no count": (lambda f: f["data/demo_1"].attrs.pop("num_samples"), "the attribute 'num_samples' of '/data/demo_1'"),
    "other total": (lambda f: f["data"].attrs.update(total=7), "the 7 frames that 'total' claims, found 95"),
    "other rows": (
        lambda f: (f.__delitem__("data/demo_1/obs/cube"), f.create_dataset("data/demo_1/obs/cube", (24, 1), "f4")),
        "expected '/data/demo_1/obs/cube' to have 25 rows of 1 numbers, found float32 of the shape (24, 1)",
    ),
    "absurd": (
        lambda f: (
            f.__delitem__("data/demo_1/obs/cube"),
            f.create_dataset("data/demo_1/obs/cube", (10**12, 1), "f4", chunks=(1000, 1)),
        ),
        "to hold what it claims, found 4,000,000,000,000 bytes claimed, 0 there",
    ),
    "external link": (
        lambda f: (
            f.__delitem__("data/demo_1/actions"),
            f.__setitem__("data/demo_1/actions", h5py.ExternalLink("other.hdf5", "/x")),
        ),
        "expected '/data/demo_1/actions' in the file itself, found a link",
    ),
    "soft link": (
        lambda f: f.__setitem__("data/demo_9", h5py.SoftLink("/data")),
        "expected '/data/demo_9' in the file itself, found a link",
    ),
    "external bytes": (
        lambda f: (
            f.__delitem__("data/demo_1/actions"),
            f.create_dataset("data/demo_1/actions", (25, 1), "f4", external=[("/etc/passwd", 0, 100)]),
        ),
        "'/data/demo_1/actions' in the file itself, found one that lies in other files",
    ),
    "ring": (
        lambda f: f.__setitem__("data/demo_0/obs/again", f["data/demo_0"]),
        "at most 10 groups within one another",
    ),
    "texts": (
        lambda f: (f.__delitem__("data/demo_0/actions"), f["data/demo_0"].create_dataset("actions", data=[b"x"] * 12)),
        "action: expected one of actions, found none",
    ),
}


def refused(code: int, capsys: pytest.CaptureFixture[str], expected: str) -> str:
    errors = capsys.readouterr().err
    assert code == 2 and errors.startswith("error: ") and errors.count("\n") == 1, errors
    assert expected in errors, errors
    assert [*Path("data").iterdir()] == []
    return errors


@pytest.mark.parametrize("fault", list(BAD_LEROBOT))
def test_a_faulty_lerobot_is_refused(fault: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = layouts.lerobot_v3(place / "source", demos(UNEQUAL))
    damage, expected = BAD_LEROBOT[fault]
    damage(path)
    refused(imported(path), capsys, expected)


@pytest.mark.parametrize("fault", list(BAD_HDF5))
def test_a_faulty_hdf5_is_refused(fault: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = layouts.robomimic(place / "demo.hdf5", demos(UNEQUAL))
    damage, expected = BAD_HDF5[fault]
    with h5py.File(path, "a") as file:
        damage(file)
    refused(imported(path), capsys, expected)


def test_a_faulty_minari_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = layouts.minari(place / "arrow", demos(UNEQUAL), data_format="arrow")
    refused(imported(path, "--fps", FPS), capsys, "expected the data_format 'hdf5', found 'arrow': write it with")
    path = layouts.minari(place / "more", demos(UNEQUAL), total_episodes=6)
    refused(imported(path, "--fps", FPS), capsys, "expected the 6 episodes of metadata.json, found 5")
    path = layouts.minari(place / "other", demos(UNEQUAL), total_steps=94)
    refused(imported(path, "--fps", FPS), capsys, "5 episodes and 94 frames that it claims, found 5 and 95")
    path = layouts.minari(place / "unsaid", demos(UNEQUAL))
    (path / "data/metadata.json").unlink()
    refused(imported(path, "--fps", FPS), capsys, "metadata.json: expected a file, found none")
    path = layouts.minari(place / "clock", demos(UNEQUAL))
    refused(imported(path), capsys, "does not say. Give them by --fps.")


def test_a_faulty_npz_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def tried(expected: str, **arrays: Any) -> None:
        np.savez(place / "demos.npz", **arrays)
        refused(imported(place / "demos.npz", "--fps", FPS), capsys, expected)

    states, actions = np.zeros((5, 20, 4)), np.ones((5, 20, 1))
    tried("that agree in N and T", states=np.zeros((5, 21, 4)), actions=actions)
    tried("found states (5, 20, 4), actions (0, 20, 1)", states=states, actions=np.zeros((0, 20, 1)), more=states[:1])
    tried("action: expected one of actions, action, found none", states=states)
    several = "states and obs: more than one. The source has states (4), obs (4), actions (1). Choose by --state."
    tried(several, states=states, obs=states, actions=actions)
    tried("'episode_ends' must increase", states=states[0], actions=actions[0], episode_ends=[12, 9, 20])
    tried("as many rows as the last of 'episode_ends'", states=states[0], actions=actions[0], episode_ends=[10, 40])
    tried("expected numbers in 'states', found <U3", states=states.astype("<U3"), actions=actions)
    tried("Object arrays are never loaded", states=np.array([{}], object), actions=actions)
    tried("'actions' to be continuous, found int64 in episode 0", states=states, actions=actions.astype(int))
    tried("shorter ones, the first episode 0 with 5", states=states[:, :5], actions=actions[:, :5])


OTHER_NUMBERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "one less": (lambda f: f.__delitem__("data/demo_2/obs/cube"), "in '/data/demo_2' {as_first}, found no obs/cube"),
    "one more": (
        lambda f: f.create_dataset("data/demo_2/obs/extra", (10, 2), "f4"),
        "in '/data/demo_2' {as_first}, found also obs/extra",
    ),
    "one more further in": (
        lambda f: f.create_dataset("data/demo_3/obs/arm/tuple/_index_0", (17,), "f4"),
        "in '/data/demo_3' {as_first}, found also obs/arm/tuple/_index_0",
    ),
    "the first has less": (
        lambda f: f.__delitem__("data/demo_0/obs/eef"),
        "in '/data/demo_1' {as_first}, found also obs/eef",
    ),
    "a group in place of numbers": (
        lambda f: (
            f.move("data/demo_4/obs/eef", "data/demo_4/left"),
            f.move("data/demo_4/left", "data/demo_4/obs/eef/left"),
        ),
        "in '/data/demo_4' {as_first}, found no obs/eef",
    ),
    "texts in place of numbers": (
        lambda f: (
            f.__delitem__("data/demo_1/obs/eef"),
            f.create_dataset("data/demo_1/obs/eef", data=[b"x"] * 25),
        ),
        "in '/data/demo_1' {as_first}, found no obs/eef",
    ),
    "other sizes": (
        lambda f: (
            f.__delitem__("data/demo_1/obs/eef"),
            f.create_dataset("data/demo_1/obs/eef", (25, 2), "f4"),
        ),
        "expected '/data/demo_1/obs/eef' to have 25 rows of 3 numbers",
    ),
}


@pytest.mark.parametrize("fault", list(OTHER_NUMBERS))
def test_every_episode_has_the_numbers_of_the_first(
    fault: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = layouts.robomimic(place / "demo.hdf5", demos(UNEQUAL))
    damage, expected = OTHER_NUMBERS[fault]
    with h5py.File(path, "a") as file:
        damage(file)
    as_first = "the numbers that the first episode has in 'obs'"
    refused(imported(path), capsys, expected.format(as_first=as_first))


def test_what_was_not_chosen_may_differ(place: Path) -> None:
    episodes = demos(UNEQUAL)
    path = layouts.robomimic(place / "demo.hdf5", episodes)
    with h5py.File(path, "a") as file:
        del file["data/demo_0/obs/cube"], file["data/demo_1/rewards"]
        file["data/demo_2/obs/extra"] = np.zeros(10)
    assert imported(path, "--state", "obs/eef") == 0
    check_written([(states[:, 1:], actions) for states, actions in episodes])


def test_every_episode_of_minari_has_the_numbers_of_the_first(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = layouts.minari(place / "source", demos(UNEQUAL))
    with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
        for name, group in file.items():
            states = group["observations"][:]
            del group["observations"]
            group["observations/goal/at"], group["observations/own"] = states[:, :2], states[:, 2:]
            if name == "episode_3":
                del group["observations/goal/at"]
    expected = "in '/episode_3' the numbers that the first episode has in 'observations', found no observations/goal/at"
    refused(imported(path, "--fps", FPS), capsys, expected)


def test_what_was_asked_for_must_be_there_and_fit(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = layouts.robomimic(place / "demo.hdf5", demos(UNEQUAL))
    there = "The source has actions (1), dones (1), obs/cube (1), obs/eef (3), rewards (1), states (7)."
    refused(imported(path, "--state", "obs/arm"), capsys, f"expected keys of the source, found 'obs/arm'. {there}")
    refused(imported(path, "--state", "obs,obs/eef"), capsys, "expected each key once")
    refused(imported(path, "--task", "pendulum", "--state", "states"), capsys, "expected the 4 numbers of the task")
    refused(imported(path, "--task", "reacher"), capsys, "of the task 'reacher'")
    refused(imported(path, "--fps", 30), capsys, "expected one rate of frames, found 25 of the source, 30 of --fps")
    refused(imported(path, "--format", "zarr"), capsys, "expected auto or one of lerobot, minari, robomimic, npz")
    refused(imported(place / "nothing"), capsys, "expected demonstrations, found nothing there")
    refused(imported(path, name="reacher"), capsys, "expected another name than a task's")
    refused(imported(path, name="../mine"), capsys, "expected data/NAME")
    for name in ("h5py", "h5py._hl"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    refused(imported(path), capsys, "h5py is not installed. Install it: pip install -e '.[hdf5]'")


def test_what_a_data_set_cannot_tell_is_refused_before_its_episodes_are_read(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_data, "import_data", None)  # what reads them
    odd = layouts.npz(place / "od\td.npz", demos(UNEQUAL))
    refused(imported(odd, "--fps", 30), capsys, "data set 'mine': expected what dataset.json can hold, found a source")
    wide = layouts.npz(place / "wide.npz", demos((12,), state_dim=9990, action_dim=11))
    refused(imported(wide, "--fps", 30), capsys, "found 10,001 channels of state and action, of at most 10,000")
    path = layouts.npz(place / "demo.npz", demos(UNEQUAL))
    refused(imported(path, "--fps", "1e-30"), capsys, "control_seconds: expected seconds above 0, found 9.99")


def test_an_existing_data_set_is_not_replaced(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = layouts.lerobot_v3(place / "source", demos(UNEQUAL))
    assert imported(path) == 0
    before = {each: each.read_bytes() for each in (place / "data/mine").iterdir()}
    capsys.readouterr()
    assert imported(path) == 2
    assert "expected a data set that is not there yet, found 'data/mine'" in capsys.readouterr().err
    assert {each: each.read_bytes() for each in (place / "data/mine").iterdir()} == before


def test_what_may_be_meant_is_a_warning(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    episodes = demos((12, 9, 15, 3, 12))
    episodes[4] = (episodes[0][0].copy(), episodes[0][1].copy())
    for states, _ in episodes:
        states[:, 2] = 0.25
    episodes[2][1][3] = -3.5
    path = layouts.lerobot_v3(place / "source", episodes, names=NAMES)
    assert imported(path, "--task", "pendulum") == 0
    warnings = re.findall("^warning +(.*)$", capsys.readouterr().out, re.MULTILINE)
    assert warnings == [
        "episodes shorter than a chunk of 10 frames, left out: 2, the first episode 1 with 9; "
        "a smaller --horizon keeps them",
        "copies of other episodes, left out: 1, the first episode 4 of episode 0",
        "constant in all frames: v",
        "episodes with actions beyond the task's limits, which the simulator applies clipped: 1, the first episode 2 "
        "with -3.5, the limit is -3, in force",
    ]
    check_written([episodes[0], episodes[2]])


def warned(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return re.findall("^warning +(.*)$", capsys.readouterr().out, re.MULTILINE)


def test_channels_of_a_task_are_put_in_its_order_by_their_names(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    episodes = demos(UNEQUAL)
    names = {"observation.state": ["theta", "x", "omega", "v"], "action": ["force"]}
    path = layouts.lerobot_v3(place / "source", episodes, names=names)
    assert imported(path, "--task", "pendulum") == 0
    shown = capsys.readouterr().out
    assert "observation.state: theta, x, omega, v, put in the order x, theta, v, omega\n" in shown
    assert "warning" not in shown
    check_written([(states[:, [1, 0, 3, 2]], actions) for states, actions in episodes])
    assert imported(path, name="own") == 0  # in its own order, without a task
    check_written(episodes, name="own")


def test_channels_of_other_names_than_a_task_s_are_warned_of(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    episodes = demos(UNEQUAL)
    names = {"observation.state": ["theta", "x", "omega", "speed"], "action": ["torque"]}
    path = layouts.lerobot_v3(place / "source", episodes, names=names)
    assert imported(path, "--task", "pendulum") == 0
    shown = capsys.readouterr().out
    assert "observation.state: theta, x, omega, speed\n" in shown and "action: torque\n" in shown
    assert re.findall("^warning +(.*)$", shown, re.MULTILINE) == [
        "state: the source's theta, x, omega, speed are taken, in this order, for the task's x, theta, v, omega",
        "action: the source's torque are taken, in this order, for the task's force",
    ]
    check_written(episodes)
    assert imported(layouts.robomimic(place / "demo.hdf5", episodes), "--task", "pendulum", name="unnamed") == 0
    assert warned(capsys) == []


def test_numbers_beyond_the_limits_that_a_source_states_are_warned_of(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    episodes = demos(UNEQUAL)
    assert imported(layouts.robomimic(place / "good.hdf5", episodes), name="good") == 0
    assert warned(capsys) == []
    episodes[1][1][3], episodes[4][1][0], episodes[2][0][2, 3] = -5, 1.5, 7
    expected = "episodes with numbers beyond the limits that the source states: "
    assert imported(layouts.robomimic(place / "demo.hdf5", episodes), name="demo") == 0
    assert warned(capsys) == [f"{expected}2, the first demo_1 with -5, the limit is -1, in actions"]
    box = {"type": "Box", "dtype": "float32", "shape": [1], "low": [-1.0], "high": [1.5]}
    seen = {"type": "Box", "shape": [4], "low": [-np.inf] * 4, "high": [np.inf, 1.7e308, 3e38, 2.0]}
    path = layouts.minari(place / "box", episodes, action_space=json.dumps(box), observation_space=json.dumps(seen))
    assert imported(path, "--fps", FPS, name="box") == 0
    assert warned(capsys) == [f"{expected}2, the first episode_1 with -5, the limit is -1, in actions"]
    assert imported(path, "--fps", FPS, "--task", "pendulum", name="task") == 0  # its limits count: 3
    (line,) = warned(capsys)
    assert line.endswith("clipped: 1, the first episode_1 with -5, the limit is -3, in force")


def test_spaces_of_minari_limit_what_they_describe(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    episodes = demos((12, 12), action_dim=2)
    path = layouts.minari(place / "source", episodes)
    with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
        for group in file.values():
            actions = group["actions"][:]
            del group["actions"]
            group["actions/_index_0"], group["actions/_index_1/arm"] = actions[:, :1], actions[:, 1:] * 3
    box = {"type": "Box", "shape": [1], "low": [-2.0], "high": [2.0]}
    arm = {"type": "Dict", "subspaces": {"arm": box}}
    of_three = {"type": "Tuple", "subspaces": [box | {"low": [-1.0] * 3, "high": [1.0] * 3}]}
    text = path / "data" / "metadata.json"
    for space, expected in (
        (json.dumps(of_three), "'action_space' to limit the 1 numbers of 'actions/_index_0', found limits of 3"),
        (json.dumps(arm | {"subspaces": {"_index_0": box | {"low": ["x"]}}}), "'action_space' to be a space, as JSON"),
        ("[" * 100_000, "'action_space' to be a space, as JSON"),
    ):
        edit(text, lambda facts, space=space: facts.update(action_space=space))  # type: ignore[misc]
        refused(imported(path, "--fps", FPS), capsys, expected)
    space = json.dumps({"type": "Tuple", "subspaces": [box, arm, {"type": "Discrete", "n": 2, "start": 0}]})
    edit(text, lambda facts: facts.update(action_space=space))
    assert imported(path, "--fps", FPS) == 0
    (line,) = warned(capsys)
    assert "beyond the limits that the source states: 2, the first episode_0 with " in line
    assert re.search("the limit is -?2, in arm$", line)


def test_other_arrays_of_three_axes_are_ignored(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    episodes = demos((20,) * 5)
    more = {"camera": np.zeros((7, 3, 3)), "mine": episodes[0][0][None], "other": np.zeros((7, 3, 1))}
    path = layouts.npz(place / "demos.npz", episodes, **more)
    assert imported(path, "--fps", FPS) == 0
    assert re.search("^ignored +camera, mine, other$", capsys.readouterr().out, re.MULTILINE)
    check_written(episodes)
    renamed = {"a": episodes[0][0][None], "b": episodes[0][1][None], "c": np.zeros((7, 3, 3))}
    np.savez(place / "named.npz", **renamed)
    assert imported(place / "named.npz", "--fps", FPS, "--state", "a", "--action", "b", name="named") == 0
    check_written(episodes[:1], name="named")


def test_every_format_is_found_by_itself(place: Path) -> None:
    for format, write in WRITERS.items():
        path = write(place / format, demos((12, 12)))
        assert registry.recognise(path) == format.split()[0]
    assert registry.recognise(place / "minari" / "data" / "main_data.hdf5") == "minari"


# Memory


def peak(work: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        assert work() != 2
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_source(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "BLOCK", 1000)
    here = lambda path, work, watch=lambda done: None: work(watch)  # noqa: E731
    monkeypatch.setattr(import_data, "apart", here)  # in this process, where memory is traced
    peaks = []
    for count in (130, 130, 650):  # the first imports libraries too; a zip is checked a MiB at a time
        path = layouts.npz(place / f"{count}.npz", demos([40] * count, 40, 20))
        name = f"set_{len(peaks)}"
        peaks.append(peak(lambda path=path, name=name: imported(path, "--fps", FPS, name=name)))  # type: ignore[misc]
    assert (place / "data/set_2/trajectories.npz").stat().st_size > 6_000_000
    assert peaks[2] < peaks[1] + 300_000, peaks


def test_hdf5_keeps_little_of_many_groups(place: Path) -> None:
    def kept(file: Any) -> int:
        """Bytes that the library may keep, after reading all groups."""
        assert all(file[name].attrs["count"] == file[name]["x"][0] for name in file)
        size: int = file.id.get_mdc_size()[0]
        return size

    with h5py.File(place / "many.hdf5", "w") as file:
        for number in range(2000):
            group = file.create_group(str(number))
            group.attrs["count"], group["x"] = number, [number]
    with h5py.File(place / "many.hdf5") as file:
        assert kept(file) > hdf5.CACHE
    with hdf5.opened(place / "many.hdf5") as file:
        assert kept(file) == hdf5.CACHE


def test_hdf5_reads_the_names_of_a_group_once(place: Path) -> None:
    """Where they do not fit among what is kept, each look-up reads all: minutes became hours with 400,000 episodes."""

    def hits(file: Any) -> float:
        """The share of what look-ups need that the library has kept."""
        names = random.Random(0).sample(list(file), 50)
        file.id.reset_mdc_hit_rate_stats()
        assert all(hdf5.child(place / "names.hdf5", file, name)[()] == 1 for name in names)
        rate: float = file.id.get_mdc_hit_rate()
        return rate

    with h5py.File(place / "names.hdf5", "w") as file:
        file["x"] = 1
        for number in range(8000):
            file[f"{number:0400}"] = file["x"]
    with hdf5.opened(place / "names.hdf5") as file:
        before = hits(file)
        hdf5.make_room(file)
        assert hits(file) > before + 0.2


def test_loading_copies_nothing(place: Path) -> None:
    assert imported(layouts.npz(place / "demos.npz", demos([200] * 60, 4, 2)), "--fps", FPS, "--every", 1) == 0
    path = place / "data/mine/training_pairs_original.npz"
    load_action_pairs(path)
    assert peak(lambda: load_action_pairs(path)) < 1.3 * path.stat().st_size + 2_000_000


# The layout of unequal lengths


def test_ends_of_episodes_are_checked(place: Path) -> None:
    states, actions = np.zeros((10, 4), np.float32), np.ones((10, 1), np.float32)
    for ends in ([0, 10], [5, 5, 10], [5, 9], [5, 11], [-(2**63), 2**63 - 1, 10]):
        write_npz(place / "t.npz", {"states": states, "actions": actions, "episode_ends": np.array(ends)}, {})
        with pytest.raises(DataError, match="'episode_ends' must increase"):
            load_trajectories(place / "t.npz")
    write_npz(place / "t.npz", {"states": states, "actions": actions, "episode_ends": np.array([3, 10])}, {})
    found = load_trajectories(place / "t.npz")
    assert [len(each) for each, _ in found.episodes()] == [3, 7] and found.gains.shape == (2, 0)


def test_collected_files_stay_as_they_are(place: Path) -> None:
    record = Trajectories(
        np.zeros((2, 5, 4), np.float32), np.ones((2, 5, 1), np.float32), np.ones((2, 6), np.float32), {}
    )
    save_trajectories(place / "t.npz", record)
    with np.load(place / "t.npz") as file:
        assert file.files == ["states", "actions", "gains", "metadata"] and file["states"].shape == (2, 5, 4)
    assert [states.shape for states, _ in load_trajectories(place / "t.npz").episodes()] == [(5, 4), (5, 4)]


# Libraries that crash


def test_a_library_that_crashes_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = layouts.npz(place / "demos.npz", demos(UNEQUAL))
    for where, function in ((npz_source, "check_zip"), (import_data, "spool")):
        with monkeypatch.context() as patch:
            patch.setattr(where, function, Crash())
            refused(
                imported(path, "--fps", FPS), capsys, f"{path}: expected data that can be read, found data on which"
            )


class Crash:
    """Ends the process as an abort in C++ does, whatever is asked of it."""

    def __call__(self, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def __getattr__(self, name: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


# Training


def test_a_model_trains_on_it(data: Path, place: Path) -> None:
    found = load_trajectories(data / "trajectories.npz")
    path = layouts.lerobot_v3(place / "source", list(zip(found.states, found.actions, strict=True)), per_file=20)
    assert imported(path, "--task", "pendulum", "--horizon", 50) == 0
    put_store(place)
    words = ["--pairs", "data/mine/training_pairs_original.npz", "--epochs", "1", "--width", "8", "--layers", "1"]
    done = warm.run(place, ["-m", "train.train_pi0", *words], environment())
    assert done.returncode == 0, done.stderr
    assert len(list(place.glob("train/trained_models/*.pth"))) == 1


@pytest.mark.slow(seconds=15)
def test_the_commands_of_the_page(place: Path) -> None:
    text = (ROOT / "docs" / "how-to" / "import_data.md").read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    put_store(place)
    script = "set -e\n" + "".join(blocks).replace("--epochs 1", "--epochs 1 --width 8 --layers 1")
    env = environment(PATH=f"{Path(warm.python()).parent}:{os.environ['PATH']}")
    done = subprocess.run(["bash", "-c", script], cwd=place, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert sorted(each.name for each in (place / "data").iterdir() if each.is_dir()) == ["arm", "few", "imported"]
    arm = load_trajectories(place / "data/arm/trajectories.npz")
    assert arm.episode_ends is not None and len(arm.episode_ends) == 20 and arm.states.shape[1] == 6
