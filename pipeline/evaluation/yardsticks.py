"""A task's yardsticks, controllers which need no training, under the same conditions as a policy."""

import numpy as np

from pipeline.evaluation.control import (
    Episodes,
    Evaluation,
    Ints,
    Planner,
    evaluate_controller,
    evaluate_planner,
)
from pipeline.methods.method import Plans
from pipeline.tasks.task import Array, Controller, Yardstick


def evaluate_yardstick(name: str, episodes: Episodes, threads: int) -> Evaluation:
    """Run a yardstick of the task on the episodes."""
    yardstick = episodes.task.yardsticks[name]
    if not yardstick.planned:

        def controller(rows: slice) -> Controller:
            (found,) = yardstick.controllers(episodes.starts[rows])
            return found

        return evaluate_controller(controller, episodes, threads)
    return evaluate_planner(yardstick_planner(yardstick, episodes, threads), episodes, threads)


def yardstick_planner(yardstick: Yardstick, episodes: Episodes, threads: int, horizon: int = 0) -> Planner:
    """Make the planner of a yardstick that plans, for these episodes, `horizon` actions or 0: the longest interval.

    It runs its controllers for B fresh episodes in the true simulator, without noise. Its plan, the mean of theirs, is
    executed open-loop as a policy's chunks are.
    """
    task, horizon = episodes.task, horizon or int(episodes.replan.max())

    def plan(states: Array, _episodes: Ints, _step: int) -> Plans:
        blocks = []
        for rows in task.simulator.blocks(len(states)):
            noise = np.zeros((len(states[rows]), horizon, task.action_dim))
            controllers = yardstick.controllers(states[rows])
            blocks.append([task.simulator.simulate(each, states[rows], noise, threads)[1] for each in controllers])
        plans = [np.mean(block, axis=0).astype(np.float32) for block in blocks]
        return Plans(np.concatenate(plans))

    return plan
