"""The swing up as a drawing: the cart on its rail with the pole, and the force on the cart."""

from pipeline.tasks.pendulum.drawing import ROOM, cart_scene
from pipeline.tasks.pendulum.world import POLE_LENGTH
from pipeline.tasks.scene import Scene
from pipeline.tasks.task import Array


def scene(states: Array, applied: Array) -> Scene:
    """Draw `states (T+1, P)` and `applied (T, A)`, see `Task.scene`."""
    return cart_scene(states[:, 0], states[:, 1:2], applied, bottom=-POLE_LENGTH - ROOM)
