"""A policy's plans compared with the expert's chunks from the same states.

Shapes: N chunks, H horizon, A action, S state.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.methods.method import Plans

Floats = NDArray[np.float32]

COMPARED, EXAMPLES = 2000, 4


@dataclass(frozen=True)
class ChunkErrors:
    """Errors of plans against the expert's chunks, in action units, and a few examples of both."""

    mae: float
    mse: float
    mae_by_step: NDArray[np.float64]  # (H,)
    states: Floats  # (EXAMPLES, S)
    expert: Floats  # (EXAMPLES, H, A)
    planned: Floats  # (EXAMPLES, H, A)


def spread(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return at most `count` of `rows (N,)`, evenly spaced."""
    return rows[np.arange(min(count, len(rows))) * len(rows) // min(count, len(rows))]


def compare_chunks(plan: Callable[[NDArray[np.float64]], Plans], states: Floats, chunks: Floats) -> ChunkErrors:
    """Plan for `states (N, S)` of the test split, and compare with the expert's `chunks (N, H, A)`."""
    planned = plan(states.astype(np.float64)).actions
    error = (planned - chunks).astype(np.float64)
    shown = spread(np.arange(len(states)), EXAMPLES)
    return ChunkErrors(
        mae=float(np.abs(error).mean()),
        mse=float(np.square(error).mean()),
        mae_by_step=np.abs(error).mean((0, 2)),
        states=states[shown],
        expert=chunks[shown],
        planned=planned[shown],
    )
