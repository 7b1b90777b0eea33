"""Demonstrations: their record, their quality checks, and the training pairs cut from them.

Shapes: N trajectories of T steps, H horizon of a chunk, S state, A action.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.npz import read_npz, require, write_npz
from pipeline.data.pairs import ActionPairs
from pipeline.errors import DataError

REBUILD = "python -m pipeline collect"


@dataclass(frozen=True)
class Trajectories:
    """N demonstrations: the state that each action was chosen in, and the action without noise."""

    states: NDArray[np.float32]  # (N, T, S)
    actions: NDArray[np.float32]  # (N, T, A)
    gains: NDArray[np.float32]  # (N, G), the demonstrator's variation, drawn per trajectory: gains, sides
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Episodes:
    """N episodes laid end to end: F frames in all."""

    states: NDArray[np.float32]  # (F, S)
    actions: NDArray[np.float32]  # (F, A)
    ends: NDArray[np.int64]  # (N,), of each episode the number of the frame after its last


def save_trajectories(path: Path, trajectories: Trajectories) -> None:
    """Write the record to an `.npz` file with the keys states, actions, gains, metadata."""
    arrays = {"states": trajectories.states, "actions": trajectories.actions, "gains": trajectories.gains}
    write_npz(path, arrays, trajectories.metadata)


def load_trajectories(path: Path) -> Trajectories:
    """Read the record; raises `DataError` on a missing, damaged or ill-shaped file."""
    arrays, metadata = read_npz(path, REBUILD)
    states = require(path, arrays, "states", (None, None, None), "f", REBUILD)
    actions = require(path, arrays, "actions", (*states.shape[:2], None), "f", REBUILD)
    gains = require(path, arrays, "gains", (len(states), None), "f", REBUILD)
    return Trajectories(states, actions, gains, metadata)


def episodes_of(trajectories: Trajectories) -> Episodes:
    """Lay trajectories end to end."""
    count, steps, _ = trajectories.actions.shape
    states, actions = (each.reshape(count * steps, -1) for each in (trajectories.states, trajectories.actions))
    return Episodes(states, actions, np.arange(1, count + 1) * steps)


def cut_pairs(
    trajectories: Trajectories, pair_steps: Sequence[int], horizon: int, metadata: dict[str, Any]
) -> ActionPairs:
    """Pair the states at `pair_steps` with the next `horizon` actions, ordered by trajectory; raises `DataError`."""
    count, steps, _ = trajectories.actions.shape
    if steps < pair_steps[-1] + horizon:
        raise DataError(
            f"trajectories: expected at least {pair_steps[-1] + horizon} steps each, to cut chunks of {horizon} "
            f"actions from step {pair_steps[-1]}; found {steps}. Collect longer trajectories."
        )
    starts = np.array(pair_steps)
    windows = starts[:, None] + np.arange(horizon)  # (P, H)
    chunks = trajectories.actions[:, windows]  # (N, P, H, A)
    return ActionPairs(
        state=trajectories.states[:, starts].reshape(count * len(starts), -1),
        action_chunk=chunks.reshape(count * len(starts), horizon, -1),
        trajectory=np.repeat(np.arange(count), len(starts)),
        step=np.tile(starts, count),
        metadata=metadata,
    )
