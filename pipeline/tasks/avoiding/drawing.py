"""Avoiding as a drawing, from above: the posts, the finish, the puck, and the force on it."""

import numpy as np

from pipeline.tasks.avoiding.world import FINISH, POSTS, PUCK_RADIUS, RADII, ROWS
from pipeline.tasks.scene import Scene, Shape
from pipeline.tasks.task import Array

FORCE = 0.1  # m: the arrow's length for an action of 1
LEFT, RIGHT, BOTTOM, TOP = 0.15, 0.85, -0.33, 0.47  # m


def scene(states: Array, applied: Array) -> Scene:
    """Draw `states (T+1, P)` and `applied (T, A)`, see `Task.scene`."""
    puck = states[:, :2]
    force = np.concatenate((applied, applied[-1:]))  # the last state has no action of its own
    posts = [
        Shape("disc", "obstacle", np.array([[(x, y)]]), radius)
        for y, row, radius in zip(ROWS, POSTS, RADII.tolist(), strict=True)
        for x in row
    ]
    return Scene(
        shapes=(
            Shape("line", "goal", np.array([[(LEFT, FINISH), (RIGHT, FINISH)]]), 0.006),
            *posts,
            Shape("line", "force", np.stack((puck, puck + FORCE * force), 1), 0.006),
            Shape("disc", "body", puck[:, None], PUCK_RADIUS),
        ),
        left=LEFT,
        right=RIGHT,
        bottom=BOTTOM,
        top=TOP,
        trace=puck,
        label="x, m",
    )
