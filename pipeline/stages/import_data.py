"""Import demonstrations: read a source, check it, cut it into training pairs, write a data set."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.config import AUTO, DATA, NONE
from pipeline.data.sources.apart import apart
from pipeline.data.sources.check import Check
from pipeline.data.sources.registry import find_format, recognise
from pipeline.data.sources.source import Feature, Source, chosen, fault, matching, readable
from pipeline.data.sources.spool import Spool, spool, write_pairs, write_trajectories
from pipeline.errors import DataError, SettingsError
from pipeline.files import MOST_RATIO, MOST_SMALL, check_folder, file_digest, whole_folder, writing
from pipeline.stages.collect import CUT_FROM, PAIRS_FILE, TRAJECTORIES_FILE
from pipeline.stages.data_files import how_to_remove
from pipeline.stages.settings import ImportSettings
from pipeline.tasks.dataset import (
    LONGEST,
    DataSet,
    dataset_text,
    is_dataset_name,
    task_of_data,
    write_dataset,
)
from pipeline.tasks.facts import KEY, facts_of
from pipeline.tasks.project import TASKS
from pipeline.tasks.registry import find_task
from pipeline.tasks.task import HORIZON, Channel, Task
from pipeline.versions import installed_versions

RATES_AGREE = 0.001  # of the source and of the task: the share by which they may differ
LONGEST_NAME = 200  # characters of a channel's
OF_TASK = "actions beyond the task's limits, which the simulator applies clipped"
OF_SOURCE = "numbers beyond the limits that the source states"


@dataclass(frozen=True)
class Columns:
    """The numbers of a frame that are taken as its state or its action."""

    keys: tuple[str, ...]  # of the source, and groups of them
    names: tuple[str, ...]  # as the source has them, in its order
    order: tuple[int, ...]  # the places of the data set's channels in the source
    channels: tuple[Channel, ...]  # of the data set
    limits: tuple[tuple[float, float], ...]  # least and largest of each channel by the source
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """What is to be imported, before its episodes are read."""

    source: Source
    task: Task | None  # None: it will be a task of its own
    state: Columns
    action: Columns
    dataset: DataSet  # as the source has it: copies and short episodes are not left out yet, the digest is not known


@dataclass(frozen=True)
class Imported:
    """The data set that was written."""

    dataset: DataSet
    pairs: int
    warnings: tuple[str, ...]
    files: tuple[Path, ...]


def look(settings: ImportSettings) -> Found:
    """Read what the source says of itself, and choose from it; raises `UserError`."""
    name = settings.out.name
    if settings.out.absolute().parent != DATA.absolute() or not is_dataset_name(name):
        raise SettingsError(
            f"out: expected data/NAME, with a NAME of letters, digits and _, found '{settings.out}'. See --help."
        )
    if name in TASKS:
        raise SettingsError(f"out: expected another name than a task's, found '{name}', whose own data lie there.")
    if settings.out.exists() or settings.out.is_symlink():
        raise SettingsError(
            f"out: expected a data set that is not there yet, found '{settings.out}'. Name another, or first "
            f"{how_to_remove(name)}."
        )
    check_folder(settings.out.parent, "a data set")
    task = None if settings.task == NONE else find_task(settings.task)
    format = find_format(recognise(settings.path) if settings.format == AUTO else settings.format)
    given = {what: _given(getattr(settings, what)) for what in ("state", "action")}
    keys = [key for what in given for key in given[what] or getattr(format, what)]
    with readable(settings.path, format.about):
        source = apart(settings.path, lambda tell: format.open(settings.path, keys))
    state, action = (
        _columns(source, what, tuple(chosen(source, what, given[what], getattr(format, what))), task) for what in given
    )
    size = sum(path.stat().st_size for path in source.files)
    claimed = source.frames * (len(state.channels) + len(action.channels)) * 4
    if claimed > MOST_SMALL + MOST_RATIO * size:
        expected = f"no more frames than its {size:,} bytes can hold"
        raise fault(settings.path, expected, f"{source.frames:,} claimed")
    instruction = source.tasks[0] if len(source.tasks) == 1 else ""
    dataset = DataSet(
        name=name,
        task=name if task is None else task.name,
        observation=state.channels,
        action=action.channels,
        control_seconds=_seconds(settings, source, task),
        horizon=settings.horizon or (HORIZON if task is None else task.horizon),
        episodes=source.episodes,
        frames=source.frames,
        format=source.format,
        source=str(settings.path),
        source_sha256="",
        licence=source.licence,
        instruction=instruction if instruction.isprintable() and len(instruction) <= LONGEST else "",
    )
    dataset_text(dataset)  # what cannot be told of it is refused before its episodes are read
    return Found(source, task, state, action, dataset)


def import_data(settings: ImportSettings, found: Found, watch: Callable[[int, int], None]) -> Imported:
    """Read all episodes, check them and write `settings.out`, whole or not at all.

    Copies of episodes, and those shorter than a chunk, are left out. `watch` is told episodes done and in all. Needs
    memory for a block of frames, or for the longest episode, and some 80 to 240 bytes an episode. Raises `UserError`.
    """
    source, dataset = found.source, found.dataset
    sizes = len(dataset.observation), len(dataset.action)
    taken = found.state, found.action
    with np.errstate(over="ignore"):  # beyond float32's range counts as infinite
        limits = np.array([pair for each in taken for pair in each.limits], np.float32).T
    checking = Check(
        settings.path,
        source,
        found.state.keys,
        found.action.keys,
        dataset.horizon,
        orders=(list(found.state.order), list(found.action.order)),
        limits=limits,
        out_of_limits=OF_SOURCE if found.task is None else OF_TASK,
    )
    digest = _digest(settings.path, source.files)
    with whole_folder(settings.out) as folder:

        def read(tell: Callable[[int], None]) -> tuple[tuple[Path, Path], Check]:
            with readable(settings.path, "episodes"), writing(settings.out):
                return spool(folder, checking.episodes(), tell), checking

        files, check = apart(settings.path, read, lambda done: watch(done, source.episodes))
        kept, lengths = check.kept(), np.array(check.lengths, np.int64)
        spooled = Spool(files, sizes, (np.cumsum(lengths) - lengths)[kept], lengths[kept])
        kept_frames = int(spooled.lengths.sum())
        dataset = replace(dataset, episodes=len(spooled.lengths), frames=kept_frames, source_sha256=digest)
        write_dataset(dataset, folder)
        metadata = {
            "made_by": "tinypi import",
            "format": source.format,
            "source_sha256": digest,
            KEY: facts_of(found.task or task_of_data(dataset)).values(),
            "versions": installed_versions("numpy", "pyarrow"),
        }
        write_trajectories(folder / TRAJECTORIES_FILE, spooled, metadata)
        metadata[CUT_FROM] = file_digest(folder / TRAJECTORIES_FILE)
        pairs = write_pairs(folder / PAIRS_FILE, spooled, dataset.horizon, settings.every, metadata)
        for file in files:
            file.unlink()
    names = [channel.name for each in taken for channel in each.channels]
    warnings = *found.state.warnings, *found.action.warnings, *check.warnings(names)
    written = tuple(sorted(settings.out.iterdir()))
    return Imported(dataset, pairs, warnings, written)


def _given(keys: str) -> list[str]:
    return [] if keys == AUTO else [word.strip() for word in keys.split(",")]


def _columns(source: Source, what: str, keys: tuple[str, ...], task: Task | None) -> Columns:
    """Take what these keys mean as states or actions, `what`, of a task: in its order where they have its names."""
    features = [source.features[key] for key in matching(source.features, keys)]
    names = _names(features, keys)
    own = tuple(range(len(names)))
    if task is None:
        limits = [pair for each in features for pair in each.limits or [(-np.inf, np.inf)] * each.size]
        return Columns(keys, names, own, tuple(Channel(name, name, "") for name in names), tuple(limits))
    expected = task.observation if what == "state" else task.action
    wanted = [channel.name for channel in expected]
    if len(names) != len(wanted):
        raise DataError(
            f"{what}: expected the {len(wanted)} numbers of the task '{task.name}' ({', '.join(wanted)}), found "
            f"{len(names)} in {', '.join(keys)}. Choose others by --{what}, or leave out --task."
        )
    same = sorted(names) == sorted(wanted)
    order = tuple(map(names.index, wanted)) if same else own
    warnings = []
    if not same and any(feature.names for feature in features):
        taken, of_task = ", ".join(names), ", ".join(wanted)
        warnings.append(f"{what}: the source's {taken} are taken, in this order, for the task's {of_task}")
    bounds = np.full(len(wanted), np.inf) if what == "state" else task.limits
    return Columns(keys, names, order, expected, tuple((-most, most) for most in bounds.tolist()), tuple(warnings))


def _names(features: Sequence[Feature], choices: Sequence[str]) -> tuple[str, ...]:
    """The source's name of each number, or that of its feature and a number."""
    names = [name for feature in features for name in feature.names or _numbered(feature.key, feature.size)]
    good = all(name.isprintable() and 0 < len(name) <= LONGEST_NAME for name in names)
    if not good or len(set(names)) < len(names):  # two features with the same names
        names = [name for feature in features for name in _numbered(feature.key, feature.size, whole=True)]
    if not all(name.isprintable() and len(name) <= LONGEST_NAME for name in names):
        raise DataError(f"features: expected short names in one line, found '{', '.join(choices)!r:.200}'.")
    return tuple(names)


def _numbered(key: str, size: int, whole: bool = False) -> list[str]:
    short = key if whole else re.split("[./]", key)[-1] or key
    return [short] if size == 1 else [f"{short}_{number}" for number in range(size)]


def _seconds(settings: ImportSettings, source: Source, task: Task | None) -> float:
    """The seconds of a frame, on which source, task and settings must agree."""
    stated = {"the source": source.rate, "--fps": settings.fps or None, "the task": task and 1 / task.control_seconds}
    rates = {who: rate for who, rate in stated.items() if rate}
    if not rates:
        raise SettingsError(
            f"fps: expected the frames a second of {settings.path}, which it does not say. Give them by --fps."
        )
    if max(rates.values()) > min(rates.values()) * (1 + RATES_AGREE):
        shown = ", ".join(f"{rate:g} of {who}" for who, rate in rates.items())
        raise SettingsError(f"fps: expected one rate of frames, found {shown}. Convert the source to the task's rate.")
    return task.control_seconds if task else 1 / next(iter(rates.values()))


def _digest(path: Path, files: Iterable[Path]) -> str:
    """The sha256 of a file; of several, that of a list of theirs with names, as `sha256sum` prints it."""
    if [*islice(files, 2)] == [path]:
        return file_digest(path)
    digest = sha256()
    for file in files:
        name = file.relative_to(path) if file.is_relative_to(path) else file.name
        digest.update(f"{file_digest(file)}  {name}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
