"""The world: the arm and the target of Gymnasium's Reacher-v5.

Shapes: B episodes side by side, P = 8 state, S = 10 observation, A = 2 action.
State: shoulder and elbow angle rad, target x and y m, then their rates. Action: [-1, 1], one unit is 200 N m.
A control step is 0.02 s: two RK4 steps of 0.01 s, as in Gymnasium.
"""

from pathlib import Path

import numpy as np

from pipeline.tasks.simulation import mujoco_world
from pipeline.tasks.task import Array, Bools, Channel

XML_FILE = Path(__file__).with_name("reacher.xml")
FRAME_SKIP = 2
CONTROL_SECONDS = 0.02  # of a control step
ACTION_LIMIT = 1.0
GEAR = 200.0  # N m for an action of 1
LINKS = (0.1, 0.11)  # m
EPISODE_STEPS = 150
TOLERANCE = 0.02  # m; the balls of the fingertip and the target touch

# Starts are at rest with an almost straight arm, so that bending it to either side is as good. No target is so far
# off that an arm in between, a straight one, reaches it, nor so far behind that turning the other way is shorter.
START_ANGLES = (0.5, 0.1)  # rad, shoulder and elbow start within +- this
TARGET_DISTANCE = (0.06, 0.16)  # m
TARGET_DIRECTION = 2.0  # rad, within +- this

OBSERVATION = (
    Channel("cos_shoulder", "cosine of the shoulder angle", ""),
    Channel("cos_elbow", "cosine of the elbow angle", ""),
    Channel("sin_shoulder", "sine of the shoulder angle", ""),
    Channel("sin_elbow", "sine of the elbow angle", ""),
    Channel("target_x", "target x", "m"),
    Channel("target_y", "target y", "m"),
    Channel("shoulder_rate", "shoulder rate", "rad/s"),
    Channel("elbow_rate", "elbow rate", "rad/s"),
    Channel("offset_x", "fingertip minus target, x", "m"),
    Channel("offset_y", "fingertip minus target, y", "m"),
)
ACTION = (
    Channel("shoulder", "shoulder torque", "200 N m", ACTION_LIMIT),
    Channel("elbow", "elbow torque", "200 N m", ACTION_LIMIT),
)
ACTION_DIM = len(ACTION)


def elbow(states: Array) -> Array:
    """Return the place of the elbow, m, in `states (..., P)`: `(..., 2)`."""
    angle = states[..., 0]
    return LINKS[0] * np.stack((np.cos(angle), np.sin(angle)), -1)


def fingertip(states: Array) -> Array:
    """Return the place of the fingertip, m, in `states (..., P)`: `(..., 2)`."""
    angle = states[..., 0] + states[..., 1]
    tip: Array = elbow(states) + LINKS[1] * np.stack((np.cos(angle), np.sin(angle)), -1)
    return tip


def target(states: Array) -> Array:
    """Return the place of the target, m, in `states (..., P)`: `(..., 2)`."""
    return states[..., 2:4]


def observe(states: Array) -> Array:
    """Return what a policy sees of `states (..., P)`, in Gymnasium's order: `(..., S)`."""
    angles, rates = states[..., :2], states[..., 4:6]
    parts = (np.cos(angles), np.sin(angles), target(states), rates, fingertip(states) - target(states))
    return np.concatenate(parts, -1)


def ended(states: Array) -> Bools:
    """Tell for `states (..., P)` whether a number is not finite: `(...)`. Nothing else ends an episode."""
    return np.asarray(~np.isfinite(states).all(-1))


def draw_starts(generator: np.random.Generator, count: int) -> Array:
    """Draw `count` initial states `(count, P)`, at rest."""
    drawn = generator.uniform(-1, 1, (count, 4))  # row by row: the first starts do not depend on the count
    angles, (near, far) = drawn[:, :2] * START_ANGLES, TARGET_DISTANCE
    distance = near + (far - near) * (drawn[:, 2:3] + 1) / 2
    direction = TARGET_DIRECTION * drawn[:, 3:]
    place = distance * np.concatenate((np.cos(direction), np.sin(direction)), 1)
    return np.concatenate((angles, place, np.zeros((count, 4))), 1)


WORLD = mujoco_world(
    XML_FILE, frame_skip=FRAME_SKIP, draw_starts=draw_starts, ended=ended, observe=observe, contacts=False
)
