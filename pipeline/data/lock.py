"""A folder of data is changed by one process at a time, and not while another reads files that belong together."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.locks import file_lock

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def data_lock(folder: Path) -> Iterator[None]:
    """Hold the folder, waiting for whoever has it; within a process it may be held again.

    A folder that is not there, or cannot be written to, is not changed by anybody: nothing is held.
    """
    lock = file_lock(folder.resolve() / ".lock", is_singleton=True)
    try:
        if folder.is_dir():
            lock.acquire()
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
    try:
        yield
    finally:
        lock.release()
