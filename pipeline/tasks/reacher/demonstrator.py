"""The demonstrator of the reacher: it solves the arm's angles for its side of the elbow, and turns to them.

Shapes: B episodes side by side, P state, A action.
"""

import numpy as np

from pipeline.tasks.reacher.scores import REST_STEPS, distances
from pipeline.tasks.reacher.world import ACTION_LIMIT, EPISODE_STEPS, GEAR, LINKS, TOLERANCE, ended, target
from pipeline.tasks.task import Array, Bools, Controller, Demonstrator

SPEED = (2.5, 3.0)  # rad/s at most, a trajectory's own
NEAR = 0.6  # rad; a hinge slows down within this distance of its goal
PULL, HARDEST = 10.0, 12.0  # 1/s towards the wanted rate, rad/s^2 at most
INERTIA, DAMPING = 1.0, 1.0  # kg m^2, N m s: the armature and the damping of each hinge


def solve_angles(places: Array, sides: Array) -> Array:
    """Return the angles `(B, 2)`, rad, that put the fingertip at `places (B, 2)`, m, by the law of cosines.

    `sides (B,)`: +1 with the elbow up, -1 down, as seen with the place to the right.
    """
    upper, lower = LINKS
    cosine = (np.square(places).sum(1) - upper**2 - lower**2) / (2 * upper * lower)
    bend = -sides * np.arccos(cosine.clip(-1, 1))
    direction = np.arctan2(places[:, 1], places[:, 0])
    return np.stack((direction - np.arctan2(lower * np.sin(bend), upper + lower * np.cos(bend)), bend), 1)


def reach(sides: Array, speeds: Array, starts: Array) -> Controller:
    """Make the controller of episodes from `starts (B, P)`, to `sides (B,)` with `speeds (B,)`, rad/s.

    Each hinge turns at its speed and slows down near its goal, by inverse dynamics. Accelerations are bounded, so that
    a chunk has no peak at the start beside which all the rest is small. It sees the state alone, no clock.
    """
    goals, fastest = solve_angles(target(starts), sides), speeds[:, None]

    def controller(_step: int, states: Array) -> Array:
        angles, rates = states[:, :2], states[:, 4:6]
        wanted = fastest * np.tanh((goals - angles) / NEAR)
        acceleration = (PULL * (wanted - rates)).clip(-HARDEST, HARDEST)
        actions: Array = (INERTIA * acceleration + DAMPING * rates) / GEAR
        return actions.clip(-ACTION_LIMIT, ACTION_LIMIT)

    return controller


def draw_variation(generator: np.random.Generator, count: int) -> Array:
    """Draw sides of the elbow, by a coin, and speeds: `(count, 2)`."""
    sides = generator.choice((-1.0, 1.0), count)
    return np.stack((sides, generator.uniform(*SPEED, count)), 1)


def find_faults(states: Array, actions: Array) -> dict[str, Bools]:
    """Find the faults of trajectories `states (B, T, P)`, `actions (B, T, A)`: a boolean array `(B,)` per fault."""
    finite = ~ended(states).any(1) & np.isfinite(actions).all((1, 2))
    off = (distances(states)[:, EPISODE_STEPS - REST_STEPS :] > TOLERANCE).any(1)
    return {"not finite": np.asarray(~finite), "off the target": np.asarray(finite & off)}


DEMONSTRATOR = Demonstrator(
    draw_variation=draw_variation,
    controller=lambda variation, starts: reach(variation[:, 0], variation[:, 1], starts),
    find_faults=find_faults,
    action_noise=0.01,
)
