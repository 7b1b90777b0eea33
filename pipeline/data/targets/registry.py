"""The formats that demonstrations are exported to: a file for each, and its line here."""

from collections.abc import Callable
from pathlib import Path

from pipeline.data.targets.lerobot import write_lerobot
from pipeline.data.trajectories import Trajectories
from pipeline.tasks.task import Task

Watch = Callable[[int], None]
"""`watch(count)`: so many episodes are written."""

FORMATS: dict[str, Callable[[Path, Task, Trajectories, Watch, str, str], None]] = {"lerobot": write_lerobot}
"""By name, `write(folder, task, demonstrations, watch, instruction, licence)`, which fills an empty folder."""
