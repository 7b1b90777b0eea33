"""What a run keeps on this machine until it is over: that somebody works on it, how far it is, what MLflow has not got.

    mlruns/journals/RUN_ID/  lock                   held by the process that works on the run, and by no other
                             about.json             what would have to be known to go on with it
                             snapshot.safetensors   how far the training is
                             outbox.jsonl, files/   what could not be delivered to MLflow yet, in order

A journal is removed when its run is finished and MLflow has all of it. The operating system lets go of the lock of a
process that dies, however it dies.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.errors import StoreError
from pipeline.files import whole_file, writing
from pipeline.tracking.store import home

JOURNALS = "journals"
ENDED = "ended"  # in what is known about a run: the status with which its process ended it

Item = dict[str, Any]
"""One call to MLflow as plain values: see `tracking.delivery`."""


class Journal:
    """The journal of one run. Only its owner writes; `own` makes this process the owner."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(folder / "lock", blocking=False)

    @property
    def run_id(self) -> str:
        return self.folder.name

    @property
    def snapshot(self) -> Path:
        return self.folder / "snapshot.safetensors"

    @property
    def _about(self) -> Path:
        return self.folder / "about.json"

    @property
    def _outbox(self) -> Path:
        return self.folder / "outbox.jsonl"

    def own(self) -> bool:
        """Become the owner; False if another process is. Owning twice needs releasing twice."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            return False
        return True

    def release(self) -> None:
        """Let others own it."""
        self._lock.release()

    def describe(self, about: dict[str, Any]) -> None:
        """Write down what is needed to go on with the run."""
        with whole_file(self._about) as temporary:
            temporary.write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def about(self) -> dict[str, Any] | None:
        """What `describe` wrote; None where nothing readable is."""
        try:
            found = json.loads(self._about.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def put(self, item: Item) -> None:
        """Add what could not be delivered; a file that it names is copied, for the original may change."""
        if "path" in item:
            copy = self.folder / "files" / str(len(list(self.waiting()))) / Path(item["path"]).name
            with whole_file(copy) as temporary:
                shutil.copyfile(item["path"], temporary)
            item = item | {"path": str(copy.relative_to(self.folder))}
        with writing(self._outbox), self._outbox.open("a", encoding="utf-8") as outbox:
            outbox.write(json.dumps(item) + "\n")

    @property
    def has_waiting(self) -> bool:
        """Whether something waits to be delivered."""
        return self._outbox.exists()

    def waiting(self) -> Iterator[Item]:
        """What is to be delivered, in order. A last line that a dying process left unfinished does not count."""
        if self._outbox.exists():
            for line in self._outbox.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):
                    item = json.loads(line)
                    yield item | ({"path": str(self.folder / item["path"])} if "path" in item else {})

    def delivered(self, count: int) -> None:
        """Forget the first `count` of what was waiting."""
        lines = self._outbox.read_text(encoding="utf-8").splitlines(keepends=True)[count:]
        if lines:
            with whole_file(self._outbox) as temporary:
                temporary.write_text("".join(lines), encoding="utf-8")
        else:
            self._outbox.unlink()
            shutil.rmtree(self.folder / "files", ignore_errors=True)

    def remove(self) -> None:
        """Remove it all, and let go of it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()


def journal_of(run_id: str) -> Journal:
    """The journal of a run, there or not."""
    return Journal(home() / JOURNALS / run_id)


def starting() -> FileLock:
    """Held while a run is started and its journal made, so that a run without one is known to have lost its process."""
    folder = home() / JOURNALS
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".starting")


def open_journal(run_id: str, about: dict[str, Any]) -> Journal:
    """Make and own the journal of a run; raises `StoreError` if another process works on it."""
    journal = journal_of(run_id)
    if not journal.own():
        raise StoreError(f"run {run_id}: expected one that nobody works on, found another process at it. Wait for it.")
    journal.describe(about)
    return journal


def left_journals() -> list[Journal]:
    """The journals that no process owns, the oldest run first; this process owns them now: release them."""
    found = []
    for folder in sorted(path for path in (home() / JOURNALS).glob("*") if path.is_dir()):
        journal = Journal(folder)
        if journal.own():
            found.append(journal)
    return sorted(found, key=lambda journal: (journal.about() or {}).get("started", 0.0))
