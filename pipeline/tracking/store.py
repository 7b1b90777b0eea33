"""Where MLflow keeps runs: `MLFLOW_TRACKING_URI`, or an sqlite file below `mlruns/` of the current folder."""

import logging
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking import MlflowClient
from sqlalchemy import URL, NullPool, create_engine, make_url
from sqlalchemy.exc import ArgumentError

from pipeline.errors import StoreError, one_line, shown_uri
from pipeline.files import whole_file
from pipeline.locks import READ_ONLY, file_lock
from pipeline.tracking.places import strayed

Store = MlflowClient
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints what it raises, SQL included
DEFAULT_STORE = Path("mlruns/mlflow.db")
AT_START = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "PGCONNECT_TIMEOUT": "5"}
HTTP = ("http", "https")
IN_MEMORY = (None, "", ":memory:")
DAMAGED = ("file is not a database", "database disk image is malformed")  # as sqlite says it


def tracking_uri() -> str:
    """The store that runs go to."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(DEFAULT_STORE)


def sqlite_uri(database: Path) -> str:
    """The address of an sqlite file, whatever characters are in its path."""
    path = str(database.absolute())
    if not {"%", "?"} & set(path):
        return f"sqlite:///{path}"
    # MLflow makes the folder of what it takes for the path; with the driver's name it leaves that to us.
    return f"sqlite+pysqlite:///{path.replace('%', '%25').replace('?', '%3F')}"


def store_name() -> str:
    """What the store is called where others read it: without passwords, and without the folders of this machine."""
    if (database := database_file()) is not None:
        return f"sqlite file {database.name}"
    scheme, mark, rest = shown_uri(tracking_uri()).partition("://")
    if mark and not rest.startswith("/"):
        return f"{scheme}://{rest}"
    return f"{scheme if mark else 'file'} store {Path(rest or scheme).name}"


def database_file() -> Path | None:
    """The store's sqlite file, if that is what it is; links are followed."""
    url = _sqlite_url()
    if url is None or url.database in IN_MEMORY or url.database.startswith("file:"):
        return None
    return Path(url.database).resolve()


def is_server() -> bool:
    """Whether the store is a tracking server, which other machines reach too."""
    return _scheme(tracking_uri()) in HTTP


def _sqlite_url() -> URL | None:
    """The store's address in its parts, if it is one of sqlite."""
    try:
        url = make_url(tracking_uri())
    except (ArgumentError, ValueError):
        return None
    return url if url.drivername.partition("+")[0] == "sqlite" else None


def home() -> Path:
    """The folder for what we keep on this machine beside the store."""
    return database.parent if (database := database_file()) else DEFAULT_STORE.parent


def open_store() -> Store:
    """Connect to the store, making or upgrading an sqlite one; raises `StoreError` if it does not answer in seconds.

    So it does if a local store was moved, for runs would then be written to where it was before. A fresh sqlite file
    is made aside and under a lock: several processes at once would corrupt it, and so would the death of the one that
    makes it.
    """
    uri = tracking_uri()
    try:
        if (database := database_file()) is None:
            _require_answer(uri)
            return _connect(uri)
        if database.exists():
            _require_at_home(database)
        with _making(database):
            if not database.exists():
                with whole_file(database) as temporary:
                    _connect(sqlite_uri(temporary))
            return _connect(uri)
    except StoreError:
        raise
    except Exception as error:  # MLflow's, SQLAlchemy's, a missing driver's: whatever it is, the store does not answer
        raise StoreError(
            f"MLflow store {shown_uri(uri)}: expected a tracking store that answers, found: {one_line(error)[:200]}... "
            f"{advice(error)}"
        ) from error


@contextmanager
def _making(database: Path) -> Iterator[None]:
    """The sqlite file for us alone; one in a folder that we may not write to is made by nobody, and may be read."""
    lock = file_lock(database.with_name(f".{database.name}.lock"))
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        if error.errno not in READ_ONLY or not database.exists():
            raise
    try:
        yield
    finally:
        lock.release()


def _require_at_home(database: Path) -> None:
    """Raise `StoreError` if the store was moved or copied from elsewhere, and has not been told."""
    for old, new in strayed(database).items():
        where = "" if database == DEFAULT_STORE.resolve() else f" --store {shlex.quote(str(database))}"
        raise StoreError(
            f"MLflow store {database}: expected artifacts in {new}, found that it names {old}: it was moved or copied. "
            f"Tell it where it is now: python -m pipeline relocate{where}"
        )


def _require_answer(uri: str) -> None:
    """Raise at once what stands in the way of a database: MLflow would try for minutes."""
    if _sqlite_url() is not None:
        raise StoreError(
            f"MLflow store {uri}: expected the path of a file, as in sqlite:///FOLDER/mlflow.db, found none. "
            "Correct or unset MLFLOW_TRACKING_URI."
        )
    if _scheme(uri) in DATABASE_ENGINES:
        with mlflow_settings(AT_START):
            create_engine(uri, poolclass=NullPool).connect().close()


def is_read_only(error: BaseException) -> bool:
    """Whether a store could not be written to for want of rights."""
    return "readonly database" in str(error) or (isinstance(error, OSError) and error.errno in READ_ONLY)


def advice(error: BaseException) -> str:
    """What to do about an error of the store."""
    if is_read_only(error) or "permission denied" in str(error).lower():
        return "Ask for the right to write to the store and its folder, or name another with MLFLOW_TRACKING_URI."
    if "mlflow db upgrade" in str(error):
        return f"Back it up, then: mlflow db upgrade {shlex.quote(shown_uri(tracking_uri()))}"
    if isinstance(error, ImportError):
        return "Install the driver of that database, or correct or unset MLFLOW_TRACKING_URI."
    if "database is locked" in str(error):
        return "Wait for the process that writes to it, and try again."
    if any(words in str(error) for words in DAMAGED):
        return "Put back a backup of the file, or name another with MLFLOW_TRACKING_URI."
    if isinstance(error, ValueError | ArgumentError) or _scheme(tracking_uri()) not in {*HTTP, *DATABASE_ENGINES}:
        return "Correct or unset MLFLOW_TRACKING_URI."  # as it is, no server can answer there
    return "Start the server, or correct or unset MLFLOW_TRACKING_URI."


def _scheme(uri: str) -> str:
    """What kind of store an address names, without the driver."""
    return uri.partition(":")[0].partition("+")[0]


def _connect(uri: str) -> MlflowClient:
    with mlflow_settings(AT_START):
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
        return client


@contextmanager
def mlflow_settings(values: dict[str, str]) -> Iterator[None]:
    """Within it, MLflow has these settings, which it and what it calls read from the environment: limits, secrets."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment's id. A missing one is made, with its artifacts beside the sqlite file if that is the store.

    In `mlruns/` of the current folder that is `mlruns/ID`, where `mlflow run` puts those of an experiment it makes;
    in a folder whose name has to be quoted in an address, which MLflow does not do there, it is beside the file too.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        database = database_file()
        location = None
        if database and (
            database.parent != DEFAULT_STORE.parent.resolve() or database.as_uri() != f"file://{database}"
        ):
            location = (database.parent / "artifacts" / name).as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)
            if experiment is None:  # else another process was first
                raise
    if experiment.lifecycle_stage != "active":
        raise StoreError(
            f"MLflow experiment '{name}': expected an active one, found a deleted one. "
            "Restore it in MLflow, or name another with --experiment."
        )
    return str(experiment.experiment_id)


def ui_command() -> str:
    """The command that opens MLflow's UI over the store, or the server's address."""
    uri = shown_uri(tracking_uri())
    if uri.startswith("http"):
        return uri
    if uri == sqlite_uri(DEFAULT_STORE) and Path("Makefile").is_file():
        return "make ui"
    return f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
