"""The demonstrator: two nested PID loops, vectorised over B episodes with individual gains.

The outer loop controls the cart's velocity to 0 by a target pole angle; the inner loop controls that angle by force.
"""

import numpy as np

from pipeline.tasks.pendulum.world import ACTION_LIMIT, REST_ANGLE
from pipeline.tasks.task import Array

BASE_GAINS = np.array([-3.0, -0.01, -0.15, 0.08, 0.05, 0.001])
"""Inner Kp, Ki, Kd (angle error rad -> action), then outer Kp, Ki, Kd (velocity error m/s -> target angle rad)."""
GAIN_SPREAD = 0.1  # each gain of each trajectory is scaled by a random factor in [0.9, 1.1]
TARGET_LIMIT = np.pi / 12  # rad
PID_DT = 0.02  # s; the loops' own constant, half of a control step, as in the reference system


def draw_gains(generator: np.random.Generator, count: int) -> Array:
    """Draw gains `(count, 6)` around BASE_GAINS."""
    return BASE_GAINS * generator.uniform(1 - GAIN_SPREAD, 1 + GAIN_SPREAD, (count, len(BASE_GAINS)))


class NestedPID:
    """A controller `(_step, states (B, S)) -> actions (B, 1)` with gains `(B, 6)` and integrator state.

    The errors before the first step count as 0, so a start far from rest begins with a derivative kick. With
    `kick=False` they equal those of the first step: for a controller that takes over in mid-episode.
    """

    def __init__(self, gains: Array, kick: bool = True) -> None:
        self._inner, self._outer = gains[:, :3].T, gains[:, 3:].T
        self._sums = np.zeros((2, len(gains)))
        self._errors = np.full((2, len(gains)), 0.0 if kick else np.nan)

    def __call__(self, _step: int, states: Array) -> Array:
        target = np.clip(self._loop(1, self._outer, -states[:, 2]), -TARGET_LIMIT, TARGET_LIMIT)
        action = np.clip(self._loop(0, self._inner, target + REST_ANGLE - states[:, 1]), -ACTION_LIMIT, ACTION_LIMIT)
        return action[:, None]

    def _loop(self, which: int, gains: Array, error: Array) -> Array:
        self._sums[which] += error * PID_DT
        before = self._errors[which]
        slope = (error - np.where(np.isnan(before), error, before)) / PID_DT
        self._errors[which] = error
        proportional, integral, derivative = gains
        action: Array = proportional * error + integral * self._sums[which] + derivative * slope
        return action
