"""Demonstrations: their record, their quality checks, and the training pairs cut from them.

Shapes: N trajectories of T steps, H horizon of a chunk, S state, A action.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.npz import read_npz, require, write_npz
from pipeline.data.pairs import ActionPairs, load_task
from pipeline.errors import DataError
from pipeline.tasks.dataset import maker_of
from pipeline.tasks.facts import UNKNOWN, TaskFacts


@dataclass(frozen=True)
class Trajectories:
    """N demonstrations: the state that each action was chosen in, and the action without noise."""

    states: NDArray[np.float32]  # (N, T, S); (F, S), all frames end to end, where there are `episode_ends`
    actions: NDArray[np.float32]  # (N, T, A) or (F, A)
    gains: NDArray[np.float32]  # (N, G), the demonstrator's variation, drawn per trajectory: gains, sides; G may be 0
    metadata: dict[str, Any]
    episode_ends: NDArray[np.int64] | None = None
    """`(N,)`: the number of frames up to the end of each, where they are not of one length."""
    task: TaskFacts = UNKNOWN

    def episodes(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Each demonstration: `states (T, S)`, `actions (T, A)`, without a copy."""
        if self.episode_ends is None:
            yield from zip(self.states, self.actions, strict=True)
            return
        for first, last in pairwise([0, *self.episode_ends.tolist()]):
            yield self.states[first:last], self.actions[first:last]

    def end_to_end(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """All demonstrations as `states (F, S)`, `actions (F, A)` and the ends `(N,)` of each, without a copy."""
        if self.episode_ends is not None:
            return self.states, self.actions, self.episode_ends
        count, steps, _ = self.actions.shape
        states, actions = (each.reshape(count * steps, -1) for each in (self.states, self.actions))
        return states, actions, np.arange(1, count + 1) * steps


def save_trajectories(path: Path, trajectories: Trajectories) -> None:
    """Write the record to an `.npz` file with the keys states, actions, gains, metadata."""
    assert trajectories.episode_ends is None  # those are imported, and written in pieces
    arrays = {"states": trajectories.states, "actions": trajectories.actions, "gains": trajectories.gains}
    write_npz(path, arrays, trajectories.metadata)


def load_trajectories(path: Path) -> Trajectories:
    """Read the record; raises `DataError` on a missing, damaged or ill-shaped file."""
    rebuild = maker_of(path)
    arrays, metadata = read_npz(path, rebuild)
    flat = "episode_ends" in arrays
    states = require(path, arrays, "states", (None,) * (2 if flat else 3), "f", rebuild)
    actions = require(path, arrays, "actions", (*states.shape[:-1], None), "f", rebuild)
    ends = require(path, arrays, "episode_ends", (None,), "i", rebuild).astype(np.int64) if flat else None
    if ends is not None:
        check_ends(path, ends, len(states))
    count = len(states) if ends is None else len(ends)
    if "gains" in arrays:
        gains = require(path, arrays, "gains", (count, None), "f", rebuild)
    else:  # of other demonstrators
        gains = np.empty((count, 0), np.float32)
    return Trajectories(states, actions, gains, metadata, ends, load_task(path, metadata, rebuild))


def check_ends(path: Path, ends: NDArray[np.int64], frames: int) -> None:
    """Raise `DataError` unless `ends (N,)` increase from above 0 to the number of frames."""
    rising = bool((ends[1:] > ends[:-1]).all())
    if ends[0] < 1 or not rising or ends[-1] != frames:
        raise DataError(
            f"{path}: 'episode_ends' must increase, from above 0 to the number of frames {frames:,}; "
            f"found {ends[0]:,} to {ends[-1]:,}{'' if rising else ', not increasing'}."
        )


def cut_pairs(
    trajectories: Trajectories,
    pair_steps: Sequence[int],
    horizon: int,
    metadata: dict[str, Any],
    lengths: NDArray[np.int64] | None = None,
) -> ActionPairs:
    """Pair the states at `pair_steps` with the next `horizon` actions, ordered by trajectory; raises `DataError`.

    `lengths (N,)` are the steps before each episode's end, None for all. No pair starts at or after the end: a policy
    is not asked there. A chunk may pass it, or the last actions before it would never be learned: the demonstrator
    went on acting, and what it did is a plan like any other, of which only the part before the end is carried out.
    """
    count, steps, _ = trajectories.actions.shape
    if steps < pair_steps[-1] + horizon:
        raise DataError(
            f"trajectories: expected at least {pair_steps[-1] + horizon} steps each, to cut chunks of {horizon} "
            f"actions from step {pair_steps[-1]}; found {steps}. Collect longer trajectories."
        )
    starts = np.array(pair_steps)
    windows = starts[:, None] + np.arange(horizon)  # (P, H)
    chunks = trajectories.actions[:, windows]  # (N, P, H, A)
    before = slice(None) if lengths is None else (starts < lengths[:, None]).reshape(-1)
    pairs = ActionPairs(
        state=trajectories.states[:, starts].reshape(count * len(starts), -1)[before],
        action_chunk=chunks.reshape(count * len(starts), horizon, -1)[before],
        trajectory=np.repeat(np.arange(count), len(starts))[before],
        step=np.tile(starts, count)[before],
        metadata=metadata,
    )
    if not len(pairs.state):
        raise DataError(
            f"trajectories: expected pairs from step {pair_steps[0]} on, found that all episodes are over before. "
            "Choose earlier pair_steps, or starts that are further from the end."
        )
    return pairs
