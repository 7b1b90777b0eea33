"""Where MLflow keeps runs: `MLFLOW_TRACKING_URI`, or an sqlite file below `mlruns/` of the current folder."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.errors import StoreError, one_line
from pipeline.files import whole_file

Store = MlflowClient
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints what it raises, SQL included
DEFAULT_STORE = Path("mlruns/mlflow.db")
AT_START = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


def tracking_uri() -> str:
    """The store that runs go to."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DEFAULT_STORE.absolute()}"


def store_name() -> str:
    """What the store is called where others read it: without passwords, and without the folders of this machine."""
    if (database := database_file()) is not None:
        return f"sqlite file {database.name}"
    uri = urlsplit(tracking_uri())
    host = uri.netloc.rpartition("@")[2]
    return f"{uri.scheme}://{host}{uri.path}" if host else f"{uri.scheme or 'file'} store {Path(uri.path).name}"


def database_file() -> Path | None:
    """The store's sqlite file, if that is what it is; links are followed."""
    uri = tracking_uri()
    return Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None


def home() -> Path:
    """The folder for what we keep on this machine beside the store."""
    return database.parent if (database := database_file()) else DEFAULT_STORE.parent


def open_store() -> Store:
    """Connect to the store, making or upgrading an sqlite one; raises `StoreError` if it does not answer in seconds.

    A fresh sqlite file is made aside and under a lock: several processes at once would corrupt it, and so would the
    death of the one that makes it.
    """
    uri = tracking_uri()
    try:
        if (database := database_file()) is None:
            return _connect(uri)
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(database.with_name(f".{database.name}.lock")):
            if not database.exists():
                with whole_file(database) as temporary:
                    _connect(f"sqlite:///{temporary.absolute()}")
            return _connect(uri)
    except Exception as error:  # MLflow's, SQLAlchemy's, a missing driver's: whatever it is, the store does not answer
        raise StoreError(
            f"MLflow store {uri}: expected a tracking store that answers, found: {one_line(error)[:200]}... "
            "Start the server, or correct or unset MLFLOW_TRACKING_URI."
        ) from error


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

    In `mlruns/` of the current folder that is `mlruns/ID`, where `mlflow run` puts those of an experiment it makes.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        database = database_file()
        elsewhere = database is not None and database.parent != DEFAULT_STORE.parent.resolve()
        location = (database.parent / "artifacts" / name).as_uri() if database and elsewhere else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another process was first
            experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise StoreError(
            f"MLflow experiment '{name}': expected an active one, found a deleted one. "
            "Restore it in MLflow, or name another with --experiment."
        )
    return str(experiment.experiment_id)


def ui_command() -> str:
    """The command that opens MLflow's UI over the store, or the server's address."""
    uri = tracking_uri()
    if uri.startswith("http"):
        return uri
    return "make ui" if uri == f"sqlite:///{DEFAULT_STORE.absolute()}" else f"mlflow ui --backend-store-uri {uri}"
