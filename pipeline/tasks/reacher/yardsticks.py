"""Controllers to compare with: the demonstrator on the side where the elbow is, the mean of both, and no action."""

import numpy as np

from pipeline.tasks.reacher.demonstrator import SPEED, reach
from pipeline.tasks.reacher.world import ACTION_DIM
from pipeline.tasks.task import Array, Controller, Yardstick, zero_action

LOOK_AHEAD = 0.15  # s; a moving elbow is on the side to which it moves


def _reach(states: Array, sides: Array) -> Controller:
    return reach(sides, np.full(len(states), np.mean(SPEED)), states)


def _nearer(states: Array) -> Controller:
    return _reach(states, np.where(states[:, 1] + LOOK_AHEAD * states[:, 5] < 0, 1.0, -1.0))


YARDSTICKS = {
    "demonstrator, closed loop": Yardstick(lambda states: [_nearer(states)], planned=False),
    "demonstrator, planned": Yardstick(lambda states: [_nearer(states)]),
    "mean of both sides": Yardstick(lambda states: [_reach(states, np.full(len(states), up)) for up in (1.0, -1.0)]),
    "zero action": zero_action(ACTION_DIM),
}
"""The demonstrator has its mean speed and the nearer side. The mean of both sides' plans is what a regression learns
where it cannot tell them apart: it fails, so a state has two answers."""
