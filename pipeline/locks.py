"""File locks, and what is said where the file system has none."""

import errno
import os
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.errors import LockError

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class _Lock(FileLock):
    def _acquire(self) -> None:
        try:
            super()._acquire()
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            raise LockError(
                f"{self.lock_file}: expected a file system with locks, found: {os.strerror(error.errno or 0)}. "
                "Work in a folder of another one, or mount it with locks."
            ) from error


def file_lock(path: Path, **options: Any) -> FileLock:
    """A lock on `path`, with filelock's options; taking it raises `LockError` where the file system has no locks.

    It goes with its process. filelock's replacement for such file systems, a file that only stands there, would stay.
    """
    return _Lock(path, fallback_to_soft=False, **options)
