"""Several people, one server: a machine's live runs are left alone by all others, and what it left is taken over later.

Two hosts are two folders with their own `TINYPI_HOST`.
"""

import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from pipeline.tracking import owner
from tests import warm
from tests.conftest import environment
from tests.test_server_away import Server

# Of pi0, one seed: trained for minutes, until it is interrupted, or at once.
STUDY = ["--methods", "pi0", "--n-models", "1", "--episodes", "2", "--executor", "serial", "--width", "16"]
STUDY += ["--layers", "1", "--batch-size", "500", "--epochs"]
LONG, SHORT = "100000", "1"


class Host:
    """A folder and a name of its own, at one server."""

    def __init__(self, name: str, folder: Path, data: Path, server: Server) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        (self.folder / "data").symlink_to(data)
        self.env = environment(MLFLOW_TRACKING_URI=server.uri, TINYPI_HOST=name)

    def start(self, *words: str) -> warm.Command:
        return warm.Command(self.folder, ["-m", "pipeline", *words], self.env)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return warm.run(self.folder, ["-m", "pipeline", *words], self.env)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("hosts") / "server")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def hosts(tmp_path: Path, data: Path, server: Server) -> tuple[Host, Host]:
    return Host("ada", tmp_path, data, server), Host("bob", tmp_path, data, server)


def runs_of(server: Server, study: str) -> list[Run]:
    client = MlflowClient(server.uri)
    experiments = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.study = '{study}'", order_by=["attributes.start_time"]))


def states(server: Server, study: str) -> dict[str, str]:
    """The status of each run of a study that has one model, by its kind; yardsticks aside."""
    runs = {run.data.tags["kind"]: run.info.status for run in runs_of(server, study)}
    return {kind: runs[kind] for kind in ("study", "group", "model") if kind in runs}


def wait_for_training(process: warm.Command, server: Server, study: str) -> None:
    end = time.monotonic() + 120
    while "method" not in {name for run in runs_of(server, study) if is_model(run) for name in run.data.tags}:
        assert process.returncode is None and time.monotonic() < end, process.errors()
        time.sleep(0.3)


def is_model(run: Run) -> bool:
    return run.data.tags.get("kind") == "model"


def set_back(server: Server, study: str) -> None:
    """As if none of the study's owners had been seen for longer than the lease."""
    long_ago = datetime.now(UTC) - timedelta(seconds=owner.LEASE_SECONDS + 60)
    for run in runs_of(server, study):
        MlflowClient(server.uri).set_tag(run.info.run_id, owner.HEARTBEAT_TAG, long_ago.isoformat())


ALIVE = {"study": "RUNNING", "group": "RUNNING", "model": "RUNNING"}
