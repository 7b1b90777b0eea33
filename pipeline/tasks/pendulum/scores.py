"""The scores of an episode, each defined here once and for every episode, fallen ones included."""

import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.pendulum.world import ACTION_LIMIT, CONTROL_SECONDS, fallen
from pipeline.tasks.score import Score, action_change
from pipeline.tasks.task import Array, Columns

CALM_ANGLE = 0.02  # rad
CONVERGE_STEPS = 10
REST_STEPS = round(2 / CONTROL_SECONDS)  # the last 2 s

SCORES = {
    "calm": Score("calm", "calm, share of the last 2 s with |angle| < 0.02 rad", "", 3, +1, primary=True),
    "success": Score("success", "success, share of episodes without a fall", "", 3, +1, binary=True),
    "converge": Score(
        "converge", "converge, share of episodes with ten steps of |angle| < 0.02 rad in a row", "", 3, +1, binary=True
    ),
    "converge_step": Score("conv. step", "converge step", "steps, 100 without convergence", 1, -1, event="converged"),
    "velocity_std": Score("vel. std", "velocity std of an episode", "m/s", 3, -1),
    "angle": Score("|angle|", "mean |angle|", "rad", 4, -1),
    "action_change": Score("act. change", "mean |action change| per step", "action units", 4, -1),
    "return": Score("return", "return", "steps upright of 100", 2, +1),
}
"""Every episode has a number for each of these, whether it falls or not; a model's score is the mean over its episodes.
"""


def converge_steps(states: Array, steps: int) -> NDArray[np.int64]:
    """Find the step in which each episode of `states (B, N, S)` converges: `(B,)`.

    It is the first of CONVERGE_STEPS calm steps in a row among the first `steps` states, as in the reference system.
    It is `steps` for an episode that has none, or that falls in any state, before or after them.
    """
    calm = np.abs(states[:, :steps, 1]) < CALM_ANGLE
    windows: NDArray[np.bool_] = np.lib.stride_tricks.sliding_window_view(calm, CONVERGE_STEPS, axis=1)
    runs = np.asarray(windows.all(axis=-1))
    return np.where(runs.any(axis=1) & ~fallen(states).any(axis=1), runs.argmax(1), steps)


def score(states: Array, actions: Array) -> Columns:
    """Score episodes given `states (B, T+1, S)`, the last one after the last action, and `actions (B, T, A)`.

    An episode ends when the pole falls, and later steps are ignored:
    `success`: whether it never falls;
    `calm`: share of the last REST_STEPS steps with |angle| < CALM_ANGLE, 0 if it falls;
    `converge`: whether it never falls and is calm for CONVERGE_STEPS steps in a row;
    `converge_step`: the first of those steps, T without them: its mean over episodes is a restricted mean;
    `velocity_std`: standard deviation of the cart's velocity, m/s; `angle`: mean |angle|, rad;
    `action_change`: mean |change of action| between steps, action units: small is smooth;
    `return`: steps before the fall, Gymnasium's return, T without one.

    All but success and return are measured in the T states before each action, as in the reference system.
    """
    steps = actions.shape[1]
    ended = np.logical_or.accumulate(fallen(states), axis=1)
    success, running = ~ended[:, -1], ~ended[:, :steps]
    angle = np.abs(states[:, :steps, 1])
    converge_step = converge_steps(states, steps)
    return {
        "success": success,
        "calm": np.where(success, (angle[:, -REST_STEPS:] < CALM_ANGLE).mean(1), 0),
        "converge": converge_step < steps,
        "converge_step": converge_step,
        "velocity_std": states[:, :steps, 2].std(1, where=running),
        "angle": angle.mean(1, where=running),
        "action_change": action_change(actions, ACTION_LIMIT, running),
        "return": (~ended[:, 1:]).sum(1),
    }
