"""Finding and mending what processes that died, or stores that were away, have left; delivering what still waits."""

import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import CollectSettings
from pipeline.errors import SettingsError, StoreError
from pipeline.tracking.journal import ENDED, JOURNALS, Journal, journal_of, left_journals, starting
from pipeline.tracking.mirror import FOLDERS
from pipeline.tracking.query import StoredRun, fetch, search
from pipeline.tracking.run import MACHINE, TrackedRun
from pipeline.tracking.store import Store, home, open_store
from pipeline.workflows.ensemble import one_at_a_time
from pipeline.workflows.unfinished import GONE, end_abandoned

YOUNG_SECONDS = 60.0  # a file this young may be in the making
TEMPORARY = re.compile(r"\..+-[a-z0-9_]{8}(\.\w+)?")  # what `whole_file` calls a file in the making


@dataclass(frozen=True)
class Finding:
    """Something that was left, and what was done about it."""

    what: str
    state: str
    done: str


def doctor() -> list[Finding]:
    """End the runs whose process is gone, deliver what waits, remove files never finished; say what was found."""
    store = open_store()
    findings = [finding for journal in left_journals() for finding in mend(store, journal)]
    with starting():
        orphans = [run for run in search(store, **{MACHINE: socket.gethostname()}) if is_orphan(run)]
    for run in orphans:
        end_abandoned(TrackedRun(store, run.run_id), run.tags.get("name", run.name), GONE, "KILLED")
        findings.append(Finding(label(run), GONE, "ended as KILLED"))
    removed = [path for path in temporary_files() if time.time() - path.stat().st_mtime > YOUNG_SECONDS]
    for path in removed:
        path.unlink(missing_ok=True)
    if removed:
        findings.append(Finding(f"{len(removed)} files", "begun by a process that is gone", "removed"))
    return findings


def mend(store: Store, journal: Journal) -> Iterator[Finding]:
    """Deliver what waits in a journal that we own, end its run if nobody has, and let go of it."""
    about = journal.about() or {}
    try:
        run = fetch(store, journal.run_id)
    except StoreError:
        yield Finding(f"run {journal.run_id}", "not in this store, or deleted there", "left alone")
        journal.release()
        return
    tracked = TrackedRun(store, run.run_id)
    tracked.journal = journal
    delivered, waiting = tracked.deliver_waiting()
    ended = about.get(ENDED)
    done = [f"{delivered} calls delivered"] if delivered else []
    done += [f"{waiting} calls still wait"] if waiting else []
    if ended == "FINISHED":
        if waiting:
            journal.release()
        else:
            journal.remove()
        yield Finding(label(run), "finished while its store was away", ", ".join(done) or "nothing was left to do")
        return
    if ended is None:
        end_abandoned(tracked, str(about.get("name", run.name)), GONE, "KILLED")
        done.append("ended as KILLED")
    else:
        journal.release()
    how = f"--resume {run.run_id} goes on with it" if journal.snapshot.exists() else "--resume begins it again"
    yield Finding(label(run), GONE if ended is None else f"ended as {ended}", ", ".join([*done, how]))


def is_orphan(run: StoredRun) -> bool:
    """Whether a RUNNING run of this machine has no process: it has no journal, and no process has its study."""
    if run.status != "RUNNING" or journal_of(run.run_id).folder.exists():
        return False
    if "study" not in run.tags:
        return True
    try:
        with one_at_a_time(run.tags["study"]):
            return True
    except SettingsError:
        return False


def label(run: StoredRun) -> str:
    """How a person knows a run: its name, its method or kind, its seed."""
    about = [run.tags.get("method") or run.tags.get("kind", "")]
    about += [f"seed {run.params['seed']}"] if "seed" in run.params else []
    return f"{run.name} ({', '.join(filter(None, about))})"


def temporary_files() -> list[Path]:
    """Files in the making, in the folders that are ours to write to."""
    folders = [*FOLDERS, CollectSettings().out, home(), *(journal.folder for journal in _journals())]
    return [
        path for folder in folders if folder.is_dir() for path in folder.iterdir() if TEMPORARY.fullmatch(path.name)
    ]


def _journals() -> list[Journal]:
    return [Journal(folder) for folder in (home() / JOURNALS).glob("*") if folder.is_dir()]


def sync() -> list[Finding]:
    """Deliver what waits in the journals of runs that nobody works on, in order."""
    store = open_store()
    findings: list[Finding] = []
    for journal in left_journals():
        if not journal.has_waiting:
            journal.release()
            continue
        findings += mend(store, journal)
    return findings
