"""The double pendulum as a drawing: the cart on its rail with both poles, and the force on the cart."""

from pipeline.tasks.double_pendulum.world import leans
from pipeline.tasks.pendulum.drawing import cart_scene
from pipeline.tasks.scene import Scene
from pipeline.tasks.task import Array

FORCE = 1.0  # m: the arrow's length for an action of 1


def scene(states: Array, applied: Array) -> Scene:
    """Draw `states (T+1, P)` and `applied (T, A)`, see `Task.scene`."""
    return cart_scene(states[:, 0], leans(states), applied, FORCE)
