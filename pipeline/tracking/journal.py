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
from secrets import token_hex
from typing import Any

from filelock import FileLock, Timeout

from pipeline.errors import StoreError
from pipeline.files import whole_file, write_text, writing
from pipeline.locks import file_lock
from pipeline.tracking.store import home

JOURNALS = "journals"
ENDED = "ended"  # in what is known about a run: the status with which its process ended it
PLACE = "place"  # and the host and folder, as its tag `journal` has them unless another machine has taken it over
LOOK_SECONDS = 2.0  # others hold a journal no longer than this when they only look

Item = dict[str, Any]
"""One call to MLflow as plain values: see `tracking.delivery`."""


class Journal:
    """The journal of one run. Only its owner writes; `own` makes this process the owner."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = file_lock(folder / "lock")

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

    def own(self, patience: float = LOOK_SECONDS) -> bool:
        """Become the owner; False if another process is, after `patience` seconds, or if there is no such journal.

        Who owns it twice has to release it twice.
        """
        if not self._about.exists():
            return False
        try:
            self._lock.acquire(timeout=patience)
        except Timeout:
            return False
        if not self._about.exists():  # it was removed in the meantime, and taking the lock has made its folder again
            self.remove()
            return False
        return True

    def make(self, about: dict[str, Any]) -> bool:
        """Make it and become its owner; False if another process is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=LOOK_SECONDS)
        except Timeout:
            return False
        self.describe(about)
        return True

    def release(self) -> None:
        """Let others own it."""
        self._lock.release()

    def describe(self, about: dict[str, Any]) -> None:
        """Write down what is needed to go on with the run."""
        write_text(self._about, json.dumps(about, indent=1, sort_keys=True) + "\n")

    def about(self) -> dict[str, Any]:
        """What `describe` wrote; nothing where nothing readable is."""
        try:
            found = json.loads(self._about.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def put(self, item: Item) -> None:
        """Add what could not be delivered; a file that it names is copied, for the original may change."""
        lines = self._lines()
        if "path" in item:
            copy = self.folder / "files" / token_hex(8) / Path(item["path"]).name
            with whole_file(copy) as temporary:
                shutil.copyfile(item["path"], temporary)
            item = item | {"path": str(copy.relative_to(self.folder))}
        with writing(self._outbox), self._outbox.open("ab") as outbox:
            outbox.truncate(sum(map(len, lines)))  # without the rest of a line that was broken off
            outbox.write(json.dumps(item).encode() + b"\n")

    @property
    def has_waiting(self) -> bool:
        """Whether something waits to be delivered."""
        try:
            with self._outbox.open("rb") as outbox:
                return outbox.readline().endswith(b"\n")
        except FileNotFoundError:
            return False

    def count_waiting(self) -> int:
        """How many calls wait to be delivered."""
        return len(self._lines())

    def waiting(self) -> Iterator[Item]:
        """What is to be delivered, in order; read as it is asked for, since a store that is away takes none of it."""
        for line in self._lines():
            item = json.loads(line)
            yield item | ({"path": str(self.folder / item["path"])} if "path" in item else {})

    def delivered(self, count: int) -> None:
        """Forget the first `count` of what was waiting."""
        if left := self._lines()[count:]:
            with whole_file(self._outbox) as temporary:
                temporary.write_bytes(b"".join(left))
        else:
            self._outbox.unlink()
            shutil.rmtree(self.folder / "files", ignore_errors=True)

    def remove(self) -> None:
        """Remove it all at once, and let go of it."""
        aside = self.folder.with_name(f".gone-{self.run_id}")
        shutil.rmtree(aside, ignore_errors=True)
        self.folder.replace(aside)
        shutil.rmtree(aside, ignore_errors=True)
        self._lock.release()

    def _lines(self) -> list[bytes]:
        """The whole lines of the outbox: a dying process, or a full disk, may have broken off the last."""
        try:
            lines = self._outbox.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [line for line in lines if line.endswith(b"\n")]


def journals_folder() -> Path:
    """Where the journals of this store are kept on this machine."""
    return (home() / JOURNALS).absolute()


def journal_of(run_id: str) -> Journal:
    """The journal of a run, there or not."""
    return Journal(journals_folder() / run_id)


def starting() -> FileLock:
    """Held while a run is started and its journal made, so that a run without one is known to have lost its process."""
    journals_folder().mkdir(parents=True, exist_ok=True)
    return file_lock(journals_folder() / ".starting")


def open_journal(run_id: str, about: dict[str, Any]) -> Journal:
    """Make and own the journal of a run; raises `StoreError` if another process works on it."""
    journal = journal_of(run_id)
    if not journal.make(about):
        raise StoreError(f"run {run_id}: expected one that nobody works on, found another process at it. Wait for it.")
    return journal


def left_journals() -> Iterator[Journal]:
    """The journals that no process owns, the oldest run first; each is ours until the next is asked for."""
    journals = [Journal(folder) for folder in journals_folder().glob("[!.]*") if folder.is_dir()]
    for journal in sorted(journals, key=lambda each: each.about().get("started", 0.0)):
        try:
            ours = journal.own(patience=0)
        except OSError:  # another user's, in a folder that is closed to us
            continue
        if ours:
            try:
                yield journal
            finally:
                journal.release()
