"""Controllers to compare with: the demonstrator with its base gains, a linear-quadratic regulator, and no action."""

import numpy as np

from pipeline.tasks.pendulum.lqr import lqr
from pipeline.tasks.pendulum.pid import BASE_GAINS, NestedPID
from pipeline.tasks.pendulum.world import ACTION_DIM
from pipeline.tasks.task import Yardstick, zero_action


def _pid(count: int, kick: bool = True) -> NestedPID:
    return NestedPID(np.tile(BASE_GAINS, (count, 1)), kick)


YARDSTICKS = {
    "PID, closed loop": Yardstick(lambda states: [_pid(len(states))], planned=False),
    "PID, planned": Yardstick(lambda states: [_pid(len(states), kick=False)]),
    "LQR, planned": Yardstick(lambda _states: [lqr]),
    "zero action": zero_action(ACTION_DIM),
}
"""The PID has its base gains; at each plan its integrators start at 0, without derivative kick."""
