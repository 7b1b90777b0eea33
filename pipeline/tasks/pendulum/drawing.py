"""A cart on its rail with a pole, or several one on the other, as a drawing; and the force on the cart."""

from itertools import pairwise

import numpy as np

from pipeline.tasks.pendulum.world import CART, POLE_LENGTH
from pipeline.tasks.scene import Scene, Shape
from pipeline.tasks.task import Array

ROOM = 0.1  # m beside the farthest reach of the poles
FORCE, FORCE_HEIGHT = 0.25, -0.17  # m: the arrow's length for an action of 1, and its height
BOTTOM = -0.28  # m, below the arrow


def scene(states: Array, applied: Array) -> Scene:
    """Draw `states (T+1, S)` and `applied (T, A)`, see `Task.scene`."""
    return cart_scene(states[:, 0], states[:, 1:2], applied)


def cart_scene(cart: Array, angles: Array, applied: Array, force: float = FORCE, bottom: float = BOTTOM) -> Scene:
    """Draw a cart at `cart (T+1,)` m that carries n poles, which lean `angles (T+1, n)` rad from upright."""
    pivot = np.stack((cart, np.zeros_like(cart)), 1)
    joints = [pivot]
    for angle in angles.T:
        joints.append(joints[-1] + POLE_LENGTH * np.stack((np.sin(angle), np.cos(angle)), 1))
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * np.array(CART) / 2
    push = force * np.concatenate((applied[:, 0], applied[-1:, 0]))  # the last state has no action of its own
    at = np.stack((cart, np.full_like(cart, FORCE_HEIGHT)), 1)
    reach = POLE_LENGTH * angles.shape[1] + ROOM
    left, right = float(cart.min()) - reach, float(cart.max()) + reach
    return Scene(
        shapes=(
            Shape("line", "ground", np.array([[(left, 0.0), (right, 0.0)]]), 0.02),
            Shape("polygon", "body", pivot[:, None] + corners, 0),
            *(Shape("line", "body", np.stack(ends, 1), 0.05) for ends in pairwise(joints)),
            *(Shape("disc", "light", joint[:, None], 0.015) for joint in joints[:-1]),
            Shape("line", "force", np.stack((at, at + np.stack((push, 0 * push), 1)), 1), 0.03),
        ),
        left=left,
        right=right,
        bottom=bottom,
        top=reach,
        trace=joints[-1],
        label="cart position, m",
    )
