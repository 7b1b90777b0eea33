"""A task by what a user calls it: a name, or the user's own as `path/to/file.py:NAME` or `package.module:NAME`.

A reference to a user's own runs the user's code. It comes from the command line only: data files, checkpoints and runs
carry a task's name, and a name alone leads to no code outside this project: to a task of the project, or to a data set
without a simulator, which is a task of plain values.
"""

from functools import cache
from typing import TYPE_CHECKING

from pipeline.errors import SettingsError
from pipeline.own_code import import_own, split_reference
from pipeline.tasks.project import TASKS, project_task

if TYPE_CHECKING:  # names alone need no NumPy: settings are read for --help
    from pipeline.tasks.task import Task


def find_task(reference: str) -> "Task":
    """Return a task by its name, or a user's own, checked; a relative path starts from the current folder.

    Raises `SettingsError` for a name that is not known, and for a user's task that cannot be used, see `check_task`;
    `DataError` for a data set whose file is faulty.
    """
    if (known := named_task(reference)) is not None:
        return known
    own = split_reference(reference)
    if own is None:
        removed = _removed_data(reference)
        raise SettingsError(
            f"task: expected one of {', '.join(TASKS)}, the name of a data set without a simulator, or your own as "
            f"path/to/file.py:NAME or package.module:NAME, found '{reference}'.{removed} See --help."
        )
    return _own_task(*own)


def is_own(reference: str) -> bool:
    """Whether a reference leads to a user's own code."""
    return ":" in reference


def named_task(name: str) -> "Task | None":
    """Return a task of the project, or the one that the data set `data/NAME` is; None if there is neither.

    Raises `DataError` for a data set whose file is faulty.
    """
    if (known := project_task(name)) is not None:
        return known
    from pipeline.tasks.dataset import is_dataset_name, read_dataset, task_of_data

    dataset = read_dataset(name) if is_dataset_name(name) else None
    return None if dataset is None or dataset.has_simulator else task_of_data(dataset)


def _removed_data(name: str) -> str:
    """Say that a data set may have been called so; raises `SettingsError` for one of a task that has a simulator."""
    from pipeline.tasks.dataset import is_dataset_name, read_dataset

    if not is_dataset_name(name):
        return ""
    if (dataset := read_dataset(name)) is not None:
        own = dataset.task if dataset.task in TASKS else "path/to/file.py:NAME"
        raise SettingsError(
            f"task: '{name}' is data of the task '{dataset.task}'. Name it: --task {own} --data {name}."
        )
    return " If it was a data set, that was removed: import it again."


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
