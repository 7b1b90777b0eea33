"""The world: a puck on two slides among three rows of posts.

Shapes: B episodes side by side, P = S = 4 state, A = 2 action. A state is observed as it is.
State: place x and y m, velocity x and y m/s. Action: [-1, 1], one unit is 5 N on 1 kg, with damping of 1 N s/m.
A control step is 0.04 s: two RK4 steps of 0.02 s.

Geometry: the task "avoiding" of D3IL (Jia et al., 2024, https://arxiv.org/abs/2402.14606), whose code is not used.
There a robot's position is commanded, and the desired and the measured position are observed. Here forces are, so the
place and the velocity are all that decides what comes next, and the velocity tells where the puck is heading.
"""

from pathlib import Path

import numpy as np

from pipeline.tasks.simulation import mujoco_world
from pipeline.tasks.task import Array, Bools, Channel

XML_FILE = Path(__file__).with_name("avoiding.xml")
FRAME_SKIP = 2
CONTROL_SECONDS = 0.04  # of a control step
ACTION_LIMIT = 1.0
MASS, DAMPING, GEAR = 1.0, 1.0, 5.0  # kg, N s/m, N for an action of 1
PUCK_RADIUS = 0.005  # m
EPISODE_STEPS = 120

START, START_RANGE = np.array([0.525, -0.28]), np.array([0.05, 0.02])  # m; starts are at rest, within +- the range
ROWS = np.array([-0.1, 0.08, 0.26])  # m, the y of each row of posts
POSTS = ((0.5,), (0.425, 0.575), (0.35, 0.5, 0.65))  # m, the x of each row's posts, left to right
RADII = np.array([0.03, 0.025, 0.025])  # m, of each row's posts
FINISH = 0.35  # m; an episode succeeds when it crosses this y without touching a post

OBSERVATION = (
    Channel("x", "x", "m"),
    Channel("y", "y", "m"),
    Channel("vx", "velocity x", "m/s"),
    Channel("vy", "velocity y", "m/s"),
)
ACTION = (Channel("force_x", "force x", "5 N", ACTION_LIMIT), Channel("force_y", "force y", "5 N", ACTION_LIMIT))
ACTION_DIM = len(ACTION)

# all posts, as (6, 2) places and (6,) distances at which the middle of the puck touches them
_PLACES = np.array([(x, y) for y, row in zip(ROWS, POSTS, strict=True) for x in row])
_REACH = np.repeat(RADII + PUCK_RADIUS, [len(row) for row in POSTS])


def clearance(states: Array) -> Array:
    """Return the space from the puck to the nearest post, m, in `states (..., P)`: `(...)`, below 0 if it touches."""
    distances = np.linalg.norm(states[..., None, :2] - _PLACES, axis=-1)
    nearest: Array = (distances - _REACH).min(-1)
    return nearest


def touching(states: Array) -> Bools:
    """Tell for `states (..., P)` whether the puck touches a post, or a number is not finite: `(...)`."""
    return ~np.isfinite(states).all(-1) | (clearance(states) < 0)


def draw_starts(generator: np.random.Generator, count: int) -> Array:
    """Draw `count` initial states `(count, P)`, at rest."""
    places = START + START_RANGE * generator.uniform(-1, 1, (count, 2))
    return np.concatenate((places, np.zeros((count, 2))), 1)


WORLD = mujoco_world(XML_FILE, frame_skip=FRAME_SKIP, draw_starts=draw_starts, ended=touching, contacts=False)
