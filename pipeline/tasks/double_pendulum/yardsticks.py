"""Controllers to compare with: the demonstrator with its base costs, in closed loop and planned, and no action."""

import numpy as np

from pipeline.tasks.double_pendulum.demonstrator import BASE, regulator
from pipeline.tasks.task import Array, Controller, Yardstick


def _lqr(states: Array) -> list[Controller]:
    return [regulator(BASE)]


def _zero(_step: int, states: Array) -> Array:
    return np.zeros((len(states), 1))


YARDSTICKS = {
    "LQR, closed loop": Yardstick(_lqr, planned=False),
    "LQR, planned": Yardstick(_lqr),
    "zero action": Yardstick(lambda _states: [_zero], planned=False),
}
