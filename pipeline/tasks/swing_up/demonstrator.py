"""The demonstrator: it pumps energy into the pole, to a side by a coin from rest, and catches it by an LQR.

The cart's acceleration has the sign that adds energy to the swinging pole (Astrom and Furuta, Automatica 36, 2000), by
as much as the pole lacks. The hinge has much friction: what it takes on the way to the top belongs to what is lacking.
"""

from functools import cache

import numpy as np

from pipeline.tasks.lqr import linearise, optimal_gain
from pipeline.tasks.pendulum.world import REST_ANGLE
from pipeline.tasks.swing_up.scores import UP_ANGLE, UP_STEPS
from pipeline.tasks.swing_up.world import ACTION_LIMIT, WORLD, broken, wrapped
from pipeline.tasks.task import Array, Bools, Controller, Demonstrator

# of the model: a test compares them with it
TOTAL_MASS = 15.4906  # kg, of cart and pole
MOMENT = 1.50558  # kg m, of the pole about its hinge
INERTIA = 0.640424  # kg m^2, of the pole about its hinge
WEIGHT = 14.7697  # N m, the moment times gravity
FRICTION = 1.0  # N m s/rad in the hinge, and N s/m on the rail
UNIT = 100.0  # N of an action of 1

PUMP = (12.0, 16.0)  # m/s^2, the greatest acceleration of the cart for pumping: uniform, its own a trajectory
EAGERNESS = 1.0  # s/rad: pumping is at its greatest where lacking energy (in WEIGHT) times rate is 1/EAGERNESS
EXTRA = 0.15  # of WEIGHT: energy with which the pole is to arrive
CENTRING = (3.0, 2.0)  # 1/s^2 and 1/s: the cart's acceleration towards the middle of the rail, and against its velocity
AT_REST = (0.3, 1.0)  # rad and rad/s from hanging at rest: within both, the first push is by the coin
CATCH = (0.5, 5.0, 2.5)  # |angle| < 0.5 rad and |rate + 5 angle| < 2.5 rad/s: the LQR can hold it

REST = np.array([0, REST_ANGLE, 0, 0])
STATE_COST = np.diag([10.0, 10.0, 0.3, 0.3])  # per m^2, rad^2, (m/s)^2, (rad/s)^2
ACTION_COST = np.array([[30.0]])


def draw_variation(generator: np.random.Generator, count: int) -> Array:
    """Draw the side of the first push, -1 or 1, and the greatest pumping acceleration: `(count, 2)`."""
    return np.stack((generator.choice([-1.0, 1.0], count), generator.uniform(*PUMP, count)), 1)


@cache
def _gain() -> Array:
    return optimal_gain(*linearise(WORLD, REST, 1), STATE_COST, ACTION_COST).ravel()


def swinger(variation: Array) -> Controller:
    """Return the demonstrator of B episodes with `variation (B, 2)`, see `draw_variation`. It has no memory."""
    side, pump = variation.T

    def act(_step: int, states: Array) -> Array:
        x, angle, v, rate = states.T
        angle = wrapped(angle)
        sine, cosine = np.sin(angle), np.cos(angle)
        energy = rate**2 * INERTIA / (2 * WEIGHT) + cosine - 1  # of the pole, 0 at rest upright
        lost = 4 * FRICTION / np.sqrt(INERTIA * WEIGHT) * (1 - np.cos(angle / 2))  # on the way up, at an energy of 0
        push = -EAGERNESS * (EXTRA + lost - energy) * rate * cosine
        at_rest = (np.pi - np.abs(angle) < AT_REST[0]) & (np.abs(rate) < AT_REST[1])
        push = np.where(at_rest, side, push.clip(-1, 1))
        acceleration = pump * push - CENTRING[0] * x - CENTRING[1] * v
        turning = (WEIGHT * sine - FRICTION * rate - MOMENT * cosine * acceleration) / INERTIA
        force = TOTAL_MASS * acceleration + MOMENT * (cosine * turning - sine * rate**2) + FRICTION * v
        balancing = -(_gain() * (np.stack((x, angle, v, rate), 1) - REST)).sum(1)
        catching = (np.abs(angle) < CATCH[0]) & (np.abs(rate + CATCH[1] * angle) < CATCH[2])
        actions: Array = np.where(catching, balancing, force / UNIT)[:, None]
        return actions.clip(-ACTION_LIMIT, ACTION_LIMIT)

    return act


def find_faults(states: Array, actions: Array) -> dict[str, Bools]:
    """Find the faults of trajectories `states (B, T, P)`, `actions (B, T, A)`: a boolean array `(B,)` per fault."""
    finite = ~broken(states).any(1) & np.isfinite(actions).all((1, 2))
    up = (np.abs(wrapped(states[:, -UP_STEPS:, 1])) < UP_ANGLE).all(1)
    return {"not finite": np.asarray(~finite), "not up": np.asarray(finite & ~up)}


DEMONSTRATOR = Demonstrator(
    draw_variation=draw_variation,
    controller=lambda variation, _starts: swinger(variation),
    find_faults=find_faults,
    action_noise=0.6,  # much: a balance that is never disturbed shows a policy nothing of how to hold it
)
