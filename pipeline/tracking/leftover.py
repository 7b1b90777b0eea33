"""Runs that are RUNNING though nobody works on them, as far as this machine can know: `doctor` ends them, `info` tells.

Ours have a journal or a tag that says where it is. A run that `mlflow run` has begun has neither before it starts us:
without conda, say, it never does, and leaves the run RUNNING.
"""

import getpass
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import psutil
import yaml
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT, MLFLOW_SOURCE_TYPE, MLFLOW_USER

from pipeline.config import ROOT
from pipeline.tracking.journal import journal_of
from pipeline.tracking.owner import JOURNAL_TAG, is_shared, journal_place, namesake
from pipeline.tracking.query import RUNNING, StoredRun

PROJECT = {MLFLOW_SOURCE_TYPE: "PROJECT"}  # the tag of runs that `mlflow run` has begun
CLOCKS_SECONDS = 5.0  # between the clock of a run's start and that of a process's


@dataclass(frozen=True)
class Leftover:
    """A run that is RUNNING though nobody seems to work on it."""

    run: StoredRun
    obstacle: str  # why it is not to be ended from here; empty if it is


def find_leftovers(runs: Iterable[StoredRun]) -> list[Leftover]:
    """Those of `runs` that nobody works on; so looks one that is being started just now and has no journal yet."""
    found = []
    for run in runs:
        if run.status != RUNNING:
            continue
        if journal_of(run.run_id).folder.exists():
            if _journal_is_free(run.run_id):
                found.append(Leftover(run, ""))
        elif run.tags.get(JOURNAL_TAG) == journal_place():
            who = namesake(run)
            found.append(Leftover(run, f"alive without a journal here: {who}" if who else ""))
        elif JOURNAL_TAG not in run.tags and _is_launched(run):
            found.append(Leftover(run, _why_leave(run)))
    return found


def _journal_is_free(run_id: str) -> bool:
    journal = journal_of(run_id)
    try:
        free = journal.own(patience=0)
    except OSError:  # it is closed to us
        return False
    if free:
        journal.release()
    return free


@cache
def entry_points() -> frozenset[str]:
    """The commands of ours that `mlflow run` can begin."""
    project = ROOT / "MLproject"
    return frozenset(yaml.safe_load(project.read_text())["entry_points"]) if project.exists() else frozenset()


def _is_launched(run: StoredRun) -> bool:
    """Whether `mlflow run` has begun a run for one of our commands."""
    return run.tags.items() >= PROJECT.items() and run.tags.get(MLFLOW_PROJECT_ENTRY_POINT) in entry_points()


def _why_leave(run: StoredRun) -> str:
    """Why a run that `mlflow run` has begun may have a process; empty if it has none."""
    if is_shared():
        return "its 'mlflow run' may be alive on another machine; if it is not, end the run in MLflow"
    if (user := run.tags.get(MLFLOW_USER)) != _user():
        return f"begun by {user}, whose processes cannot be read"
    myself = psutil.Process()
    above = {process.pid for process in myself.parents()}  # they wait for us, and not for the run
    for process in psutil.process_iter():
        try:
            if process.pid == myself.pid or process.username() != myself.username():
                continue
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            age = process.create_time() - run.started / 1000
            if age < CLOCKS_SECONDS and _is_mlflow_run(process.cmdline()):
                return f"process {process.pid} is an 'mlflow run' that may have begun it"
            if age > -CLOCKS_SECONDS and process.environ().get("MLFLOW_RUN_ID") == run.run_id:
                return f"process {process.pid} works on it"
        except psutil.NoSuchProcess:  # it has ended just now
            continue
        except (psutil.AccessDenied, OSError):
            if process.pid not in above:
                return f"process {process.pid} cannot be read, and may work on it"
    return ""


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a number without a name
        return None


def _is_mlflow_run(words: list[str]) -> bool:
    """Whether a command line is that of `mlflow ... run` or `python -m mlflow ... run`."""
    names = [word.rpartition("/")[2] for word in words]
    return "mlflow" in names and "run" in names[names.index("mlflow") :]
