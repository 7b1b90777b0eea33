"""Linear-quadratic regulators: a simulator linearised at a state of rest, and the gain that follows from costs.

Shapes: P state of the simulator, A action.
"""

import numpy as np

from pipeline.tasks.task import Array, World

DIFFERENCE = 1e-5  # step of the finite differences, of state and action


def linearise(world: World, rest: Array, action_dim: int) -> tuple[Array, Array]:
    """Return the derivatives of a control step at `rest (P,)` without action, by central differences.

    They are `(P, P)` by state and `(P, A)` by action. MuJoCo's own derivatives do not support RK4.
    """
    change = DIFFERENCE * np.eye(len(rest) + action_dim)
    points = np.concatenate((change, -change))
    starts, actions = rest + points[:, : len(rest)], points[:, len(rest) :]
    states, _ = world.simulate(lambda _step, _states: actions, starts, np.zeros((len(points), 1, action_dim)), 1)
    ahead, behind = np.split(states[:, 1], 2)
    slopes = (ahead - behind).T / (2 * DIFFERENCE)
    return slopes[:, : len(rest)], slopes[:, len(rest) :]


def optimal_gain(by_state: Array, by_action: Array, state_cost: Array, action_cost: Array) -> Array:
    """Return the gain `(A, P)`: the action minus gain times the distance from rest has the least sum of costs."""
    from scipy.linalg import solve_discrete_are  # slow to import, and few need it

    cost_to_go = solve_discrete_are(by_state, by_action, state_cost, action_cost)
    gain: Array = np.linalg.solve(
        action_cost + by_action.T @ cost_to_go @ by_action, by_action.T @ cost_to_go @ by_state
    )
    return gain
