"""The scores of an episode, each defined here once and for every episode."""

import numpy as np

from pipeline.tasks.score import Score, action_change
from pipeline.tasks.swing_up.world import ACTION_LIMIT, CONTROL_SECONDS, broken, wrapped
from pipeline.tasks.task import Array, Columns

CALM_ANGLE = 0.02  # rad
UP_ANGLE = 0.5  # rad; within it the pole is up
CALM_STEPS = round(3 / CONTROL_SECONDS)  # the last 3 s: a late rise costs some of them
UP_STEPS = round(2 / CONTROL_SECONDS)  # the last 2 s

SCORES = {
    "calm": Score("calm", "calm, share of the last 3 s with |angle| < 0.02 rad", "", 3, +1, primary=True),
    "success": Score("success", "success, share of episodes with the pole up in the last 2 s", "", 3, +1, binary=True),
    "rise_step": Score("rise step", "first step with the pole up", "steps, 175 if it is never up", 1, -1),
    "falls": Score("falls", "times that the pole was up and fell again", "", 3, -1),
    "position": Score("|x|", "mean |cart position|", "m", 3, -1),
    "action_change": Score("act. change", "mean |action change| per step", "action units", 4, -1),
}
"""Every episode has a number for each of these; a model's score is the mean over its episodes."""


def score(states: Array, actions: Array) -> Columns:
    """Score episodes given `states (B, T+1, P)`, the last one after the last action, and `actions (B, T, A)`.

    The pole is up within UP_ANGLE of upright:
    `calm`: share of the last CALM_STEPS steps with |angle| < CALM_ANGLE;
    `success`: whether the pole is up in all of the last UP_STEPS steps;
    `rise_step`: the first step in which it is up, T without one;
    `falls`: how often it was up and then no more;
    `position`: mean distance of the cart from the middle of the rail, m;
    `action_change`: mean |change of action| between steps, action units: small is smooth.

    All are measured in the T states before each action. Of an episode that ends early, in a number that is not finite,
    no later state is calm or up.
    """
    steps = actions.shape[1]
    before = states[:, :steps]
    angle = np.abs(wrapped(before[..., 1]))
    up, running = angle < UP_ANGLE, ~broken(before)
    return {
        "calm": (angle[:, -CALM_STEPS:] < CALM_ANGLE).mean(1),
        "success": np.asarray(up[:, -UP_STEPS:].all(1)),
        "rise_step": np.where(up.any(1), up.argmax(1), steps),
        "falls": (up[:, :-1] & ~up[:, 1:]).sum(1),
        "position": np.abs(before[..., 0]).mean(1, where=running),
        "action_change": action_change(actions, ACTION_LIMIT, running),
    }
