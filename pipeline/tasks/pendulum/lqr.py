"""The linear-quadratic regulator of the pendulum at rest: a baseline controller, not a demonstrator."""

from functools import cache

import numpy as np

from pipeline.tasks.pendulum.world import ACTION_DIM, ACTION_LIMIT, REST_ANGLE, STATE_DIM, WORLD
from pipeline.tasks.task import Array

REST = np.array([0, REST_ANGLE, 0, 0])
STATE_COST = np.diag([1e-4, 10.0, 0.3, 0.3])  # per m^2, rad^2, (m/s)^2, (rad/s)^2
ACTION_COST = np.array([[0.05]])
DIFFERENCE = 1e-5  # step of the finite differences, of state and action


def linearise() -> tuple[Array, Array]:
    """Return the derivatives of a control step at rest, by central differences: `(S, S)` by state, `(S, A)` by action.

    MuJoCo's own derivatives do not support RK4.
    """
    change = DIFFERENCE * np.eye(STATE_DIM + ACTION_DIM)
    points = np.concatenate((change, -change))
    starts, actions = REST + points[:, :STATE_DIM], points[:, STATE_DIM:]
    states, _ = WORLD.simulate(lambda _step, _states: actions, starts, np.zeros((len(points), 1, ACTION_DIM)), 1)
    ahead, behind = np.split(states[:, 1], 2)
    slopes = (ahead - behind).T / (2 * DIFFERENCE)
    return slopes[:, :STATE_DIM], slopes[:, STATE_DIM:]


@cache
def _gain() -> Array:
    from scipy.linalg import solve_discrete_are  # slow to import, and only this yardstick needs it

    by_state, by_action = linearise()
    cost_to_go = solve_discrete_are(by_state, by_action, STATE_COST, ACTION_COST)
    gain: Array = np.linalg.solve(
        ACTION_COST + by_action.T @ cost_to_go @ by_action, by_action.T @ cost_to_go @ by_state
    )
    return gain


def lqr(_step: int, states: Array) -> Array:
    """A controller `(step, states (B, S)) -> actions (B, A)`: minus gain times the distance from rest, clipped."""
    actions: Array = -(states - REST) @ _gain().T
    return actions.clip(-ACTION_LIMIT, ACTION_LIMIT)
