"""Collecting, pairs, split, normalisation and their files."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.data.normalisation import Normalisation
from pipeline.data.npz import read_npz, read_shapes, write_npz
from pipeline.data.pairs import load_action_pairs, load_token_pairs, save_action_pairs
from pipeline.data.split import split_pairs
from pipeline.data.trajectories import cut_pairs, load_trajectories
from pipeline.errors import DataError
from pipeline.files import file_digest, whole_file
from pipeline.stages.collect import collect
from pipeline.stages.settings import CollectSettings
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.pendulum.demonstrator import find_faults
from tests.conftest import SMALL_TRAJECTORIES


def test_collected_files(data: Path) -> None:
    trajectories = load_trajectories(data / "trajectories.npz")
    assert trajectories.states.shape == (SMALL_TRAJECTORIES, 100, 4)
    assert trajectories.actions.shape == (SMALL_TRAJECTORIES, 100, 1)
    assert trajectories.gains.shape == (SMALL_TRAJECTORIES, 6)
    assert {"seed", "versions", "refused", "action_noise"} <= trajectories.metadata.keys()
    assert np.abs(trajectories.states[:, 0]).max() <= 0.5 and np.abs(trajectories.actions).max() <= 3
    with np.load(data / "training_pairs_original.npz") as file:  # the reference system's keys and shapes
        assert file["state"].shape == (SMALL_TRAJECTORIES * 25, 4)
        assert file["action_chunk"].shape == (SMALL_TRAJECTORIES * 25, 50)


def test_pairs_are_cut_where_they_should_be(data: Path) -> None:
    trajectories = load_trajectories(data / "trajectories.npz")
    pairs = load_action_pairs(data / "training_pairs_original.npz")
    assert PENDULUM.pair_steps == (
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        10,
        12,
        14,
        16,
        18,
        20,
        22,
        24,
        27,
        30,
        33,
        36,
        39,
        42,
        45,
        48,
    )
    for row in (0, 24, 25, 777):
        trajectory, step = pairs.trajectory[row], pairs.step[row]
        assert_array_equal(pairs.state[row], trajectories.states[trajectory, step])
        assert_array_equal(pairs.action_chunk[row], trajectories.actions[trajectory, step : step + 50])


def test_same_seed_same_bytes_other_seed_others(data: Path, tmp_path: Path) -> None:
    for seed, equal in ((0, True), (1, False)):
        collect(CollectSettings(trajectories=SMALL_TRAJECTORIES, seed=seed, threads=1, out=tmp_path / str(seed)))
        for name in ("trajectories.npz", "training_pairs_original.npz"):
            assert (file_digest(data / name) == file_digest(tmp_path / str(seed) / name)) == equal


def test_faulty_trajectories_are_found() -> None:
    states, actions = np.zeros((4, 100, 4)), np.zeros((4, 100, 1))
    states[1, 60, 1] = 1.0
    states[2, :, 1] = 0.1
    actions[3, 5] = np.nan
    faults = find_faults(states, actions)
    assert {name: found.tolist().index(True) for name, found in faults.items()} == {
        "fallen": 1,
        "not converged": 2,
        "not finite": 3,
    }
    assert not any(found[0] for found in faults.values())


def test_refused_trajectories_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # so strict that some real ones do not converge
    monkeypatch.setattr("pipeline.tasks.pendulum.scores.CONVERGE_STEPS", 62)
    made = collect(CollectSettings(trajectories=40, out=tmp_path))
    assert made.refused["not converged"] > 0
    assert load_trajectories(tmp_path / "trajectories.npz").metadata["refused"] == made.refused
    assert made.pairs == 40 * 25


def test_plots_are_drawn(tmp_path: Path) -> None:
    made = collect(CollectSettings(trajectories=10, plots=2, out=tmp_path))
    pictures = [path for path in made.files if path.suffix == ".png"]
    assert len(pictures) == 2 and all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


@given(st.integers(10, 300), st.integers(1, 5))
def test_split_is_by_trajectory_and_complete(trajectories: int, pairs_each: int) -> None:
    trajectory = np.repeat(np.arange(trajectories), pairs_each)
    split = split_pairs(trajectory, len(trajectory))
    parts = [set(trajectory[rows]) for rows in (split.train, split.val, split.test)]
    assert sum(map(len, parts)) == trajectories == len(set.union(*parts))
    assert len(parts[1]) == len(parts[2]) == trajectories // 10
    assert_array_equal(np.sort(np.concatenate((split.train, split.val, split.test))), np.arange(len(trajectory)))


def test_both_methods_share_one_split(data: Path) -> None:
    actions = load_action_pairs(data / "training_pairs_original.npz")
    tokens = load_token_pairs(data / "training_pairs_fast.npz")
    one, other = (split_pairs(pairs.trajectory, len(pairs.state)) for pairs in (actions, tokens))
    assert one.digest == other.digest and one.by_trajectory
    assert one.digest != split_pairs(np.arange(61), 61).digest


def test_too_few_trajectories() -> None:
    with pytest.raises(DataError, match=r"at least 10 trajectories.*found 9"):
        split_pairs(np.repeat(np.arange(9), 3), 27)


@pytest.mark.parametrize("action_dim", [1, 3])
def test_pairs_round_trip_for_any_action_dim(tmp_path: Path, data: Path, action_dim: int) -> None:
    pairs = load_action_pairs(data / "training_pairs_original.npz")
    chunk = np.repeat(pairs.action_chunk, action_dim, axis=2)
    save_action_pairs(tmp_path / "pairs.npz", dataclasses.replace(pairs, action_chunk=chunk))
    assert_array_equal(load_action_pairs(tmp_path / "pairs.npz").action_chunk, chunk)


def test_short_trajectories_cannot_be_cut(data: Path) -> None:
    trajectories = load_trajectories(data / "trajectories.npz")
    short = dataclasses.replace(trajectories, states=trajectories.states[:, :90], actions=trajectories.actions[:, :90])
    with pytest.raises(DataError, match="at least 98 steps"):
        cut_pairs(short, PENDULUM.pair_steps, 50, {})


def test_shapes_are_read_without_the_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_npz(path, {"x": np.zeros((3, 0, 2)), "y": np.full(9999, 7)}, {"seed": 1})
    whole = path.read_bytes()
    path.write_bytes(whole.replace(np.full(9999, 7).tobytes(), np.full(9999, 8).tobytes()))
    assert read_shapes(path) == {"x": (3, 0, 2), "y": (9999,)}
    with pytest.raises(DataError, match=r"a\.npz: expected an \.npz file.* found a damaged or foreign file"):
        read_npz(path, "remake")
    for damaged in (b"", whole[:-9], whole.replace(b"(3, 0, 2)", b"(3, 9, 2)")):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.npz: expected an \.npz file of plain arrays, found"):
            read_shapes(path)


def test_normalisation() -> None:
    values = np.random.default_rng(0).normal(5, 3, (1000, 2)).astype(np.float32)
    values[:, 1] = 7  # a dimension that never moves
    normal = Normalisation.of(values)
    assert_allclose(normal.apply(values).mean(0), [0, 0], atol=1e-5)
    assert_allclose(normal.apply(values).std(0), [1, 0], atol=1e-5)
    assert_allclose(normal.invert(normal.apply(values)), values, atol=1e-5)


def test_whole_file_keeps_the_old_one_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]
