"""The world: Gymnasium's inverted pendulum on a wide rail.

Shapes: B episodes side by side, S = 4 state, A = 1 action. A state is observed as it is.
State: cart position m, pole angle rad, cart velocity m/s, pole rate rad/s. Action: [-3, 3], one unit is 100 N.
A control step is 0.04 s: two RK4 steps of 0.02 s, as in Gymnasium's InvertedPendulum-v5.
"""

from pathlib import Path

import numpy as np

from pipeline.tasks.simulation import mujoco_world
from pipeline.tasks.task import Array, Bools, Channel

XML_FILE = Path(__file__).with_name("inverted_pendulum.xml")
FRAME_SKIP = 2
CONTROL_SECONDS = 0.04  # of a control step
ACTION_LIMIT = 3.0
ANGLE_LIMIT = np.pi / 4  # rad; beyond it the pole has fallen
POLE_LENGTH = 0.6  # m
CART = (0.4, 0.2)  # m, width and height; its middle is on the rail and carries the pole
REST_ANGLE = -0.00166666  # rad; the tilt of the pole's geometry
START_RANGE = 0.5  # every state dimension starts uniformly within +- this
EPISODE_STEPS = 100

OBSERVATION = (
    Channel("x", "cart position", "m"),
    Channel("theta", "pole angle", "rad"),
    Channel("v", "cart velocity", "m/s"),
    Channel("omega", "pole rate", "rad/s"),
)
ACTION = (Channel("force", "force", "100 N", ACTION_LIMIT),)
STATE_DIM, ACTION_DIM = len(OBSERVATION), len(ACTION)


def fallen(states: Array) -> Bools:
    """Tell for states `(..., S)` whether the pole is beyond the limit angle or a number is not finite: `(...)`."""
    return ~np.isfinite(states).all(-1) | (np.abs(states[..., 1]) > ANGLE_LIMIT)


def draw_starts(generator: np.random.Generator, count: int) -> Array:
    """Draw `count` initial states `(count, S)`, each dimension uniform within +-START_RANGE."""
    return generator.uniform(-START_RANGE, START_RANGE, (count, STATE_DIM))


WORLD = mujoco_world(XML_FILE, frame_skip=FRAME_SKIP, draw_starts=draw_starts, ended=fallen, contacts=False)
