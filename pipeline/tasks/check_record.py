"""What the record of a task must hold, as far as no function of it has to be called."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from pipeline.errors import SettingsError, UserError, one_line
from pipeline.tasks.facts import NAME
from pipeline.tasks.project import TASKS, project_task
from pipeline.tasks.score import OF_HELD_OUT, OF_PLANS, OF_WAYS, Score
from pipeline.tasks.task import Channel, Condition, Task, World, unscored

COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")  # of scores: also of metrics
TAKEN = {*OF_WAYS, *OF_PLANS, "action_noise", "replan", "episode"}  # other columns of the same tables
MOST = 1e18  # of numbers in a record: float32 can square them
LONGEST_TEXT = 200  # characters, of a channel
OF_SIMULATION = ("episode_steps", "pair_steps", "demonstration_steps", "demonstrator", "ways", "yardsticks", "scene")

R = TypeVar("R")


def call(where: str, function: Callable[..., R], *values: Any) -> R:
    """Call a function of the task; what it raises becomes one line."""
    try:
        return function(*values)
    except UserError as error:  # of a function that it calls
        raise SettingsError(one_line(error)) from error
    except Exception as error:
        raise SettingsError(f"{where}: {type(error).__name__}: {one_line(error)}.") from error


def require(good: bool, where: str, expected: str, found: object) -> None:
    if not good:
        raise SettingsError(f"{where}: expected {expected}, found {found}.")


def check_record(task: Task, registered: bool = False) -> None:
    """Raise `SettingsError` for the first fault that needs no simulation to be found.

    `registered` allows the name of one of the project's tasks to a record that is not that task's.
    """
    call("its fields", _check_shared, task)
    own = not registered and task is not project_task(task.name)
    require(not (own and task.name in TASKS), "name", f"another than the project's {', '.join(TASKS)}", task.name)
    call("its fields", _check_simulated if task.world else _check_without, task)


def _check_shared(task: Task) -> None:
    require(isinstance(task.name, str) and bool(NAME.fullmatch(task.name)), "name", "letters, digits and _", task.name)
    for where, channels in (("observation", task.observation), ("action", task.action)):
        all_are(Channel, where, channels)
        names = [channel.name for channel in channels]
        good = len(set(names)) == len(names) and all(map(_is_short, names)) and all(names)
        require(good, where, "different short names of channels", names)
        texts = [text for channel in channels for text in (channel.label, channel.unit)]
        require(all(map(_is_short, texts)), where, "short labels and units of channels", texts)
        limits = [channel.limit for channel in channels if channel.limit is not None]
        require(all(0 < limit < MOST for limit in limits), where, "limits above 0, or None", limits)
    require(0 < task.control_seconds < MOST, "control_seconds", "seconds above 0", task.control_seconds)
    whole("horizon", task.horizon, 1)
    all_are(Condition, "conditions", task.conditions)
    for condition in task.conditions:
        require(0 <= condition.action_noise < np.inf, "conditions", "noise of 0 or more", condition)
        whole("conditions: replan", condition.replan, 1)
        good = condition.replan <= task.horizon
        require(good, "conditions", f"replan intervals within the horizon {task.horizon}", condition)
    require(len({*map(str, task.conditions)}) == len(task.conditions), "conditions", "different ones", "a repeat")


def _check_without(task: Task) -> None:
    """Check a task without a simulator: nothing can be declared that would need one."""
    quiet = all(condition.action_noise == 0 for condition in task.conditions)
    require(quiet, "conditions", "no noise where there is no world", "some")
    declared = {name: getattr(task, name) for name in OF_SIMULATION}
    found = [name for name, value in declared.items() if value]
    found += ["score"] if task.score is not unscored else []
    found += ["own_scores"] if task.own_scores is not OF_HELD_OUT else []
    require(not found, "world", f"a World, for {', '.join(found)}", task.world)


def _check_simulated(task: Task) -> None:
    """Check what the record of a task with a simulator declares."""
    require(isinstance(task.world, World), "world", "a World, or None for no simulator", task.world)
    whole("episode_steps", task.episode_steps, 1)
    whole("demonstration_steps", task.demonstration_steps, 1)
    require(isinstance(task.own_scores, Mapping), "own_scores", "a table of scores", type(task.own_scores).__name__)
    all_are(Score, "own_scores", [*task.own_scores.values()])
    for name in task.own_scores:
        good = isinstance(name, str) and bool(COLUMN.fullmatch(name)) and name not in TAKEN
        require(good, "own_scores", f"names of letters, digits and _, other than {', '.join(sorted(TAKEN))}", name)
    primary = [name for name, score in task.own_scores.items() if score.primary]
    require(len(primary) == 1, "own_scores", "one primary score", primary or "none")
    better = task.own_scores[primary[0]].better
    require(better == 1, f"own_scores: {primary[0]}", "better=+1 of the primary score", better)
    steps = list(task.pair_steps)
    for step in steps:
        whole("pair_steps", step, 0)
    require(bool(steps) and steps == sorted({*steps}), "pair_steps", "increasing steps, 0 or more", steps)
    needed = max(task.episode_steps, steps[-1] + task.horizon)
    expected = f"at least {needed}: a whole episode, and a chunk from the last of pair_steps"
    require(task.demonstration_steps >= needed, "demonstration_steps", expected, task.demonstration_steps)
    world = task.simulator
    require(isinstance(world.source, bytes), "world.source", "bytes", type(world.source).__name__)
    if world.most is not None:
        whole("world.most", world.most, 1)


def _is_short(text: Any) -> bool:
    return isinstance(text, str) and text.isprintable() and len(text) <= LONGEST_TEXT


def all_are(kind: type, where: str, values: Sequence[Any]) -> None:
    good = isinstance(values, Sequence) and len(values) > 0 and all(isinstance(each, kind) for each in values)
    require(good, where, f"one or more of {kind.__name__}", values)


def whole(where: str, value: Any, least: int) -> None:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(good, where, f"a whole number, {least} or more", repr(value) if isinstance(value, np.generic) else value)
