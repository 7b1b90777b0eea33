"""The data sets in `data/`: what is there, from where, and which runs were trained on it; removing one."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pipeline.config import DATA
from pipeline.data.lock import data_lock
from pipeline.data.pairs import load_action_pairs
from pipeline.data.trajectories import load_trajectories
from pipeline.errors import SettingsError, UserError, one_line
from pipeline.files import file_digest
from pipeline.names import DATA_ASKED, DATA_SHA256, PAIRS, PAIRS_SHA256
from pipeline.stages.collect import PAIRS_FILE, TRAJECTORIES_FILE
from pipeline.stages.data_files import files_of_set, how_to_remove
from pipeline.tasks.dataset import DataSet, folder_of, horizons_of, is_dataset_name, read_dataset
from pipeline.tasks.facts import BEFORE
from pipeline.tasks.project import DEFAULT, TASKS
from pipeline.tasks.registry import find_task
from pipeline.tasks.task import Channel
from pipeline.tracking.query import RUNNING, StoredRun, search
from pipeline.tracking.store import database_file, open_store

DIGESTS = frozenset((DATA_SHA256, PAIRS_SHA256))
"""The tags of a training that have the sha256 of its data."""


@dataclass(frozen=True)
class Found:
    """A data set as it is in its folder."""

    name: str
    horizon: int  # of a folder `horizon_...`; 0: the set itself
    dataset: DataSet | None  # what its file tells; None if there is none, as of an early version, or a faulty one
    fault: str  # of the file, in one line

    @property
    def folder(self) -> Path:
        return folder_of(self.name, self.horizon)

    @property
    def words(self) -> str:
        """How it is named on a command line."""
        return f"{self.name} --horizon {self.horizon}" if self.horizon else self.name

    @cached_property
    def files(self) -> list[Path]:
        """Its files, sorted."""
        return files_of_set(self.folder)

    @cached_property
    def digests(self) -> dict[Path, str]:
        """The sha256 of each file."""
        return {path: file_digest(path) for path in self.files}

    @property
    def digest(self) -> str:
        """The sha256 of its action pairs; empty if they are missing."""
        return self.digests.get(self.folder / PAIRS_FILE, "")

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.files)

    def on_now(self, run: StoredRun) -> bool:
        """Whether a run was trained on the files as they are now."""
        told = {run.tags[name] for name in DIGESTS & run.tags.keys()}
        return bool(told) and told <= {*self.digests.values()}

    def names(self, run: StoredRun) -> bool:
        """Whether a run names the set, or a file in its folder, as data."""
        here = Path(run.params.get(PAIRS, "/")).parent == self.folder
        return here or (not self.horizon and run.params.get(DATA_ASKED) == self.name)


def find_all() -> list[Found]:
    """Every data set in `data/`: the default task's, then others by name, each with the folders of other horizons."""
    names = [DEFAULT, *sorted(path.name for path in DATA.glob("*") if path.is_dir() and path.name != DEFAULT)]
    found = []
    for name in names:
        if is_dataset_name(name):
            found += [each for each in (_look(name, horizon) for horizon in [0, *horizons_of(name)]) if each.files]
    return found


def find(name: str, horizon: int = 0) -> Found:
    """Return a data set by its name; raises `SettingsError` if there is none, `DataError` for a faulty file of it."""
    if not is_dataset_name(name) or not folder_of(name, horizon).is_dir():
        chunks = f" with chunks of {horizon} actions" if horizon else ""
        raise SettingsError(
            f"data: expected the name of a data set{chunks}, found '{name}', which is none. "
            "See them with 'python -m pipeline data list'."
        )
    found = Found(name, horizon, read_dataset(name, horizon), "")
    if not found.files:
        rest = "" if horizon else f" To be rid of what is there, {how_to_remove(name)}."
        raise SettingsError(f"data: expected demonstrations or training pairs in {found.folder}/, found none.{rest}")
    return found


def contents(found: Found) -> DataSet | str:
    """Return what a data set tells, read off its arrays where it has no file that does; or why it cannot be told."""
    if found.fault:
        return found.fault
    if found.dataset:
        return found.dataset
    try:
        return _contents(found)
    except UserError as error:
        return one_line(error)


def ranges(found: Found) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """The least and the largest number of each state, and of each action; none without readable trajectories."""
    try:
        known = load_trajectories(found.folder / TRAJECTORIES_FILE)
    except UserError:
        return [], []
    states, actions = (
        [(float(column.min()), float(column.max())) for column in values.reshape(-1, values.shape[-1]).T]
        for values in (known.states, known.actions)
    )
    return states, actions


def users(found: Found, runs: Sequence[StoredRun]) -> tuple[list[StoredRun], list[StoredRun]]:
    """The runs on a data set: those on its files as they are now, and those that name it, on files that it had.

    Runs of studies and searches record no digests, so they are neither.
    """
    now = [run for run in runs if found.on_now(run)]
    return now, [run for run in runs if found.names(run) and not found.on_now(run) and DIGESTS & run.tags.keys()]


def stored_runs(status: str = "") -> list[StoredRun]:
    """The runs of the store, of any status or one; it is not created if there is none yet. Raises `StoreError`."""
    database = database_file()
    return [] if database and not database.exists() else search(open_store(), status=status)


def _require_unused(found: Found) -> None:
    running = [run for run in stored_runs(RUNNING) if found.on_now(run) or found.names(run)]
    if running:
        raise SettingsError(
            f"data: '{found.words}' is used by {running[0].name} ({running[0].run_id}), which is RUNNING. Wait for it, "
            "or end what a dead process left with 'python -m pipeline doctor'."
        )


def remove(found: Found, ask: Callable[[str], bool]) -> tuple[Path, ...]:
    """Remove a set's own files, and its folder if nothing else is there; returns the files, none if `ask` says no.

    Raises `SettingsError` if a run that is still RUNNING uses the set, or its folder is a link; `StoreError` if that
    cannot be told.
    """
    if found.folder != DATA and found.folder.is_symlink():
        raise SettingsError(f"data: expected a folder, found that {found.folder} is a link. Remove the link yourself.")
    _require_unused(found)
    files = tuple(found.files)
    if not ask(f"Remove {', '.join(map(str, files))} ({found.size / 1e6:,.1f} MB){_needed_by(found)}?"):
        return ()
    with data_lock(found.folder):
        _require_unused(found)  # a run may have started while the question stood
        for path in files:
            path.unlink(missing_ok=True)
    if found.folder != DATA:
        (found.folder / ".lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is there
            found.folder.rmdir()
    return files


def _needed_by(found: Found) -> str:
    """Say which finished runs were trained on a set; without a simulator the set is their task as well."""
    runs = [run for run in stored_runs() if run.status == "FINISHED" and (found.on_now(run) or found.names(run))]
    if not runs:
        return ""
    task = found.dataset is not None and not found.dataset.has_simulator and not found.horizon
    lost = ", of which nothing can be evaluated or reported until it is imported again" if task else ""
    return f", the data of {', '.join(run.name for run in runs[-3:])}{' and others' * (len(runs) > 3)}{lost}"


def _look(name: str, horizon: int) -> Found:
    try:
        return Found(name, horizon, read_dataset(name, horizon), "")
    except UserError as error:
        return Found(name, horizon, None, one_line(error))


def _contents(found: Found) -> DataSet:
    """Tell a set by its arrays; raises `DataError`."""
    trajectories, pairs = found.folder / TRAJECTORIES_FILE, found.folder / PAIRS_FILE
    episodes = frames = horizon = 0
    facts = BEFORE
    if pairs.exists():
        known = load_action_pairs(pairs)
        facts, horizon = known.task, known.action_chunk.shape[1]
        episodes = 0 if known.trajectory is None else len(np.unique(known.trajectory))
    if trajectories.exists():
        demonstrations = load_trajectories(trajectories)
        facts = demonstrations.task
        episodes, frames = len(demonstrations.gains), demonstrations.states[..., 0].size
    task = find_task(facts.name) if facts.name in TASKS else None
    return DataSet(
        name=found.name,
        task=facts.name,
        observation=task.observation if task else tuple(Channel(name, name, "") for name in facts.observation),
        action=task.action if task else tuple(Channel(name, name, "") for name in facts.action),
        control_seconds=task.control_seconds if task else 0.0,
        horizon=horizon,
        episodes=episodes,
        frames=frames,
        format="",
        source="",
        source_sha256="",
        simulated=True,
    )
