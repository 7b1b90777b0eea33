"""Controllers to compare with: the demonstrator, in closed loop and planned, the mean of its sides, and no action."""

import numpy as np

from pipeline.tasks.swing_up.demonstrator import PUMP, swinger
from pipeline.tasks.task import Controller, Yardstick, zero_action


def _swinger(count: int, side: float = 1.0) -> Controller:
    return swinger(np.tile((side, sum(PUMP) / 2), (count, 1)))


YARDSTICKS = {
    "demonstrator, closed loop": Yardstick(lambda states: [_swinger(len(states))], planned=False),
    "demonstrator, planned": Yardstick(lambda states: [_swinger(len(states))]),
    "mean of both sides, planned": Yardstick(lambda states: [_swinger(len(states), side) for side in (-1.0, 1.0)]),
    "zero action": zero_action(1),
}
"""The demonstrator pumps with the mean of its accelerations, and first to the right."""
