"""A data set: a folder of `data/` with demonstrations, and the file there that tells what they are.

A data set of a known task lies beside the task's own data. One that was imported without a simulator is a task of its
own: its file gives the channels and the seconds of a control step, and no control can be judged. The file is plain
JSON. It never leads to code, whatever task it names.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.config import DATA
from pipeline.errors import DataError, SettingsError, UserError, one_line, reason
from pipeline.files import write_text
from pipeline.parse import json_object, small_text
from pipeline.tasks.check_record import check_record
from pipeline.tasks.facts import NAME
from pipeline.tasks.project import DEFAULT
from pipeline.tasks.task import Channel, Task

FILE = "dataset.json"
OF_HORIZON = "horizon_"  # before the actions of a chunk, in the name of a folder
LARGEST = 10_000_000  # bytes of the file
LONGEST_HORIZON, MOST_CHANNELS, LONGEST = 1000, 10_000, 4000  # the last in characters of a text


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What is in the folder of a data set, and where it is from."""

    name: str  # of the folder
    task: str  # a task's name; its own name where there is no simulator
    observation: tuple[Channel, ...]
    action: tuple[Channel, ...]
    control_seconds: float
    horizon: int  # actions of a chunk
    episodes: int
    frames: int
    format: str  # "collect", "lerobot v3.0", ...
    source: str  # the path that was read, or the command that made it
    source_sha256: str
    simulated: bool = False  # made by a task of this name that has a simulator
    licence: str = ""  # empty where the source does not state one
    instruction: str = ""  # what the demonstrator was asked to do, where the source says it in one text

    @property
    def has_simulator(self) -> bool:
        """Whether it is data of a task that can be simulated."""
        return self.simulated or self.task != self.name


def folder_of(name: str, horizon: int = 0) -> Path:
    """Return the folder of a data set; its chunks of another horizon than its own are in a folder below."""
    folder = DATA if name == DEFAULT else DATA / name
    return folder / f"{OF_HORIZON}{horizon}" if horizon else folder


def name_of(folder: Path, task: str) -> str:
    """Return the name of the data set in a folder; outside of `data/` it is the task's."""
    place, data = folder.resolve(), DATA.resolve()
    parts = place.relative_to(data).parts if place.is_relative_to(data) else ()
    names = [part for part in parts if not part.startswith(OF_HORIZON)]
    return names[0] if len(names) == 1 and is_dataset_name(names[0]) else task


def horizons_of(name: str) -> list[int]:
    """The lengths of chunks of which a data set has folders, beside its own."""
    texts = [path.name.removeprefix(OF_HORIZON) for path in folder_of(name).glob(f"{OF_HORIZON}*")]
    return sorted(int(text) for text in texts if text.isdecimal() and text == str(int(text)) and int(text) > 0)


def set_of(folder: Path) -> str:
    """Return the name of the data set in a folder, also of its chunks of another horizon; empty outside of `data/`."""
    return name_of(folder, DEFAULT if folder.resolve().is_relative_to(DATA.resolve()) else "")


def told_in(folder: Path) -> DataSet | None:
    """Return what the data set in a folder tells of itself; None where there is none, or it cannot be read."""
    name = set_of(folder)
    try:
        return read_dataset(name) if name else None
    except DataError:
        return None


def read_dataset(name: str, horizon: int = 0) -> DataSet | None:
    """Read what a data set tells of itself; None where there is no such file. Raises `DataError` for a faulty one."""
    path = folder_of(name, horizon) / FILE
    if not path.is_file():
        return None
    try:
        dataset = _from_json(json_object(small_text(path, LARGEST)))
        if dataset.name != name:
            raise ValueError(f"a data set called '{dataset.name}'")
        _check(dataset)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: expected what 'python -m pipeline collect' or 'import' writes, found: {reason(error)[:300]}. "
            "Collect or import it again."
        ) from error
    return dataset


def dataset_text(dataset: DataSet) -> str:
    """Return what `dataset.json` holds; raises `SettingsError` for what could not be read again."""
    try:
        _check(dataset)
        text = json.dumps(asdict(dataset), indent=1, allow_nan=False) + "\n"
        if len(text) > LARGEST:
            raise ValueError(f"{len(text):,} bytes, of at most {LARGEST:,}")
    except UserError as error:  # of the record of its task
        raise SettingsError(f"data set '{dataset.name}': {one_line(error)}") from error
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"data set '{dataset.name}': expected what {FILE} can hold, found {one_line(error)}."
        ) from error
    return text


def write_dataset(dataset: DataSet, folder: Path | None = None) -> None:
    """Write `dataset.json` to the set's folder, or to a `folder` that will be it; it must be there.

    Raises `SettingsError` as `dataset_text` does.
    """
    text = dataset_text(dataset)
    write_text((folder or folder_of(dataset.name)) / FILE, text)


def maker_of(file: Path) -> str:
    """Return the command that makes a file again: what made the data set that it is of, if its folder tells."""
    dataset = told_in(file.parent)
    return f"python -m pipeline {'import' if dataset and not dataset.simulated else 'collect'}"


def find_dataset(name: str) -> DataSet:
    """Return a data set by its name; raises `SettingsError` if there is none."""
    found = read_dataset(name) if is_dataset_name(name) else None
    if found is None:
        raise SettingsError(
            f"data: expected the name of a data set, found '{name}', which is none. "
            "See them with 'python -m pipeline data list'."
        )
    return found


def is_dataset_name(name: str) -> bool:
    """Whether a data set can be called so: the name of a folder in `data/`, not a path, nor that of another horizon."""
    return NAME.fullmatch(name) is not None and not name.startswith(OF_HORIZON)


def task_of_data(dataset: DataSet) -> Task:
    """Return the task that a data set without a simulator is."""
    return Task(
        name=dataset.name,
        description=f"{dataset.episodes:,} demonstrations from {dataset.source}, without a simulator.",
        observation=dataset.observation,
        action=dataset.action,
        control_seconds=dataset.control_seconds,
        horizon=dataset.horizon,
    )


def _from_json(values: dict[str, Any]) -> DataSet:
    """Make the record of plain values of the right types; raises `ValueError`, `KeyError`, `TypeError`."""
    channels = {key: tuple(Channel(**each) for each in values[key]) for key in ("observation", "action")}
    return DataSet(**{**values, **channels})


def _check(dataset: DataSet) -> None:
    """Raise `ValueError` or `TypeError` for a record with which nothing can be done."""
    kinds: dict[str, tuple[type, ...]] = {"control_seconds": (int, float), "simulated": (bool,)}
    kinds |= dict.fromkeys(("horizon", "episodes", "frames"), (int,)) | dict.fromkeys(
        ("observation", "action"), (tuple,)
    )
    for field in fields(dataset):
        value = getattr(dataset, field.name)
        if type(value) not in kinds.get(field.name, (str,)):
            raise ValueError(f"'{field.name}' of the type {type(value).__name__}")
        if isinstance(value, str) and not (value.isprintable() and len(value) <= LONGEST):
            raise ValueError(f"a {field.name} that is not one line of at most {LONGEST:,} printable characters")
    if not is_dataset_name(dataset.task):
        raise ValueError(f"'task' that is no name: '{dataset.task}'")
    if dataset.horizon > LONGEST_HORIZON:
        raise ValueError(f"a horizon of {dataset.horizon:,}, of at most {LONGEST_HORIZON:,}")
    if (channels := len(dataset.observation) + len(dataset.action)) > MOST_CHANNELS:
        raise ValueError(f"{channels:,} channels of state and action, of at most {MOST_CHANNELS:,}")
    if min(dataset.episodes, dataset.frames) < 0:
        raise ValueError("less than no episode or frame")
    check_record(task_of_data(dataset), registered=dataset.has_simulator)
