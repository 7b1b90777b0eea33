"""Draw a still and an animation of each task for its page in docs/tasks/: a yardstick that plans, as a policy does.

    python -m docs.task_pictures [TASK ...]

The pictures are `docs/tasks/TASK.png` and `docs/tasks/TASK.gif`, the same bytes every time on one machine.
"""

import sys
from pathlib import Path

import numpy as np

from pipeline.evaluation.control import draw_episodes
from pipeline.evaluation.record import Record, record_planner
from pipeline.evaluation.yardsticks import yardstick_planner
from pipeline.report.animation import animate_episode
from pipeline.report.stills import draw_still
from pipeline.tasks.project import TASKS
from pipeline.tasks.registry import find_task
from pipeline.tasks.task import Task

FOLDER = Path(__file__).with_name("tasks")
EPISODES = 10  # of which the best one is shown


def shown(task: Task) -> tuple[str, Record]:
    """The first planning yardstick of a task, and the best of its episodes in the easiest condition."""
    name = next(name for name, yardstick in task.yardsticks.items() if yardstick.planned)
    episodes = draw_episodes(task, task.conditions[:1], EPISODES, seed=0)
    records = record_planner(yardstick_planner(task.yardsticks[name], episodes, 1), episodes, range(EPISODES), 1)
    return name, max(records, key=lambda each: task.score(each.states[None], each.actions[None])[task.primary][0])


def main(names: list[str]) -> int:
    """Draw the named tasks, or all."""
    for name in names or TASKS:
        task = find_task(name)
        yardstick, record = shown(task)
        condition = task.conditions[0]
        about = f"action noise ±{condition.action_noise:g}, a plan every {condition.replan} steps"
        animate_episode(FOLDER / f"{name}.gif", task, f"{name}: {yardstick}", about, record)
        draw_still(FOLDER / f"{name}.png", task, record)
        length = np.round(len(record.actions) * task.control_seconds, 2)
        print(f"{name}: {yardstick}, {length:g} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
