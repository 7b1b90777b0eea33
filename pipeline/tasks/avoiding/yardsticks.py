"""Controllers to compare with: the demonstrator through the nearest gaps, the mean over all ways, and no action."""

import numpy as np

from pipeline.tasks.avoiding.course import GAPS, WAYS, follow, plan_course
from pipeline.tasks.avoiding.demonstrator import SPEED
from pipeline.tasks.avoiding.world import ACTION_DIM, ROWS
from pipeline.tasks.task import Array, Controller, Yardstick, zero_action

AHEAD = 0.5  # of the way to the next row along the present heading: courses bend upright towards it


def nearest_gaps(states: Array) -> Array:
    """Return the x of the gaps `(B, 3)` that cost the least way aside from `states (B, P)`."""
    x, y, across, along = states.T
    gaps = []
    for row, height in zip(GAPS, ROWS, strict=True):
        ahead = np.where((height > y) & (along > 0.05), AHEAD * (height - y) / np.maximum(along, 0.05), 0)
        aim = x + across * ahead
        cost = np.abs(row - aim[:, None])
        gap = row[cost.argmin(1)]
        x, y, across = np.where(height > y, gap, x), np.maximum(y, height), np.where(height > y, 0, across)
        gaps.append(gap)
    return np.stack(gaps, 1)


def _follow(gaps: Array, states: Array) -> Controller:
    return follow(
        plan_course(states, np.broadcast_to(gaps, (len(states), len(ROWS)))), np.full(len(states), np.mean(SPEED))
    )


YARDSTICKS = {
    "demonstrator, closed loop": Yardstick(lambda states: [_follow(nearest_gaps(states), states)], planned=False),
    "demonstrator, planned": Yardstick(lambda states: [_follow(nearest_gaps(states), states)]),
    "mean of all ways": Yardstick(lambda states: [_follow(gaps, states) for gaps in WAYS]),
    "zero action": zero_action(ACTION_DIM),
}
