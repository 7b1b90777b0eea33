"""The team server: PostgreSQL, the S3 store and MLflow as one."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.config import ServerSettings
from pipeline.errors import SettingsError
from pipeline.server.parts import check_installed, mlflow_server, stores
from pipeline.server.service import HOST, check, running


def address(settings: ServerSettings) -> str:
    """What clients set MLFLOW_TRACKING_URI to."""
    return f"http://{HOST}:{settings.port}"


def serve(settings: ServerSettings, started: Callable[[], None]) -> None:
    """Run all three until we are interrupted; `started` is called once MLflow answers.

    Whatever ends this ends the three, MLflow first. Raises `RunError` if one of them does not start, or ends;
    `SettingsError` if a port or the folder is in use; `MissingExtraError`.
    """
    check_installed()
    service = mlflow_server(settings, settings.port, settings.auth)
    log = settings.folder / "logs" / "mlflow.log"
    with alone_in(settings.folder), stores(settings) as processes, running(service, log) as mlflow:
        started()
        while True:
            for name, process in (processes | {service.name: mlflow}).items():
                check(name, process, settings.folder / "logs")
            time.sleep(0.5)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """The server's folder for us alone while the body runs; raises `SettingsError` if another has it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise SettingsError(f"folder: expected no server on {folder}, found one that runs. Stop it first.") from error
