"""The formats that demonstrations are exported to, by name. Where each is: a module is imported when it writes."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # names alone need no NumPy: settings are read for --help
    from pipeline.data.trajectories import Trajectories
    from pipeline.tasks.task import Task

    Watch = Callable[[int], None]  # `watch(count)`: so many episodes are written
    Writer = Callable[[Path, Task, Trajectories, Watch, str, str], None]

FORMATS = {"lerobot": "pipeline.data.targets.lerobot:write_lerobot"}
"""A writer each: `write(folder, task, demonstrations, watch, instruction, licence)`, which fills an empty folder."""


def find_writer(name: str) -> "Writer":
    """Return what writes a format, one of `FORMATS`."""
    module, _, function = FORMATS[name].partition(":")
    found: Writer = getattr(import_module(module), function)
    return found
