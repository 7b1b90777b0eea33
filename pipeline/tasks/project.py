"""The tasks of this project by name. A module is imported when its task is used."""

from importlib import import_module
from typing import TYPE_CHECKING

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
"""Where each task's record is."""


def project_task(name: str) -> "Task | None":
    """Return a task of the project; None if it has none of this name."""
    if name not in TASKS:
        return None
    module, _, variable = TASKS[name].partition(":")
    found: Task = getattr(import_module(module), variable)
    return found
