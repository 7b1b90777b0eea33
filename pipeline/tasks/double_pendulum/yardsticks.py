"""Controllers to compare with: the demonstrator with its base costs, in closed loop and planned, and no action."""

from pipeline.tasks.double_pendulum.demonstrator import BASE, regulator
from pipeline.tasks.task import Array, Controller, Yardstick, zero_action


def _lqr(states: Array) -> list[Controller]:
    return [regulator(BASE)]


YARDSTICKS = {
    "LQR, closed loop": Yardstick(_lqr, planned=False),
    "LQR, planned": Yardstick(_lqr),
    "zero action": zero_action(1),
}
