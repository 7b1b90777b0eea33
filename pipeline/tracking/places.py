"""Where the artifacts of an sqlite store lie. MLflow records absolute paths, wrong once the store is moved."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from mlflow.utils.file_utils import local_file_uri_to_path


def open_to_read(database: Path) -> sqlite3.Connection:
    """Return a connection that only reads. It may take back what a killed process has left half written.

    With `mode=ro` sqlite may not, and refuses until somebody else has. A file without the right to write is only read.
    """
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True)
    connection.execute("PRAGMA query_only = ON")
    return connection


def local_path(address: str | None) -> Path | None:
    """The path that an address names, if it names one of this machine."""
    if address and address.startswith("file:"):
        return Path(local_file_uri_to_path(address))
    return Path(address) if address and ":" not in address else None


def strayed(database: Path) -> dict[Path, Path]:
    """The experiments' folders at the place that a store was moved or copied from, and their places beside it now.

    A folder elsewhere was chosen, unless it lies to another home as it would lie to ours, and the artifacts are here,
    or that home has the original of the store, or is gone. Raises `sqlite3.Error`.
    """
    with closing(open_to_read(database)) as reading:
        if reading.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone() is None:
            return {}  # MLflow has not made its tables yet
        locations = [location for (location,) in reading.execute("SELECT artifact_location FROM experiments")]
    here = database.parent
    found = []
    for recorded in filter(None, map(local_path, locations)):
        if not recorded.is_absolute() or recorded.is_relative_to(here):
            continue
        for home in _homes(recorded, here):
            place = here / recorded.relative_to(home)
            ours = recorded.parent.name == "artifacts"
            left = ours and (not home.exists() or (home / database.name).exists())
            found.append((recorded, home, place, not _same(recorded, place) and (place.is_dir() or left)))
    homes = {home for _, home, _, moved in found if moved}
    return {recorded: place for recorded, home, place, _ in found if home in homes}


def _homes(recorded: Path, here: Path) -> list[Path]:
    """The folders that a store beside which an experiment has this folder may have been in."""
    if recorded.parent.name == "artifacts":  # of ours
        return [recorded.parent.parent]
    if recorded.parent.name == "mlruns" and recorded.name.isdecimal():  # by MLflow: below the folder it was started in
        return [recorded.parent] if here.name == "mlruns" else [recorded.parent.parent]
    return []


def _same(one: Path, other: Path) -> bool:
    """Whether two names, of a mount or through a link, are of one folder."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def moved(address: str | None, folders: Mapping[Path, Path]) -> str | None:
    """An artifact's address once `folders` have moved, written as it was; one that lies in none of them stays."""
    path = local_path(address)
    for old, new in folders.items():
        if path is not None and path.is_relative_to(old):
            place = new / path.relative_to(old)
            return place.as_uri() if str(address).startswith("file:") else str(place)
    return address
