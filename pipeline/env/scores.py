"""The scores of an episode: the reference system's, and a few more."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.env.pendulum import ACTION_LIMIT, Array, fallen

CALM_ANGLE = 0.02  # rad
CALM_STEPS = 10


@dataclass(frozen=True)
class Scores:
    """Arrays `(B,)`, one row per episode. An episode ends when the pole falls; later steps are ignored."""

    success: NDArray[np.bool_]  # no fall in any step
    converged: NDArray[np.bool_]  # |angle| < CALM_ANGLE for CALM_STEPS steps in a row, fallen episodes included
    converge_step: NDArray[np.int64]  # first of those steps; -1 if there are none
    velocity_std: Array  # m/s, of the cart, over the episode
    angle: Array  # rad, mean |angle| over the episode
    steps_upright: NDArray[np.int64]  # steps before the fall: Gymnasium's return, T without a fall
    action_change: Array  # mean |change of action| between steps, action units; small is smooth


def first_calm_step(states: Array) -> NDArray[np.int64]:
    """Find the first of CALM_STEPS calm steps in a row, before any fall, in `states (B, T, S)`: `(B,)`, -1 for none."""
    ended = np.logical_or.accumulate(fallen(states), axis=1)
    calm = (np.abs(states[..., 1]) < CALM_ANGLE) & ~ended
    windows: NDArray[np.bool_] = np.lib.stride_tricks.sliding_window_view(calm, CALM_STEPS, axis=1)
    runs = np.asarray(windows.all(axis=-1))
    return np.where(runs.any(axis=1), runs.argmax(1), -1)


def score(states: Array, actions: Array) -> Scores:
    """Score episodes given `states (B, T+1, S)`, the last one after the last action, and `actions (B, T, A)`.

    Convergence, velocity and angle are measured in the T states before each action, as in the reference system.
    """
    steps = actions.shape[1]
    ended = np.logical_or.accumulate(fallen(states), axis=1)
    converge_step = first_calm_step(states[:, :steps])
    running = ~ended[:, :steps]
    change = np.abs(np.diff(actions.clip(-ACTION_LIMIT, ACTION_LIMIT), axis=1)).mean(-1)
    changes = np.where(running[:, 1:], change, 0).sum(1) / np.maximum(1, running[:, 1:].sum(1))
    return Scores(
        success=~ended[:, -1],
        converged=converge_step >= 0,
        converge_step=converge_step,
        velocity_std=states[:, :steps, 2].std(1, where=running),
        angle=np.abs(states[:, :steps, 1]).mean(1, where=running),
        steps_upright=(~ended[:, 1:]).sum(1),
        action_change=changes,
    )
