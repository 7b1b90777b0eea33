"""The reacher as a drawing, from above: the arm, the target, and the torques as pushes at the ends of the links."""

import numpy as np

from pipeline.tasks.reacher.world import LINKS, TOLERANCE, elbow, fingertip, target
from pipeline.tasks.scene import Scene, Shape
from pipeline.tasks.task import Array

PUSH = 0.15  # m: the length of a push for a torque of 1
ROOM = 0.24  # m on each side of the shoulder


def scene(states: Array, applied: Array) -> Scene:
    """Draw `states (T+1, P)` and `applied (T, A)`, see `Task.scene`."""
    joint, tip = elbow(states), fingertip(states)
    shoulder = np.zeros_like(joint)
    torque = np.concatenate((applied, applied[-1:]))  # the last state has no action of its own

    def push(begin: Array, end: Array, length: float, amount: Array) -> Array:
        across = np.stack((begin[:, 1] - end[:, 1], end[:, 0] - begin[:, 0]), 1) / length
        return np.stack((end, end + PUSH * amount[:, None] * across), 1)

    return Scene(
        shapes=(
            Shape("disc", "goal", target(states)[:, None], TOLERANCE),
            Shape("line", "force", push(shoulder, joint, LINKS[0], torque[:, 0]), 0.006),
            Shape("line", "force", push(joint, tip, LINKS[1], torque[:, 1]), 0.006),
            Shape("line", "body", np.stack((shoulder, joint, tip), 1), 0.02),
            Shape("disc", "ground", shoulder[:1, None], 0.014),
            Shape("disc", "light", joint[:, None], 0.006),
            Shape("disc", "light", tip[:, None], 0.006),
        ),
        left=-ROOM,
        right=ROOM,
        bottom=-ROOM,
        top=ROOM,
        trace=tip,
        label="x, m",
    )
