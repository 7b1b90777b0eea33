"""The scores of an episode, each defined here once and for every episode, fallen ones included."""

import numpy as np

from pipeline.tasks.double_pendulum.world import ACTION_LIMIT, CONTROL_SECONDS, fallen, leans
from pipeline.tasks.score import Score, action_change
from pipeline.tasks.task import Array, Columns

CALM_LEAN = 0.01  # rad
REST_STEPS = round(2 / CONTROL_SECONDS)  # the last 2 s

SCORES = {
    "calm": Score("calm", "calm, share of the last 2 s with both poles within 0.01 rad", "", 3, +1, primary=True),
    "success": Score("success", "success, share of episodes without a fall", "", 3, +1, binary=True),
    "lean": Score("lean", "mean lean of the pole that leans more", "rad", 4, -1),
    "position": Score("|x|", "mean |cart position|", "m", 3, -1),
    "action_change": Score("act. change", "mean |action change| per step", "action units", 4, -1),
    "upright": Score("upright", "steps upright", "of 200", 2, +1),
}
"""Every episode has a number for each of these, whether it falls or not; a model's score is the mean over its episodes.
"""


def calm_share(states: Array) -> Array:
    """Return the share of the last REST_STEPS of `states (B, N, P)` in which both poles are calm: `(B,)`."""
    share: Array = (np.abs(leans(states[:, -REST_STEPS:])) < CALM_LEAN).all(-1).mean(1)
    return share


def score(states: Array, actions: Array) -> Columns:
    """Score episodes given `states (B, T+1, P)`, the last one after the last action, and `actions (B, T, A)`.

    An episode ends when the poles fall, and later steps are ignored:
    `success`: whether they never fall;
    `calm`: share of the last REST_STEPS steps in which both poles are within CALM_LEAN of upright, 0 if they fall;
    `lean`: mean over steps of the larger lean of the two poles, rad;
    `position`: mean distance of the cart from the middle of the rail, m;
    `action_change`: mean |change of action| between steps, action units: small is smooth;
    `upright`: steps before the fall, T without one.

    All but success and upright are measured in the T states before each action.
    """
    steps = actions.shape[1]
    ended = np.logical_or.accumulate(fallen(states), axis=1)
    success, running = ~ended[:, -1], ~ended[:, :steps]
    before = states[:, :steps]
    return {
        "success": success,
        "calm": np.where(success, calm_share(before), 0),
        "lean": np.abs(leans(before)).max(-1).mean(1, where=running),
        "position": np.abs(before[..., 0]).mean(1, where=running),
        "action_change": action_change(actions, ACTION_LIMIT, running),
        "upright": (~ended[:, 1:]).sum(1),
    }
