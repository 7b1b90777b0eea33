"""The demonstrator of the double pendulum: a linear-quadratic regulator with its own costs a trajectory."""

from functools import cache

import numpy as np

from pipeline.tasks.double_pendulum.scores import calm_share
from pipeline.tasks.double_pendulum.world import ACTION_LIMIT, REST, WORLD, fallen
from pipeline.tasks.lqr import linearise, optimal_gain
from pipeline.tasks.task import Array, Bools, Controller, Demonstrator

STATE_COST = np.array([3.0, 10.0, 10.0, 0.1, 0.1, 0.1])  # per m^2, rad^2, rad^2, (m/s)^2, (rad/s)^2, (rad/s)^2
ACTION_COST = 1.0
BASE = np.array([[STATE_COST[0], ACTION_COST]])
"""Costs of the cart's position and of the action, which differ between trajectories."""
COST_SPREAD = 2.0  # each of them is scaled by a random factor in [1/2, 2], uniform in its logarithm
LEAST_CALM = 0.5  # of a demonstration


def draw_costs(generator: np.random.Generator, count: int) -> Array:
    """Draw costs `(count, 2)` around BASE."""
    return BASE * COST_SPREAD ** generator.uniform(-1, 1, (count, BASE.shape[1]))


_linearised = cache(lambda: linearise(WORLD, REST, 1))


def regulator(costs: Array) -> Controller:
    """Return the regulator with `costs (B, 2)`, or `(1, 2)` for all episodes: minus gain times the state, clipped."""
    gains = np.array(
        [
            optimal_gain(*_linearised(), np.diag((position, *STATE_COST[1:])), np.array([[action]]))[0]
            for position, action in costs
        ]
    )

    def act(_step: int, states: Array) -> Array:
        actions: Array = -(gains * (states - REST)).sum(1, keepdims=True)
        return actions.clip(-ACTION_LIMIT, ACTION_LIMIT)

    return act


def find_faults(states: Array, actions: Array) -> dict[str, Bools]:
    """Find the faults of trajectories `states (B, T, P)`, `actions (B, T, A)`: a boolean array `(B,)` per fault."""
    finite = np.isfinite(states).all((1, 2)) & np.isfinite(actions).all((1, 2))
    fell = np.asarray(fallen(states).any(1))
    return {
        "not finite": np.asarray(~finite),
        "fallen": finite & fell,
        "not calm": finite & ~fell & (calm_share(states) < LEAST_CALM),
    }


DEMONSTRATOR = Demonstrator(
    draw_variation=draw_costs,
    controller=lambda costs, _starts: regulator(costs),
    find_faults=find_faults,
    action_noise=0.02,
)
