"""The lock of a data folder: one process changes it at a time, and none while another reads related files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.locks import READ_ONLY, file_lock


@contextmanager
def data_lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, waiting for another holder; re-entrant within a process.

    A folder that is missing or read-only is not changed by anybody, so no lock is taken.
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
