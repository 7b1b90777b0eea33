"""The linear-quadratic regulator of the pendulum at rest: a baseline controller, not a demonstrator."""

from functools import cache

import numpy as np

from pipeline.tasks.lqr import linearise, optimal_gain
from pipeline.tasks.pendulum.world import ACTION_DIM, ACTION_LIMIT, REST_ANGLE, WORLD
from pipeline.tasks.task import Array

REST = np.array([0, REST_ANGLE, 0, 0])
STATE_COST = np.diag([1e-4, 10.0, 0.3, 0.3])  # per m^2, rad^2, (m/s)^2, (rad/s)^2
ACTION_COST = np.array([[0.05]])


@cache
def _gain() -> Array:
    return optimal_gain(*linearise(WORLD, REST, ACTION_DIM), STATE_COST, ACTION_COST)


def lqr(_step: int, states: Array) -> Array:
    """A controller `(step, states (B, S)) -> actions (B, A)`: minus gain times the distance from rest, clipped."""
    actions: Array = -(states - REST) @ _gain().T
    return actions.clip(-ACTION_LIMIT, ACTION_LIMIT)
