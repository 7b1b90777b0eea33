"""The tasks by name, and a user's own: `path/to/file.py:NAME` or `package.module:NAME`.

A reference to a user's own runs the user's code. It comes from the command line only: data files, checkpoints and runs
carry a task's name, and a name alone leads to no code outside this project: to a task of the project, or to a data set
without a simulator, which is a task of plain values.
"""

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.errors import SettingsError
from pipeline.own_code import import_own, split_reference

if TYPE_CHECKING:  # names alone need no NumPy: settings are read for --help
    from pipeline.tasks.task import Task

DEFAULT = "pendulum"
TASKS = {
    "pendulum": "pipeline.tasks.pendulum:PENDULUM",
    "double_pendulum": "pipeline.tasks.double_pendulum:DOUBLE_PENDULUM",
    "swing_up": "pipeline.tasks.swing_up:SWING_UP",
    "reacher": "pipeline.tasks.reacher:REACHER",
    "avoiding": "pipeline.tasks.avoiding:AVOIDING",
}
"""Where each task's record is: a module is imported when its task is used."""


def find_task(reference: str) -> "Task":
    """Return a task by its name, or a user's own, checked; a relative path starts from the current folder.

    Raises `SettingsError` for a name that is not known, and for a user's task that cannot be used, see `check_task`;
    `DataError` for a data set whose file is faulty.
    """
    if reference in TASKS:
        module, _, name = TASKS[reference].partition(":")
        found: Task = getattr(import_module(module), name)
        return found
    own = split_reference(reference)
    if own is None and (known := _task_of_data(reference)):
        return known
    if own is None:
        raise SettingsError(
            f"task: expected one of {', '.join(TASKS)}, the name of a data set without a simulator, or your own as "
            f"path/to/file.py:NAME or package.module:NAME, found '{reference}'. See --help."
        )
    return _own_task(*own)


def is_own(reference: str) -> bool:
    """Whether a reference leads to a user's own code."""
    return ":" in reference


def _task_of_data(name: str) -> "Task | None":
    """Return the task that the data set `data/NAME` is; None if there is none."""
    from pipeline.tasks.dataset import is_dataset_name, read_dataset, task_of_data

    dataset = read_dataset(name) if is_dataset_name(name) else None
    if dataset is None:
        return None
    if dataset.has_simulator:
        own = "path/to/file.py:NAME" if dataset.task not in TASKS else dataset.task
        raise SettingsError(
            f"task: '{name}' is data of the task '{dataset.task}'. Name it: --task {own} --data {name}."
        )
    return task_of_data(dataset)


@cache
def _own_task(where: str, name: str) -> "Task":
    from pipeline.tasks.check import check_task
    from pipeline.tasks.task import Task

    module = import_own("task", where)
    found = getattr(module, name, None)
    if not isinstance(found, Task):
        known = [each for each, value in vars(module).items() if isinstance(value, Task)]
        what = f"{type(found).__name__}" if hasattr(module, name) else "nothing"
        raise SettingsError(
            f"task: expected a Task called '{name}' in {where}, found {what} of that name; "
            f"its tasks are {', '.join(known) or 'none'}."
        )
    check_task(found)
    return found
