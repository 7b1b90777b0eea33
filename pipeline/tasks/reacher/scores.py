"""The scores of an episode, and the side of the elbow that it took.

Shapes: B episodes, T control steps, P state, A action, H horizon of a chunk.
"""

import numpy as np

from pipeline.tasks.reacher.world import ACTION_LIMIT, CONTROL_SECONDS, TOLERANCE, WORLD, fingertip, target
from pipeline.tasks.score import Score
from pipeline.tasks.task import Array, Columns, Ints, Ways
from pipeline.tasks.ways import carry_out

REST_STEPS = round(1 / CONTROL_SECONDS)  # the last second
BENT = 1.0  # rad; an elbow that is less bent is on no side: no target needs less than 1.4
SIDES = ("elbow up", "elbow down")

SCORES = {
    "on_target": Score("on target", "on target, share of the last second within 0.02 m", "", 3, +1, primary=True),
    "reached": Score("reached", "reached, share of episodes that end within 0.02 m", "", 3, +1, binary=True),
    "distance": Score("distance", "mean distance of the fingertip in the last second", "m", 4, -1),
    "arrival_step": Score("arrival", "arrival step: within 0.02 m to the end", "steps, 150 without", 1, -1),
    "action_change": Score("act. change", "mean |action change| per step", "action units", 4, -1),
    "return": Score("return", "return, Gymnasium's", "", 2, +1),
}
"""Every episode has a number for each of these; a model's score is the mean over its episodes."""


def distances(states: Array) -> Array:
    """Return the fingertip's distance from the target, m, in `states (..., P)`: `(...)`."""
    apart: Array = np.linalg.norm(fingertip(states) - target(states), axis=-1)
    return apart


def score(states: Array, actions: Array) -> Columns:
    """Score episodes given `states (B, T+1, P)`, the last one after the last action, and `actions (B, T, A)`.

    All are measured in the T states after each action:
    `on_target`: share of the last REST_STEPS within TOLERANCE of the target; `reached`: whether the last one is;
    `distance`: mean distance in the last REST_STEPS, m;
    `arrival_step`: the first step from which all are within TOLERANCE, T if the last one is not;
    `action_change`: mean |change of action| between steps, action units: small is smooth;
    `return`: minus the sum of distances and squared actions, Gymnasium's return.
    """
    distance = distances(states[:, 1:])
    near, applied = distance < TOLERANCE, actions.clip(-ACTION_LIMIT, ACTION_LIMIT)
    return {
        "on_target": near[:, -REST_STEPS:].mean(1),
        "reached": near[:, -1],
        "distance": distance[:, -REST_STEPS:].mean(1),
        "arrival_step": near.shape[1] - np.logical_and.accumulate(near[:, ::-1], axis=1).sum(1),
        "action_change": np.abs(np.diff(applied, axis=1)).mean((1, 2)),
        "return": -distance.sum(1) - np.square(applied).sum((1, 2)),
    }


def side(states: Array) -> Ints:
    """Return the side on which the elbow is bent in `states (..., P)`: 0 up, 1 down, -1 none; `(...)`."""
    bend = states[..., 1]
    return np.where(np.abs(bend) < BENT, -1, np.where(bend < 0, 0, 1))


WAYS = Ways(
    decisions=(SIDES,),
    entropy=1.0,  # of a coin
    taken=lambda states: side(states[:, -1:]),
    planned=lambda states, chunks: side(carry_out(WORLD, states, chunks)[:, -1:]),
    path=lambda states: np.stack((distances(states), -states[..., 1]), -1),
    axes=("fingertip to target, m", "elbow, rad; bent up above 0"),
)
"""A way is taken where an episode, or the plan alone in the simulator, ends."""
