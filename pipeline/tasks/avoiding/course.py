"""Courses through the gaps, and the controller that follows one.

Shapes: B episodes side by side, P state, R = 3 rows, K = 5 knots of a course.
"""

from itertools import pairwise, product

import numpy as np

from pipeline.tasks.avoiding.world import ACTION_LIMIT, DAMPING, GEAR, MASS, POSTS, ROWS
from pipeline.tasks.task import Array, Controller

ASIDE = 0.1  # m; outer posts are passed as far off
GAPS = tuple(
    np.array([row[0] - ASIDE, *((left + right) / 2 for left, right in pairwise(row)), row[-1] + ASIDE]) for row in POSTS
)
"""The x of the gaps of each row, left to right: 2, 3 and 4 of them."""
WAYS = np.array(list(product(*GAPS)))  # (24, R)
STOP = 0.42  # m; the puck rests at this y, beyond the finish

ACROSS, ALONG = 8.0, 8.0  # 1/s: a critically damped pull to the course, and the approach to its speed
BRAKE = 3.0  # 1/s: speed for a distance from STOP
STEEPEST = 3.0  # m/m; a heading that is flatter than this counts as this
PASSED = 0.02  # m; a row so near ahead is passed where the puck heads


def plan_course(states: Array, gaps: Array) -> tuple[Array, Array, Array]:
    """Return knots of the courses from `states (B, P)` through `gaps (B, R)`, m: y, x and slope dx/dy, `(B, K)` each.

    A course is a cubic of y between two knots (Hermite's), upright in the gaps and at its end. It begins with the
    puck's own heading, and rows that are behind or beside the puck are left out: their knots stand where the puck is.
    """
    x, y, along = states[:, :1], states[:, 1:2], states[:, 3:]
    heading = np.where(along > 0, states[:, 2:3] / np.maximum(along, 1e-9), 0).clip(-STEEPEST, STEEPEST)
    behind = np.concatenate((np.ones_like(y, dtype=bool), y > ROWS - PASSED, np.zeros_like(y, dtype=bool)), 1)
    rows = np.concatenate((y, np.broadcast_to(ROWS, gaps.shape), np.maximum(STOP, y + PASSED)), 1)
    places = np.concatenate((x, gaps, np.where(behind[:, -2:-1], x, gaps[:, -1:])), 1)
    return np.where(behind, y, rows), np.where(behind, x, places), np.where(behind, heading, 0)


def follow(course: tuple[Array, Array, Array], speeds: Array) -> Controller:
    """Make the controller that follows courses with `speeds (B,)`, m/s, and rests at their end.

    Where it is on the course is told by the puck's own y: it sees the state alone, no clock.
    """
    rows, places, slopes = course
    each, first = np.arange(len(rows)), (rows == rows[:, :1]).sum(1) - 1  # of knots at one place, the last counts

    def controller(_step: int, states: Array) -> Array:
        x, y, velocity = states[:, 0], states[:, 1], states[:, 2:]
        knot = ((y[:, None] >= rows).sum(1) - 1).clip(first, rows.shape[1] - 2)
        begin, end = (each, knot), (each, knot + 1)
        height = rows[end] - rows[begin]
        u = ((y - rows[begin]) / height).clip(0, 1)
        change, out, into = places[end] - places[begin], slopes[begin] * height, slopes[end] * height
        # the cubic by powers of u, and its first two derivatives by y
        square, cube = 3 * change - 2 * out - into, out + into - 2 * change
        place = places[begin] + u * (out + u * (square + u * cube))
        slope = (out + u * (2 * square + u * 3 * cube)) / height
        curvature = (2 * square + 6 * u * cube) / height**2
        upward = np.minimum(speeds, BRAKE * (STOP - y))
        across = ACROSS**2 * (place - x) + 2 * ACROSS * (slope * upward - velocity[:, 0]) + curvature * upward**2
        force = MASS * np.stack((across, ALONG * (upward - velocity[:, 1])), 1) + DAMPING * velocity
        actions: Array = force / GEAR
        return actions.clip(-ACTION_LIMIT, ACTION_LIMIT)

    return controller
