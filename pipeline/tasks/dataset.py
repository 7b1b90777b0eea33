"""A data set: a folder of `data/` with demonstrations, and the file there that tells what they are.

A data set of a known task lies beside the task's own data. One that was imported without a simulator is a task of its
own: its file gives the channels and the seconds of a control step, and no control can be judged.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError, SettingsError, one_line
from pipeline.files import whole_file

if TYPE_CHECKING:
    from pipeline.tasks.task import Channel, Task

DATA = Path("data")
FILE = "dataset.json"
LARGEST = 10_000_000  # bytes of the file


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What is in the folder of a data set, and where it is from."""

    name: str  # of the folder
    task: str  # a task's name; its own name where there is no simulator
    observation: tuple["Channel", ...]
    action: tuple["Channel", ...]
    control_seconds: float
    horizon: int  # actions of a chunk
    episodes: int
    frames: int
    format: str  # "collect", "lerobot v3.0", ...
    source: str  # the path that was read, or the command that made it
    source_sha256: str
    licence: str = ""  # empty where the source does not state one
    made: str = ""  # date and time, UTC, ISO 8601

    @property
    def has_simulator(self) -> bool:
        """Whether it is data of a task that can be simulated."""
        return self.task != self.name


def read_dataset(name: str) -> DataSet | None:
    """Read what `data/NAME` tells of itself; None where there is no such file. Raises `DataError` for a faulty one."""
    path = DATA / name / FILE
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path.stat().st_size} bytes")
        return _dataset(name, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: expected what 'python -m pipeline import' writes, found: {one_line(error)}. Import it again."
        ) from error


def write_dataset(dataset: DataSet) -> None:
    """Write `data/NAME/dataset.json`; the folder must be there."""
    with whole_file(DATA / dataset.name / FILE) as path:
        path.write_text(json.dumps(asdict(dataset), indent=1) + "\n", encoding="utf-8")


def find_dataset(name: str) -> DataSet:
    """Return a data set by its name; raises `SettingsError` if there is none."""
    found = read_dataset(name)
    if found is None:
        raise SettingsError(
            f"data: expected the name of a data set, found '{name}', which is none. "
            "See them with 'python -m pipeline data list'."
        )
    return found


def task_of_data(dataset: DataSet) -> "Task":
    """Return the task that a data set without a simulator is."""
    from pipeline.tasks.task import Task

    return Task(
        name=dataset.name,
        description=f"{dataset.episodes} demonstrations from {dataset.source}, without a simulator.",
        observation=dataset.observation,
        action=dataset.action,
        control_seconds=dataset.control_seconds,
        horizon=dataset.horizon,
    )


def _dataset(name: str, values: Mapping[str, Any]) -> DataSet:
    from pipeline.tasks.check import NAME, check_record
    from pipeline.tasks.task import Channel

    known = {field.name for field in fields(DataSet)}
    if not isinstance(values, dict) or values.keys() - known or values.get("name") != name or not NAME.fullmatch(name):
        raise ValueError(f"other fields than those of a data set called '{name}'")
    kinds = {"control_seconds": (int, float), "horizon": int, "episodes": int, "frames": int}
    for key, value in values.items():
        if key not in ("observation", "action") and not isinstance(value, kinds.get(key, str)):
            raise ValueError(f"'{key}' is {type(value).__name__}")
    channels = {key: tuple(Channel(**each) for each in values[key]) for key in ("observation", "action")}
    found = DataSet(**{**values, **channels})
    check_record(task_of_data(found))
    return found
