"""The ways of an episode: the side of the pole's first swing, and the side on which it comes up."""

import numpy as np

from pipeline.tasks.swing_up.demonstrator import INERTIA, WEIGHT
from pipeline.tasks.swing_up.scores import UP_ANGLE
from pipeline.tasks.swing_up.world import WORLD, wrapped
from pipeline.tasks.task import Array, Bools, Ints, Ways
from pipeline.tasks.ways import carry_out

SWUNG = 0.5  # rad from hanging


def _first(reached: Bools, angles: Array) -> Ints:
    """Return the side of `angles (B, N)` where they are first `reached (B, N)`: 0 left, 1 right, -1 never."""
    side = angles[np.arange(len(angles)), reached.argmax(1)] > 0
    return np.where(reached.any(1), side.astype(np.int64), -1)


def taken(states: Array) -> Ints:
    """Return the ways of episodes `states (B, T+1, P)`, see `Ways.taken`: `(B, 2)`."""
    angle = wrapped(states[..., 1])
    swung = np.pi - np.abs(angle) > SWUNG
    return np.stack((_first(swung, angle), _first(np.abs(angle) < UP_ANGLE, angle)), 1)


def planned(states: Array, chunks: Array) -> Ints:
    """Return the ways of plans `chunks (B, H, A)` from `states (B, P)`, see `Ways.planned`: `(B, 2)`.

    The plans are executed in the true simulator without noise. What is decided in the states already counts as none:
    the first swing once the pole swings that far, and the side of coming up once it is up.
    """
    angle, rate = wrapped(states[:, 1]), states[:, 3]
    energy = INERTIA * rate**2 / 2 + WEIGHT * (1 + np.cos(angle))  # 0 hanging at rest
    decided = np.stack((energy > WEIGHT * (1 - np.cos(SWUNG)), np.abs(angle) < UP_ANGLE), 1)
    return np.where(decided, -1, taken(carry_out(WORLD, states, chunks)))


def path(states: Array) -> Array:
    """Return the pole's angle from hanging, rad, and its rate, rad/s, in states `(..., P)`: `(..., 2)`."""
    return np.stack((states[..., 1] - np.pi, states[..., 3]), -1)


WAYS = Ways(
    decisions=(("first left", "first right"), ("up on the left", "up on the right")),
    entropy=1.66,  # of 4,000 demonstrations
    taken=taken,
    planned=planned,
    path=path,
    axes=("angle from hanging, rad; up at ±3.14", "pole rate, rad/s"),
)
