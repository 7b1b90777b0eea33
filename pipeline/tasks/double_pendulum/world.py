"""The world: Gymnasium's inverted double pendulum.

Shapes: B episodes side by side, P = 6 state, S = 8 observation, A = 1 action.
State: cart position m, lower pole's angle rad, upper pole's angle to the lower one rad, and their velocities.
Action: [-1, 1], one unit is 500 N. A control step is 0.02 s: two RK4 steps of 0.01 s, where Gymnasium's
InvertedDoublePendulum-v5 takes five. The rail is its own of 2 m, with stops.
"""

from pathlib import Path

import numpy as np

from pipeline.tasks.pendulum.world import POLE_LENGTH
from pipeline.tasks.simulation import mujoco_world
from pipeline.tasks.task import Array, Bools, Channel

XML_FILE = Path(__file__).with_name("inverted_double_pendulum.xml")
FRAME_SKIP = 2
CONTROL_SECONDS = 0.02  # of a control step
ACTION_LIMIT = 1.0
TIP_LIMIT = 1.0  # m above the rail, of 1.2 m; at or below it the poles have fallen, as in Gymnasium
START_RANGE = 0.1  # every number of the state starts uniformly within +- this
EPISODE_STEPS = 200
REST = np.zeros(6)

OBSERVATION = (
    Channel("x", "cart position", "m"),
    Channel("sin_lower", "sine of the lower pole's angle", ""),
    Channel("cos_lower", "cosine of the lower pole's angle", ""),
    Channel("sin_upper", "sine of the upper pole's angle to the lower", ""),
    Channel("cos_upper", "cosine of the upper pole's angle to the lower", ""),
    Channel("v", "cart velocity", "m/s"),
    Channel("omega_lower", "lower pole's rate", "rad/s"),
    Channel("omega_upper", "upper pole's rate to the lower", "rad/s"),
)
ACTION = (Channel("force", "force", "500 N", ACTION_LIMIT),)


def observe(states: Array) -> Array:
    """Observe states `(..., P)`, angles as sine and cosine: `(..., S)`."""
    x, lower, upper = (states[..., column] for column in range(3))
    angles = (np.sin(lower), np.cos(lower), np.sin(upper), np.cos(upper))
    return np.concatenate((np.stack((x, *angles), -1), states[..., 3:]), -1)


def leans(states: Array) -> Array:
    """Return how far each pole of states `(..., P)` leans from upright, in rad: `(..., 2)`, the lower one first."""
    return states[..., 1:3].cumsum(-1)


def fallen(states: Array) -> Bools:
    """Tell for states `(..., P)` whether the tip is at or below TIP_LIMIT or a number is not finite: `(...)`."""
    height = POLE_LENGTH * np.cos(leans(states)).sum(-1)
    return np.asarray(~np.isfinite(states).all(-1) | (height <= TIP_LIMIT))


def draw_starts(generator: np.random.Generator, count: int) -> Array:
    """Draw `count` initial states `(count, P)`, each number uniform within +-START_RANGE."""
    return generator.uniform(-START_RANGE, START_RANGE, (count, len(REST)))


WORLD = mujoco_world(
    XML_FILE, frame_skip=FRAME_SKIP, draw_starts=draw_starts, ended=fallen, observe=observe, contacts=False
)
