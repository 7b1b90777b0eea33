"""Baseline controllers, which need no training, under the same conditions."""

from collections.abc import Callable

import numpy as np

from pipeline.env.lqr import lqr
from pipeline.env.pendulum import ACTION_DIM, Array, Controller, simulate
from pipeline.env.pid import BASE_GAINS, NestedPID
from pipeline.evaluation.control import Episodes, Evaluation, Ints, evaluate_controller, evaluate_planner
from pipeline.methods.method import Plans

Run = Callable[[Episodes, int], Evaluation]


def _pid(count: int, kick: bool = True) -> NestedPID:
    return NestedPID(np.tile(BASE_GAINS, (count, 1)), kick)


def _zero(_step: int, states: Array) -> Array:
    return np.zeros((len(states), ACTION_DIM))


def _planned(controller_for: Callable[[int], Controller]) -> Run:
    """Plan by running the controller for B fresh episodes in the true simulator, without noise."""

    def run(episodes: Episodes, threads: int) -> Evaluation:
        horizon = int(episodes.replan.max())

        def plan(states: Array, _episodes: Ints, _step: int) -> Plans:
            noise = np.zeros((len(states), horizon, ACTION_DIM))
            _, actions = simulate(controller_for(len(states)), states, noise, threads)
            return Plans(actions.astype(np.float32))

        return evaluate_planner(plan, episodes, threads)

    return run


YARDSTICKS: dict[str, Run] = {
    "PID, closed loop": lambda episodes, threads: evaluate_controller(_pid(len(episodes.starts)), episodes, threads),
    "PID, planned": _planned(lambda count: _pid(count, kick=False)),
    "LQR, planned": _planned(lambda _count: lqr),
    "zero action": lambda episodes, threads: evaluate_controller(_zero, episodes, threads),
}
"""`run(episodes, threads) -> evaluation`, by name. "Planned" means planned in the simulator and executed open-loop, as
a policy's chunks are. The PID has its base gains; at each plan its integrators start at 0, without derivative kick."""
