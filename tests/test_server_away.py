"""The tracking server goes away in mid-run: training goes on, nothing is lost, and all arrives in order."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tests import warm
from tests.conftest import environment, put_store
from tests.test_runs import EPOCH_METRICS

pytestmark = pytest.mark.xdist_group("server_away")  # one server, which these tests share

# Steps of this training are slow enough for a server to go and come back within it.
WORDS = ["--epochs", "6", "--width", "64", "--layers", "2", "--batch-size", "8"]


class Server:
    """A real `mlflow server` on loopback, with an sqlite store and artifacts that it serves itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: warm.Command | None = None

    def start(self) -> None:
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            put_store(self.folder, "mlflow.db")
        words = [
            "-m", "mlflow", "server",
            "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db",
            "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        self.process = warm.Command(self.folder, words, environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"))
        end = time.monotonic() + 90
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                MlflowClient(self.uri).search_experiments()
                return
            except Exception:
                time.sleep(0.3)
        raise TimeoutError("the server did not start")

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def stop(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):  # a test has killed it
                self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("away") / "server")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(shared_server: Server, workplace: Path) -> Server:
    """The one server of these tests, as it runs; the run of each has the name of its workplace."""
    return shared_server


def only_run(workplace: Path, client: MlflowClient) -> Run:
    experiment = client.get_experiment_by_name("tinypi").experiment_id
    (run,) = client.search_runs([experiment], f"attributes.run_name = '{workplace.name}'")
    return run


def start_training(workplace: Path, server: Server, *words: str) -> warm.Command:
    command = ["-m", "train.train_pi0", *WORDS, "--run-name", workplace.name, *words]
    return warm.Command(workplace, command, environment(MLFLOW_TRACKING_URI=server.uri))


def wait_for_epoch(process: warm.Command, epoch: int) -> None:
    while not any(line.lstrip().startswith(f"{epoch} ") for line in process.printed().splitlines()):
        assert process.returncode is None, "the training ended by itself"
        time.sleep(0.02)


def pipeline_command(workplace: Path, server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    return warm.run(workplace, ["-m", "pipeline", *words], environment(MLFLOW_TRACKING_URI=server.uri))


def agrees(workplace: Path, server: Server, tmp_path: Path) -> None:
    """The server has what the mirror has: every epoch once and in order, and the same files."""
    client = MlflowClient(server.uri)
    run = only_run(workplace, client)
    name = run.data.tags["name"]
    assert run.info.status == "FINISHED" and run.data.params["epochs"] == "6"
    log = (workplace / f"train/logs/{name}.txt").read_text().splitlines()
    begin = next(number for number, line in enumerate(log) if line.lstrip().startswith("epoch "))
    rows = [line.split()[:4] for line in log[begin + 1 : begin + 7]]
    for column, metric in enumerate(("train_loss", "val_loss", "test_loss"), start=1):
        points = client.get_metric_history(run.info.run_id, metric)
        assert [point.step for point in points] == [1, 2, 3, 4, 5, 6]
        assert [f"{point.value:.5f}" for point in points] == [row[column] for row in rows]
        assert [point.timestamp for point in points] == sorted(point.timestamp for point in points)
    for metric in EPOCH_METRICS:
        assert len(client.get_metric_history(run.info.run_id, metric)) == 6
    for path in (f"logs/{name}.txt", f"trained_models/{name}.pth", f"loss_pics/{name}.png"):
        stored = client.download_artifacts(run.info.run_id, Path(path).name, str(tmp_path))
        assert Path(stored).read_bytes() == (workplace / "train" / path).read_bytes()
    assert {item.path for item in client.list_artifacts(run.info.run_id)} >= {"settings.json", "lock.json"}
    assert not [each for each in (workplace / "mlruns/journals").iterdir() if each.is_dir()]


def kill(server: Server) -> None:
    server.signal(signal.SIGKILL)


def hang(server: Server) -> None:
    server.signal(signal.SIGSTOP)


def fail(server: Server) -> None:
    """Every answer is a 500: the server's own database is gone."""
    (server.folder / "mlflow.db").rename(server.folder / "elsewhere.db")
    (server.folder / "mlflow.db").mkdir()


def come_back(server: Server, how: Callable[[Server], None]) -> None:
    if how is fail:
        (server.folder / "mlflow.db").rmdir()
        (server.folder / "elsewhere.db").rename(server.folder / "mlflow.db")
    elif how is hang:
        server.signal(signal.SIGCONT)
    else:
        server.stop()
        server.start()


@pytest.mark.slow(seconds=12)
@pytest.mark.parametrize(
    ("how", "back"),
    [
        (kill, "later"),
        (fail, "in time"),
        pytest.param(hang, "in time", marks=pytest.mark.long),  # a server that hangs is met daily below
        pytest.param(kill, "in time", marks=pytest.mark.long),
        pytest.param(hang, "later", marks=pytest.mark.long),
        pytest.param(fail, "later", marks=pytest.mark.long),
    ],
)
def test_nothing_is_lost(
    how: Callable[[Server], None], back: str, server: Server, workplace: Path, tmp_path: Path
) -> None:
    process = start_training(workplace, server)
    wait_for_epoch(process, 2)
    how(server)
    wait_for_epoch(process, 4)  # training goes on
    if back == "in time":
        come_back(server, how)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and errors == "" and "View run" not in out, errors
    if back == "later":
        assert "python -m pipeline sync" in out and "warning: no logged model in MLflow: the store is away" in out
        still_away = pipeline_command(workplace, server, "sync")
        # 1: a server whose database is gone may still answer what it remembers, and takes nothing.
        assert still_away.returncode in (1, 2) and still_away.stderr.startswith("error: MLflow")
        come_back(server, how)
        pipeline_command(workplace, server, "sync")
    elif "sync" in out:  # it came back between the last two tries
        assert pipeline_command(workplace, server, "sync").returncode == 0
    agrees(workplace, server, tmp_path)


@pytest.mark.slow(seconds=4)
def test_an_interrupted_run_whose_server_hangs_ends_within_seconds_and_is_told_of_later(
    server: Server, workplace: Path
) -> None:
    process = start_training(workplace, server, "--epochs", "1000")
    wait_for_epoch(process, 2)
    hang(server)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130 and time.monotonic() - begun < 10
    come_back(server, hang)
    assert pipeline_command(workplace, server, "doctor").returncode == 0
    assert only_run(workplace, MlflowClient(server.uri)).info.status == "KILLED"
