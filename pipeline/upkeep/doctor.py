"""Finding and mending what processes that died, or stores that were away, have left; delivering what still waits."""

import contextlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import DATA
from pipeline.errors import one_line
from pipeline.files import IN_THE_MAKING
from pipeline.names import KIND, METHOD, NAME, SEED, TOGETHER
from pipeline.stages.unfinished import GONE, end_abandoned
from pipeline.tracking.delivery import WITH_RETRIES
from pipeline.tracking.journal import ENDED, PLACE, Journal, journal_of, left_journals, starting
from pipeline.tracking.leftover import find_leftovers
from pipeline.tracking.mirror import MIRROR
from pipeline.tracking.owner import JOURNAL_TAG, is_of_elsewhere
from pipeline.tracking.query import RUNNING, StoredRun, fetch, search
from pipeline.tracking.run import TrackedRun
from pipeline.tracking.store import Store, home, open_store

YOUNG_SECONDS = 900.0  # what was written to so recently may be in the making
KILLED = "ended as KILLED"


@dataclass(frozen=True)
class Finding:
    """Something that was left, and what was done about it."""

    what: str
    state: str
    done: str
    waiting: int = 0  # calls to MLflow that still wait


def doctor() -> list[Finding]:
    """End the runs whose process is gone, deliver what waits, remove files never finished; say what was found."""
    store = open_store()
    findings = [examine(store, journal) for journal in left_journals()]
    with starting():  # else a run that is just being started would have no journal yet
        running = search(store, status=RUNNING)
        left = find_leftovers(run for run in running if not journal_of(run.run_id).folder.exists())
    for each in left:
        run = each.run
        if each.obstacle:
            findings.append(Finding(label(run), each.obstacle, "left alone"))
        elif end_abandoned(TrackedRun(store, run.run_id), run.tags.get(NAME, run.name), GONE, "KILLED"):
            findings.append(Finding(label(run), GONE, KILLED))
    if removed := remove_unfinished_files():
        findings.append(Finding(f"{removed} files", "begun by a process that is gone", "removed"))
    return findings


def sync() -> list[Finding]:
    """Deliver what waits in the journals of runs that nobody works on, in order."""
    store = open_store()
    return [examine(store, journal) for journal in left_journals() if journal.has_waiting]


def examine(store: Store, journal: Journal) -> Finding:
    """Mend the run of a journal that we own; what stands in the way of it is no reason to leave the others."""
    try:
        return mend(store, journal)
    except Exception as error:
        return Finding(f"run {journal.run_id}", "could not be mended", one_line(error)[:300], journal.count_waiting())


def mend(store: Store, journal: Journal) -> Finding:
    """Deliver what waits in a journal, end its run if nobody has, and remove what is of no more use."""
    about = journal.about()
    run = fetch(store, journal.run_id)
    if run.deleted:
        journal.own()
        journal.remove()
        return Finding(label(run), "deleted in MLflow", "its journal is removed")
    place = run.tags.get(JOURNAL_TAG)
    if is_of_elsewhere(run) and METHOD not in about and about.get(PLACE, place) != place:
        journal.own()
        journal.remove()  # what waits in it would overwrite what came after
        return Finding(label(run), f"taken over by {place}", "its journal is removed")
    tracked = TrackedRun(store, run.run_id)
    tracked.journal, tracked.limits = journal, WITH_RETRIES
    delivered, waiting = tracked.deliver_waiting()
    done = [f"{delivered} calls delivered"] if delivered else []
    done += [f"{waiting} calls still wait: {tracked.obstacle}"] if waiting else []
    status = about.get(ENDED) or (run.status if run.status != RUNNING else None)
    if status is None and not waiting:
        journal.own()  # ending it lets go of the journal once
        end_abandoned(tracked, str(about.get(NAME, run.name)), GONE, "KILLED")
        done.append(KILLED)
    if status == "FINISHED":
        if not waiting and journal.folder.exists():
            journal.own()
            journal.remove()
        return Finding(label(run), "finished", ", ".join(done) or "its journal is removed", waiting)
    if TOGETHER in about:
        done.append("the command of its study or search, given again, goes on with it")
    elif METHOD in about:
        done.append(f"--resume {run.run_id} {'goes on with it' if journal.snapshot.exists() else 'begins it again'}")
    state = GONE if status is None else f"ended as {status}"
    return Finding(label(run), state, ", ".join(done) or "nothing is left to do", waiting)


def label(run: StoredRun) -> str:
    """How a person knows a run: its name, its method or kind, its seed."""
    about = [run.tags.get(METHOD) or run.tags.get(KIND, "")]
    about += [f"seed {run.params[SEED]}"] if SEED in run.params else []
    return f"{run.name} ({', '.join(filter(None, about))})"


def remove_unfinished_files() -> int:
    """Remove old files in the making from the folders that are ours to write to; returns how many."""
    folders = [MIRROR, DATA, home()]  # the journals are below the last
    removed = 0
    for path in {path for folder in folders for path in folder.rglob(f"{IN_THE_MAKING}*")}:
        with contextlib.suppress(FileNotFoundError):  # it has become whole just now
            if _age(path) > YOUNG_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed += 1
    return removed


def _age(path: Path) -> float:
    """Seconds since the last write to a file, or to any in a folder, whose own time is that of its last new file."""
    return time.time() - max(each.stat().st_mtime for each in (path, *path.rglob("*")))
