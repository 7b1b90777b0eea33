"""Files that appear whole or not at all, their digests, and zips that are safe to read."""

import errno
import os
import secrets
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipeline.errors import SettingsError, WriteError

# A zip may unpack to so many times its size, and a small one to so many bytes. Deflate reaches a factor of 1,000, for a
# bomb; token sequences padded to the longest reach 20.
MOST_RATIO, MOST_SMALL = 100, 64 * 2**20

IN_THE_MAKING = ".part-"  # how the names of files begin that are not whole yet
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it takes the name `path` only if the body succeeds.

    What stood under `path` before stays readable until then, and stays for good if the body raises.
    The temporary file is hidden (leading dot), keeps the ending of `path`, and is removed on failure. A symbolic link
    under the name `path` is replaced, and what it points to stays as it is. Who may read it is left to the umask.

    Raises `WriteError` where the disk is full or the folder read-only.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{IN_THE_MAKING}{secrets.token_hex(8)}{path.suffix}")
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)  # less the umask
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        os.close(handle)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(mode)  # libraries that replace the file choose their own
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
            "Nothing that was whole is lost; make room, or name another folder, and try again."
        ) from error


def check_folder(folder: Path, content: str) -> None:
    """Raise `SettingsError` unless `content` can be written below the folder `out`, which need not be there yet."""
    try:
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
        writable = nearest.is_dir() and os.access(nearest, os.W_OK)
    except OSError:  # of a folder that is closed to us
        nearest, writable = folder, False
    if not writable:
        raise SettingsError(f"out: expected a folder to write {content} to, found '{nearest}'. See --help.")


def is_file(path: Path) -> bool:
    """Whether there is a file that one may look at. A name that no file can have names none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, of a folder that is closed to us, with a zero byte
        return False


def file_digest(path: Path) -> str:
    """Return the sha256 of the file's bytes as 64 hex digits (the same as `sha256sum` prints)."""
    return sha256(path.read_bytes()).hexdigest()


def arrays_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """sha256 over the names, dtypes, shapes and bytes of arrays: equal digests, equal arrays to the bit."""
    digest = sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def check_zip(path: Path) -> int:
    """Return how many bytes the zip unpacks to, once it is known to be whole. Nothing is written anywhere.

    Raises `ValueError` if it declares to unpack to far more than its size (before any of it is unpacked), holds a name
    twice, or a member does not have its checksum. Damage raises nearly anything.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        total, most = sum(member.file_size for member in members), MOST_SMALL + MOST_RATIO * path.stat().st_size
        if total > most:
            raise ValueError(f"it unpacks to {total:,} bytes, more than the {most:,} that are plausible")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("it holds two members of one name")
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"bad checksum of {damaged[:100]!r}")
    return total
