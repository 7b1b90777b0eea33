"""Which task runs are of: their tag names it, and a user's own task is found where the command line says."""

from collections.abc import Collection

from pipeline.config import AUTO
from pipeline.errors import SettingsError
from pipeline.tasks.project import DEFAULT, TASKS
from pipeline.tasks.registry import find_task, named_task
from pipeline.tasks.task import Task


def task_of_runs(names: Collection[str], reference: str = AUTO) -> Task:
    """Return the task of runs that are of the tasks `names`: the one that is referred to, or the only one.

    Of several the default task is taken. Raises `SettingsError` if the runs are of others, or their task is a user's
    own and not referred to.
    """
    if reference != AUTO:
        task = find_task(reference)
        if names and task.name not in names:
            raise SettingsError(f"task: expected {_listed(names)}, as the runs are, found '{task.name}'. See --help.")
        return task
    name = next(iter(names)) if len(set(names)) == 1 else DEFAULT
    if names and name not in names:
        raise SettingsError(f"task: expected one of {_listed(names)}, as the runs are, found none. Give --task.")
    if (known := named_task(name)) is None:
        raise SettingsError(
            f"task: expected one of {', '.join(TASKS)}, or a data set, found runs of '{name}'. "
            "If it was a data set, that was removed: import it again. If it is your own task, say where it is: --task "
            "path/to/file.py:NAME."
        )
    return known


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(set(names)))
