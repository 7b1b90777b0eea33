"""Files that appear whole or not at all, and their digests."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from pipeline.errors import SettingsError, WriteError

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it takes the name `path` only if the body succeeds.

    What stood under `path` before stays readable until then, and stays for good if the body raises.
    The temporary file is hidden (leading dot), keeps the ending of `path`, and is removed on failure.

    Raises `WriteError` where the disk is full or the folder read-only.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o644)  # mkstemp gives 0600; results are to be read by others
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise `WriteError` naming `path` if the body finds the disk full or the folder read-only."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise WriteError(
            f"{path}: expected to write it, found: {os.strerror(error.errno)}. "
            "What stood there is untouched; make room, or name another folder, and try again."
        ) from error


def require_writable(folder: Path) -> None:
    """Raise `SettingsError` unless `folder` can be written to, or made where it is missing."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise SettingsError(f"out: expected a folder that can be written to, found '{folder}'. See --help.")


def file_digest(path: Path) -> str:
    """Return the sha256 of the file's bytes as 64 hex digits (the same as `sha256sum` prints)."""
    return sha256(path.read_bytes()).hexdigest()
