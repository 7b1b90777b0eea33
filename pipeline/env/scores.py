"""What an episode is worth: the reference system's scores, per episode."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.env.pendulum import Array, fallen

CALM_ANGLE = 0.02  # rad
CALM_STEPS = 10


@dataclass(frozen=True)
class Scores:
    """One row an episode, arrays `(B,)`."""

    success: NDArray[np.bool_]  # no fall in any step
    converged: NDArray[np.bool_]  # |angle| < CALM_ANGLE for CALM_STEPS steps in a row, fallen episodes included
    converge_step: NDArray[np.int64]  # first of those steps; -1 where there are none
    velocity_std: Array  # m/s, of the cart, over the episode


def score(states: Array) -> Scores:
    """Score episodes given their states `(B, T, S)`: the T states in which an action was due.

    An episode ends where the pole falls: what comes after neither converges nor counts for the velocity.
    """
    ended = np.logical_or.accumulate(fallen(states), axis=1)
    calm = (np.abs(states[..., 1]) < CALM_ANGLE) & ~ended
    windows: NDArray[np.bool_] = np.lib.stride_tricks.sliding_window_view(calm, CALM_STEPS, axis=1)
    runs = np.asarray(windows.all(axis=-1))
    converged = np.asarray(runs.any(axis=1))
    return Scores(
        success=~ended[:, -1],
        converged=converged,
        converge_step=np.where(converged, runs.argmax(1), -1),
        velocity_std=states[..., 2].std(1, where=~ended),
    )
