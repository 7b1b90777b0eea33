"""A local MLflow store copied into a server's database and object store: every row as it is, with its ids.

MLflow has no tool for this. Its own tables say what there is, so what MLflow knows is copied, whatever its kind: runs,
metrics with steps and times, tags, inputs, models, aliases. Only the addresses of artifacts change.
"""

import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import RunStatus
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.db.base_sql_model import Base
from mlflow.store.db.utils import _upgrade_db, create_sqlalchemy_engine_with_retry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import Connection, Table, func, select, text

from pipeline.errors import RunError, StoreError, reason
from pipeline.tracking.places import local_path, open_to_read
from pipeline.tracking.store import mlflow_settings, sqlite_uri

ROWS = 5000  # rows copied at once
PROXIED = "mlflow-artifacts:"  # addresses of artifacts that the server hands out itself
ADDRESSES = {
    "experiments": ("artifact_location",), "runs": ("artifact_uri",), "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"), "trace_tags": ("value",),
}  # fmt: skip
TABLES: list[Table] = Base.metadata.sorted_tables  # those that others refer to come first


@dataclass(frozen=True)
class Moved:
    """What was copied: rows by table, artifact files and their bytes."""

    rows: dict[str, int]
    files: int
    size: int


def check_source(source: Path) -> None:
    """Raise `StoreError` unless this is the sqlite file of an MLflow store, of whatever version."""
    if not source.is_file():
        raise StoreError(f"{source}: expected the sqlite file of a local MLflow store, found no file.")
    try:
        with closing(open_to_read(source)) as database:
            database.execute("SELECT experiment_id, artifact_location FROM experiments")
    except sqlite3.Error as error:
        raise StoreError(f"{source}: expected the sqlite file of an MLflow store, found: {reason(error)}.") from error


def copy_store(source: Path, database_uri: str, bucket_uri: str, secrets: dict[str, str]) -> Moved:
    """Copy all rows of the sqlite file, and the artifacts they name, into an empty database and below the bucket.

    `secrets` are the environment variables that open both.

    The source is read as it is at one moment, in an older schema too, and stays as it is. Artifacts go first, and the
    rows in one transaction: a copy that breaks off leaves no row, and can be started again.
    Raises `StoreError` if runs are RUNNING in the source, the database holds anything, or artifacts do not lie below
    the folder of their experiment; `RunError` if not all rows arrive.
    """
    with tempfile.TemporaryDirectory() as folder, mlflow_settings(secrets):
        snapshot = Path(folder) / "snapshot.db"
        with closing(open_to_read(source)) as live, closing(sqlite3.connect(snapshot)) as copy:
            live.backup(copy)
        old = create_sqlalchemy_engine_with_retry(sqlite_uri(snapshot))
        _upgrade_db(old)
        new = SqlAlchemyStore(database_uri, f"{PROXIED}/").engine  # which makes the tables
        with old.connect() as reading, new.begin() as writing:
            _check(reading, writing, source)
            homes = _artifact_homes(reading)
            uploaded = [_upload(home, f"{bucket_uri}/{experiment}") for home, experiment in homes.items()]
            rows = {table.name: _copy_rows(table, reading, writing, homes) for table in TABLES}
            _count_on(writing)
        old.dispose()
        new.dispose()
    return Moved(rows, sum(files for files, _ in uploaded), sum(size for _, size in uploaded))


def _check(reading: Connection, writing: Connection, source: Path) -> None:
    """Raise `StoreError` unless the source is at rest and the database new; take from it the rows it was made with."""
    runs = Base.metadata.tables["runs"]
    running = select(func.count()).where(runs.c.status == RunStatus.to_string(RunStatus.RUNNING))
    if number := reading.execute(running).scalar_one():
        raise StoreError(
            f"{source}: expected runs that have ended, found {number} RUNNING. "
            "Wait for them; 'python -m pipeline doctor' ends those of processes that are gone."
        )
    made = {"experiments", "workspaces"}  # MLflow makes one of each
    found = {table.name: _number(table, writing) for table in TABLES}
    held = [f"{number} {name}" for name, number in found.items() if number > (name in made)]
    if held:
        raise StoreError(
            f"the server's database: expected an empty one, found {', '.join(held)[:200]}. Name a new folder."
        )
    for table in reversed(TABLES):
        writing.execute(table.delete())


def _artifact_homes(reading: Connection) -> dict[Path, int]:
    """The local folders of the experiments' artifacts, and the experiments' ids."""
    experiments = Base.metadata.tables["experiments"]
    found = reading.execute(select(experiments.c.experiment_id, experiments.c.artifact_location))
    return {home: experiment for experiment, location in found if (home := local_path(location))}


def _upload(home: Path, uri: str) -> tuple[int, int]:
    """Put all files below a folder below an address; returns their number and bytes."""
    sizes = [path.stat().st_size for path in home.rglob("*") if path.is_file()]
    if sizes:
        get_artifact_repository(uri).log_artifacts(str(home))
    return len(sizes), sum(sizes)


def _copy_rows(table: Table, reading: Connection, writing: Connection, homes: Mapping[Path, int]) -> int:
    """Copy a table; returns how many rows it has. Addresses of artifacts become those that the server hands out."""
    columns = ADDRESSES.get(table.name, ())
    found = reading.execution_options(yield_per=ROWS).execute(select(table))
    for part in found.mappings().partitions():
        rows: list[dict[str, Any]] = [dict(row) for row in part]
        for row in rows:
            row |= {column: moved_address(table.name, row[column], homes) for column in columns}
        writing.execute(table.insert(), rows)
    expected, arrived = _number(table, reading), _number(table, writing)
    if expected != arrived:
        raise RunError(f"table {table.name}: expected {expected} rows to arrive, found {arrived}. Nothing was kept.")
    return arrived


def moved_address(table: str, address: str | None, homes: Mapping[Path, int]) -> str | None:
    """The address of an artifact after the move; one that names no path of this machine stays. Raises `StoreError`."""
    path = local_path(address)
    if path is None:
        return address
    for home in sorted(homes, key=lambda home: len(home.parts), reverse=True):  # the innermost folder first
        if path.is_relative_to(home):
            return "/".join((PROXIED, str(homes[home]), *path.relative_to(home).parts))
    if table == "trace_tags":  # nearly all of them are no addresses
        return address
    raise StoreError(
        f"{table}: expected artifacts below the folder of their experiment, found '{address}'. Move them there first."
    )


def _number(table: Table, connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _count_on(writing: Connection) -> None:
    """Let PostgreSQL number new rows from the last one copied."""
    for table in TABLES:
        (key, *others) = table.primary_key.columns
        name = writing.execute(text("SELECT pg_get_serial_sequence(:t, :c)"), {"t": table.name, "c": key.name}).scalar()
        if name and not others and (last := writing.execute(select(func.max(key))).scalar()):
            writing.execute(text("SELECT setval(:name, :last)"), {"name": name, "last": last})
