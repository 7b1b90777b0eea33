"""Atomic writing of files, digests, and safe reading of zips."""

import errno
import hashlib
import os
import secrets
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingsError, WriteError

# Limits of unpacking: a factor of the zip's size, and bytes for a small zip. A bomb reaches a factor of 1,000 by
# Deflate; token sequences padded to the longest reach 20.
MOST_RATIO, MOST_SMALL = 100, 64 * 2**20

PIECE = 1 << 24  # bytes that are digested at a time
IN_THE_MAKING = ".part-"  # prefix of the names of unfinished files
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it takes the name `path` only if the body succeeds.

    An earlier file `path` stays readable until then, and is kept if the body raises.
    The temporary file is hidden (leading dot), has the suffix of `path`, and is removed on failure. If `path` is a
    symbolic link, the link is replaced and its target does not change. The
    umask decides who may read it.

    Raises `WriteError` if the disk is full or the folder read-only.
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


def write_text(path: Path, text: str) -> None:
    """Write a text file that is whole or not there, see `whole_file`."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; it takes the name `path`, which must be free, only if the body succeeds.

    Its name is hidden (leading dot), and it is removed with all files on failure.

    Raises `WriteError` if the disk is full or the folder read-only, or if another process has taken the name meanwhile.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{IN_THE_MAKING}{secrets.token_hex(8)}")
        temporary.mkdir()
        try:
            yield temporary
            for file in filter(Path.is_file, temporary.rglob("*")):
                with file.open("rb") as written:
                    os.fsync(written.fileno())
            try:
                temporary.rename(path)
            except OSError as error:
                if not path.exists():
                    raise
                raise WriteError(
                    f"{path}: expected a name that is free, found what another process has written meanwhile. It stays."
                ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise `WriteError` naming `path` if the body fails because the disk is full or the folder read-only."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise WriteError(
            f"{path}: expected to write it, found: {os.strerror(error.errno)}. "
            "No finished file is lost; free some space, or name another folder, and try again."
        ) from error


def check_folder(folder: Path, content: str, setting: str = "out") -> None:
    """Raise `SettingsError` unless `content` can be written to a setting's folder, which need not exist yet."""
    try:
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
        writable = nearest.is_dir() and os.access(nearest, os.W_OK)
    except OSError:  # a folder without permission
        nearest, writable = folder, False
    if not writable:
        raise SettingsError(f"{setting}: expected a folder to write {content} to, found '{nearest}'. See --help.")


def check_file(path: Path, setting: str = "out") -> None:
    """Raise `SettingsError` unless a setting's file can be written; its folder need not exist yet."""
    if path.is_dir():
        raise SettingsError(f"{setting}: expected a file, found the folder '{path}'. See --help.")
    check_folder(path.parent, f"'{path.name}'", setting)


def is_file(path: Path) -> bool:
    """Tell whether `path` is an accessible file; False for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, a folder without permission, a zero byte
        return False


def file_digest(path: Path) -> str:
    """Return the sha256 of the file's bytes as 64 hex digits (the same as `sha256sum` prints)."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def arrays_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the sha256 over names, dtypes, shapes and bytes of arrays: equal digests mean identical arrays."""
    digest = sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        rows = np.atleast_1d(array)
        step = max(1, PIECE // max(1, rows[:1].nbytes))
        for first in range(0, len(rows), step):  # the bytes of a piece are a copy
            digest.update(rows[first : first + step].tobytes())
    return digest.hexdigest()


def check_zip(path: Path) -> int:
    """Return how many bytes the zip unpacks to, after checking that it is intact. Nothing is written.

    Raises `ValueError` if its declared unpacked size is implausible (before anything is unpacked), if it holds a name
    twice, or if a member's checksum is wrong. Damage can raise nearly any exception.
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
