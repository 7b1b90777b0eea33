"""Files that go with a job to a worker without our disk, and those that it leaves, which come back.

A worker works in a folder of its own. What the job reads lies there under the same relative path, linked to one copy
for each machine. Whatever the job writes there is sent to the folder of who gave the job, while it works, so that
another worker can go on with it. A file called `lock`, which the job holds as long as it works in its folder, is held
there instead; other empty files, and files that are not finished, stay where they are.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

from pipeline.errors import RunError
from pipeline.files import IN_THE_MAKING, file_digest, is_file, whole_file
from pipeline.locks import file_lock

LOCK = "lock"
Left = dict[str, bytes | None]
"""Files by their relative path, as they are now; None: removed."""


@dataclass(frozen=True)
class InputFile:
    """A file that a job reads: its path, the sha256 of its bytes, and what stands for these until they are needed."""

    path: str
    digest: str
    content: object


@dataclass
class JobFolder:
    """The folder of a job, on the worker's side."""

    folder: Path
    sent: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # path: inode, time, size

    def changed(self) -> Left:
        """Return what was written or removed since the last call."""
        found: Left = {}
        now: dict[str, tuple[int, int, int]] = {}
        for path in self._files():
            name = str(path.relative_to(self.folder))
            try:
                about = path.stat()
                now[name] = about.st_ino, about.st_mtime_ns, about.st_size
                if now[name] != self.sent.get(name) and (about.st_size or path.name == LOCK):
                    found[name] = path.read_bytes()
            except FileNotFoundError:  # it has been replaced or removed just now
                now.pop(name, None)
        found |= dict.fromkeys(self.sent.keys() - now.keys())
        self.sent = now
        return found

    def _files(self) -> Iterator[Path]:
        for place, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(place, name)
                if not (name.startswith(IN_THE_MAKING) or path.is_symlink()):
                    yield path


def unpack(
    folder: Path, inputs: Sequence[InputFile], left: Left, copies: Path, fetch: Callable[[object], bytes]
) -> JobFolder:
    """Put what a job needs into its folder; files that are there to be read come from `copies`, of all jobs here.

    Raises `RunError` for a file outside the folder, unless it is on this machine too.
    """
    copies.mkdir(parents=True, exist_ok=True)
    for file in inputs:
        if not is_inside(file.path):
            if not (is_file(Path(file.path)) and file_digest(Path(file.path)) == file.digest):
                raise RunError(
                    f"{file.path}: expected the same file on every machine, or one below the folder where the "
                    "command is given, named by its path from there."
                )
            continue
        copy = copies / file.digest
        with file_lock(copies / f"{file.digest}.lock"):
            if not copy.exists():
                with whole_file(copy) as temporary:
                    temporary.write_bytes(fetch(file.content))
        place = folder / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(copy)
    for name, content in left.items():
        if content is not None and Path(name).name != LOCK:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    unpacked = JobFolder(folder)
    unpacked.changed()  # what it begins with is with who gave the job already
    return unpacked


@dataclass
class KeptFiles:
    """What the jobs of a list have left in the current folder, on the side of who gave them; by a job's number."""

    paths: dict[int, set[str]] = field(default_factory=dict)
    locks: dict[int, dict[str, FileLock]] = field(default_factory=dict)

    def keep(self, number: int, left: Left) -> None:
        """Write and remove what has changed, and hold what the job holds."""
        paths, locks = self.paths.setdefault(number, set()), self.locks.setdefault(number, {})
        for name in sorted(left, key=lambda name: Path(name).name != LOCK):  # first the locks: nobody else may begin
            path, content = Path(name), left[name]
            assert is_inside(name), f"a job leaves files in its folder, found {name}"
            if path.name == LOCK:
                if content is not None and name not in locks:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    locks[name] = file_lock(path)
                    locks[name].acquire()
            elif content is not None:
                paths.add(name)
                with whole_file(path) as temporary:
                    temporary.write_bytes(content)
            else:
                paths.discard(name)
                path.unlink(missing_ok=True)
        for name in [name for name, content in left.items() if content is None and Path(name).name == LOCK]:
            folder = Path(name).parent
            if folder.exists() and not [each for each in folder.iterdir() if each.name != LOCK]:
                shutil.rmtree(folder)
            if name in locks:
                locks.pop(name).release()

    def left(self, number: int, earlier: Sequence[Path]) -> Left:
        """Return what the job has left so far, and the files `earlier`, for its next attempt."""
        names = {str(path) for path in earlier} | self.paths.get(number, set())
        return {name: Path(name).read_bytes() for name in sorted(names) if is_inside(name) and is_file(Path(name))}

    def let_go(self, number: int) -> None:
        """Hold nothing for this job any more."""
        for lock in self.locks.pop(number, {}).values():
            lock.release()


def digest_of(content: bytes) -> str:
    """Return the sha256 of a file's content."""
    return sha256(content).hexdigest()


def is_inside(name: str) -> bool:
    """Whether a path leads to a file below the current folder."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts
