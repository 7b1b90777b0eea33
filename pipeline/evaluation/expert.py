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
    mae_by: NDArray[np.float64]  # (H, A)
    states: Floats  # (EXAMPLES, S)
    expert: Floats  # (EXAMPLES, H, A)
    planned: Floats  # (EXAMPLES, H, A)
    rebuilt_mae_by: NDArray[np.float64] | None = None  # (H, A), of the expert's chunks through the tokenizer

    @property
    def mae_by_step(self) -> NDArray[np.float64]:
        """The mean over the dimensions, `(H,)`."""
        mean: NDArray[np.float64] = self.mae_by.mean(1)
        return mean


def evenly_spaced(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return at most `count` of `rows (N,)`, evenly spaced."""
    return rows[np.arange(min(count, len(rows))) * len(rows) // min(count, len(rows))]


def compare_chunks(plan: Callable[[NDArray[np.float64]], Plans], states: Floats, chunks: Floats) -> ChunkErrors:
    """Plan for `states (N, S)` of the test split, and compare with the expert's `chunks (N, H, A)`."""
    return chunk_errors(plan(states.astype(np.float64)).actions, states, chunks)


def chunk_errors(planned: Floats, states: Floats, chunks: Floats, rebuilt: Floats | None = None) -> ChunkErrors:
    """Compare plans from `states (N, S)`, and the expert's chunks as a tokenizer rebuilds them, with `chunks`."""
    error = (planned - chunks).astype(np.float64)
    shown = evenly_spaced(np.arange(len(states)), EXAMPLES)
    return ChunkErrors(
        mae=float(np.abs(error).mean()),
        mse=float(np.square(error).mean()),
        mae_by=np.abs(error).mean(0),
        states=states[shown],
        expert=chunks[shown],
        planned=planned[shown],
        rebuilt_mae_by=None if rebuilt is None else np.abs((rebuilt - chunks).astype(np.float64)).mean(0),
    )
