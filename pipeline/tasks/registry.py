"""The tasks by name, and a user's own: `path/to/file.py:NAME` or `package.module:NAME`."""

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.errors import SettingsError

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


@cache
def find_task(reference: str) -> "Task":
    """Return a task by its name; raises `SettingsError` for a name that is not known."""
    if reference not in TASKS:
        raise SettingsError(f"task: expected one of {', '.join(TASKS)}, found '{reference}'. See --help.")
    module, _, name = TASKS[reference].partition(":")
    found: Task = getattr(import_module(module), name)
    return found
