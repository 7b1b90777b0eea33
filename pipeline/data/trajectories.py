"""Demonstrations: their record, their quality checks, and the training pairs cut from them.

Shapes: N trajectories of T steps, H horizon of a chunk, S state, A action.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.npz import read_npz, require, write_npz
from pipeline.data.pairs import ActionPairs
from pipeline.errors import DataError

HORIZON = 50
PAIR_STEPS = (*range(9), *range(10, 25, 2), *range(27, 49, 3))
"""The steps of a trajectory that start a chunk: dense while the pendulum still moves (reference system: 25 of them)."""
REBUILD = "python -m pipeline collect"


@dataclass(frozen=True)
class Trajectories:
    """N demonstrations: the state that each action was chosen in, and the action without noise."""

    states: NDArray[np.float32]  # (N, T, S)
    actions: NDArray[np.float32]  # (N, T, A)
    gains: NDArray[np.float32]  # (N, G), the demonstrator's gains, drawn per trajectory
    metadata: dict[str, Any]


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


def cut_pairs(trajectories: Trajectories, metadata: dict[str, Any]) -> ActionPairs:
    """Pair the states at PAIR_STEPS with the next HORIZON actions, ordered by trajectory."""
    count, steps, _ = trajectories.actions.shape
    if steps < PAIR_STEPS[-1] + HORIZON:
        raise DataError(
            f"trajectories: expected at least {PAIR_STEPS[-1] + HORIZON} steps each, to cut chunks of {HORIZON} "
            f"actions from step {PAIR_STEPS[-1]}; found {steps}. Collect longer trajectories."
        )
    starts = np.array(PAIR_STEPS)
    windows = starts[:, None] + np.arange(HORIZON)  # (P, H)
    chunks = trajectories.actions[:, windows]  # (N, P, H, A)
    return ActionPairs(
        state=trajectories.states[:, starts].reshape(count * len(starts), -1),
        action_chunk=chunks.reshape(count * len(starts), HORIZON, -1),
        trajectory=np.repeat(np.arange(count), len(starts)),
        step=np.tile(starts, count),
        metadata=metadata,
    )
