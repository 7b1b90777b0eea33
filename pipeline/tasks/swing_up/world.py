"""The world: the cart and pole of the task `pendulum`, with a hinge that turns freely and less force.

Shapes: B episodes side by side, P = 4 state, S = 5 observation, A = 1 action.
State: cart position m, pole angle rad, cart velocity m/s, pole rate rad/s. The angle is 0 upright and grows with every
turn to the right. Action: [-2, 2], one unit is 100 N. A control step is 0.04 s: two RK4 steps of 0.02 s.
"""

from pathlib import Path

import numpy as np

from pipeline.tasks.simulation import mujoco_world
from pipeline.tasks.task import Array, Bools, Channel

XML_FILE = Path(__file__).with_name("swing_up.xml")
FRAME_SKIP = 2
CONTROL_SECONDS = 0.04  # of a control step
ACTION_LIMIT = 2.0
HANGING = np.array([0, np.pi, 0, 0])
START_RANGE = 0.2  # every number of the state starts uniformly within +- this of HANGING
EPISODE_STEPS = 175

OBSERVATION = (
    Channel("x", "cart position", "m"),
    Channel("sin", "sine of the pole's angle", ""),
    Channel("cos", "cosine of the pole's angle", ""),
    Channel("v", "cart velocity", "m/s"),
    Channel("omega", "pole rate", "rad/s"),
)
ACTION = (Channel("force", "force", "100 N", ACTION_LIMIT),)


def observe(states: Array) -> Array:
    """Observe states `(..., P)`, the angle as sine and cosine: `(..., S)`."""
    x, angle, v, omega = np.moveaxis(states, -1, 0)
    return np.stack((x, np.sin(angle), np.cos(angle), v, omega), -1)


def wrapped(angles: Array) -> Array:
    """Return angles in [-pi, pi)."""
    turned: Array = (angles + np.pi) % (2 * np.pi) - np.pi
    return turned


def broken(states: Array) -> Bools:
    """Tell for states `(..., P)` whether a number is not finite: `(...)`. Nothing else ends an episode early."""
    return np.asarray(~np.isfinite(states).all(-1))


def draw_starts(generator: np.random.Generator, count: int) -> Array:
    """Draw `count` initial states `(count, P)`: hanging, each number uniform within +-START_RANGE."""
    return HANGING + generator.uniform(-START_RANGE, START_RANGE, (count, len(HANGING)))


WORLD = mujoco_world(
    XML_FILE, frame_skip=FRAME_SKIP, draw_starts=draw_starts, ended=broken, observe=observe, contacts=False
)
