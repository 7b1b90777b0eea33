"""A local store that was moved or copied: the addresses of its artifacts rewritten to where they are now."""

import sqlite3
from contextlib import closing
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.tracking.move import ADDRESSES, check_source
from pipeline.tracking.places import moved, strayed


def relocate(database: Path) -> tuple[int, dict[Path, Path]]:
    """Rewrite the addresses of artifacts in an sqlite store, in one transaction.

    Returns how many there were, and the folders: as recorded, and where they are now. Raises `StoreError` if the
    file is no MLflow store, of whatever version, or cannot be written to.
    """
    check_source(database)
    database = database.resolve()
    folders = strayed(database)
    changed = 0
    try:
        with closing(sqlite3.connect(database)) as store, store:
            for table, columns in ADDRESSES.items():
                there = {name for _, name, *_ in store.execute(f"PRAGMA table_info({table})")}
                for column in there.intersection(columns):
                    for row, address in store.execute(f"SELECT rowid, {column} FROM {table}").fetchall():
                        if (now := moved(address, folders)) != address:
                            store.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (now, row))
                            changed += 1
    except sqlite3.Error as error:
        raise StoreError(
            f"{database}: expected to rewrite its addresses, found: {error}. Nothing was changed."
        ) from error
    return changed, folders
