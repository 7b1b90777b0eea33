"""The pendulum as a drawing: the cart on its rail with the pole, and the force on the cart."""

import numpy as np

from pipeline.tasks.pendulum.world import CART, POLE_LENGTH
from pipeline.tasks.scene import Scene, Shape
from pipeline.tasks.task import Array

ROOM = 0.1  # m beside the farthest reach of the pole
FORCE, FORCE_HEIGHT = 0.25, -0.17  # m: the arrow's length for an action of 1, and its height


def scene(states: Array, applied: Array) -> Scene:
    """Draw `states (T+1, S)` and `applied (T, A)`, see `Task.scene`."""
    cart, angle = states[:, 0], states[:, 1]
    pivot = np.stack((cart, np.zeros_like(cart)), 1)
    tip = np.stack((cart + POLE_LENGTH * np.sin(angle), POLE_LENGTH * np.cos(angle)), 1)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * np.array(CART) / 2
    force = np.concatenate((applied[:, 0], applied[-1:, 0]))  # the last state has no action of its own
    at = np.stack((cart, np.full_like(cart, FORCE_HEIGHT)), 1)
    left, right = float(cart.min()) - POLE_LENGTH - ROOM, float(cart.max()) + POLE_LENGTH + ROOM
    return Scene(
        shapes=(
            Shape("line", "ground", np.array([[(left, 0.0), (right, 0.0)]]), 0.02),
            Shape("polygon", "body", pivot[:, None] + corners, 0),
            Shape("line", "body", np.stack((pivot, tip), 1), 0.05),
            Shape("disc", "light", pivot[:, None], 0.015),
            Shape("line", "force", np.stack((at, at + np.stack((FORCE * force, 0 * force), 1)), 1), 0.03),
        ),
        left=left,
        right=right,
        bottom=-0.28,
        top=POLE_LENGTH + ROOM,
        trace=tip,
        label="cart position, m",
    )
