"""The team server: PostgreSQL, the S3 store and MLflow as one."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from pipeline.errors import SettingsError, one_line
from pipeline.locks import file_lock
from pipeline.server.parts import check_installed, mlflow_server, stores
from pipeline.server.service import HOST, running
from pipeline.server.settings import ServerSettings


def address(settings: ServerSettings) -> str:
    """What clients set MLFLOW_TRACKING_URI to."""
    return f"http://{HOST}:{settings.port}"


def serve(settings: ServerSettings, started: Callable[[], None]) -> None:
    """Run all three until we are interrupted; `started` is called once MLflow answers.

    Whatever ends this ends the three, MLflow first. Raises `RunError` if one of them does not start, or ends;
    `SettingsError` if a port or the folder is in use; `MissingExtraError`.
    """
    check_installed()
    with (
        alone_in(settings.folder),
        stores(settings) as processes,
        running(mlflow_server(settings), settings.folder / "logs" / "mlflow.log") as mlflow,
    ):
        started()
        while True:
            for process in (*processes, mlflow):
                process.check()
            time.sleep(0.5)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """The server's folder for us alone while the body runs; raises `SettingsError` if another has it, or it is none."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    except OSError as error:
        raise SettingsError(f"folder: expected one that is there or can be made, found: {one_line(error)}.") from error
    try:
        with file_lock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise SettingsError(f"folder: expected no server on {folder}, found one that runs. Stop it first.") from error
