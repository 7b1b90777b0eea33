"""The team server for real: PostgreSQL and an S3 store, a local store moved there, and a whole study run against it."""

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
import requests
from botocore.exceptions import ClientError
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, ViewType
from mlflow.tracking import MlflowClient

from pipeline.cli.main import COMMANDS, EXIT_BAD_INPUT, main
from pipeline.errors import StoreError
from pipeline.tracking.move import moved_address
from tests import warm
from tests.conftest import environment, put_store, store
from tests.test_ensemble import FIGURES, TEXTS, TINY_WORDS

pytestmark = [pytest.mark.slow(seconds=5), pytest.mark.xdist_group("team_server")]  # one server, which they share
TABLES = [
    "experiments", "runs", "metrics", "latest_metrics", "params", "tags", "datasets", "inputs", "input_tags",
    "registered_models", "registered_model_tags", "registered_model_aliases", "model_versions",
]  # fmt: skip
ADDRESSES = {"artifact_location", "artifact_uri", "source", "storage_location"}
STUDY = ["pipeline", "ensemble", "--executor", "serial", *TINY_WORDS]


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


PROXY = {"http_proxy": "http://127.0.0.1:9"}  # the parts of the server do not ask it for each other


class TeamServer:
    """`python -m pipeline server --auth` in a folder of its own, and what its clients need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "server"
        self.port, self.postgres_port, self.s3_port = free_ports(3)
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: warm.Command | None = None

    def words(self) -> list[str]:
        ports = ["--postgres-port", str(self.postgres_port), "--s3-port", str(self.s3_port)]
        return ["--folder", str(self.folder), *ports]

    def keys(self) -> dict[str, str]:
        return json.loads((self.folder / "credentials.json").read_text())

    def as_user(self, name: str, password: str) -> dict[str, str]:
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": name,
            "MLFLOW_TRACKING_PASSWORD": password,
        }

    def admin(self) -> dict[str, str]:
        return self.as_user("admin", self.keys()["admin_password"])

    def start(self) -> None:
        words = ["-m", "pipeline", "server", "--auth", "--port", str(self.port), *self.words()]
        self.process = warm.Command(self.folder.parent, words, environment(**PROXY))
        end = time.monotonic() + 120
        while "stop it" not in self.printed():
            assert self.process.returncode is None and time.monotonic() < end, self.printed()
            time.sleep(0.2)

    def printed(self) -> str:
        assert self.process is not None
        return self.process.printed() + self.process.errors()

    def database(self) -> psycopg.Connection:
        password = self.keys()["postgres_password"]
        return psycopg.connect(
            host="127.0.0.1", port=self.postgres_port, user="mlflow", password=password, dbname="mlflow"
        )

    def objects(self, access_key: str, secret_key: str) -> Any:
        return boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{self.s3_port}", region_name="us-east-1",
            aws_access_key_id=access_key, aws_secret_access_key=secret_key,
        )  # fmt: skip

    def stop(self) -> int | None:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


def command(folder: Path, *words: object, **env: str) -> str:
    """`python -m WORDS...` in a folder; what it prints."""
    result = warm.run(folder, ["-m", *map(str, words)], environment(**env))
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def local(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a local store: a study of one model, and a run with some of everything that MLflow keeps."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "data").symlink_to(data)
    put_store(folder)
    command(folder, *STUDY, "--methods", "pi0", "--n-models", 1)
    client = store(folder)
    run = client.create_run(client.get_experiment_by_name("tinypi").experiment_id, run_name="by hand").info.run_id
    values = [("loss", 3.0, 1, 0), ("loss", 2.5, 2, 7), ("loss", float("nan"), 3, 8), ("loss", float("inf"), 4, 9)]
    client.log_batch(run, [Metric(*value) for value in values])
    client.log_inputs(run, [DatasetInput(Dataset("pairs", "d1", "local", "{}"), [InputTag("context", "training")])])
    client.log_text(run, "long ago", "notes/über.txt")
    client.set_terminated(run)
    client.create_registered_model("by_hand", {"by": "hand"}, "a model")
    version = client.create_model_version("by_hand", f"{client.get_run(run).info.artifact_uri}/notes", run)
    client.set_registered_model_alias("by_hand", "champion", version.version)
    deleted = client.create_run("0", run_name="deleted").info.run_id
    client.set_terminated(deleted)
    client.delete_run(deleted)
    return folder


@pytest.fixture(scope="module")
def server(local: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServer]:
    """A team server that the local store was moved into."""
    server = TeamServer(tmp_path_factory.mktemp("team"))
    said = command(local, "pipeline", "move-store", *server.words(), **PROXY)
    assert re.search(r"models +\d+ registered versions", said)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server: TeamServer, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    for name, value in server.admin().items():
        monkeypatch.setenv(name, value)
    return MlflowClient(server.uri)


def rows_of(connection: Any, table: str) -> list[str]:
    """All rows of a table of MLflow's, without the addresses of artifacts, in an order that no database decides."""
    found = connection.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in found.description]
    rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return sorted(
        str(
            sorted(
                (name, str(int(value) if isinstance(value, bool) else value))
                for name, value in row.items()
                if name not in ADDRESSES
            )
        )
        for row in rows
    )


def test_a_moved_store_is_the_same(local: Path, server: TeamServer, client: MlflowClient, tmp_path: Path) -> None:
    with sqlite3.connect(local / "mlruns/mlflow.db") as old, server.database() as new:
        for table in TABLES:
            before = rows_of(old, table)
            assert before and rows_of(new, table) == before, table
    source = store(local)
    runs = source.search_runs(["0", "1"], run_view_type=ViewType.ALL)
    for run in runs:
        left, right = (tmp_path / side / run.info.run_id for side in ("left", "right"))
        for side, whose in ((left, source), (right, client)):
            side.mkdir(parents=True)
            whose.download_artifacts(run.info.run_id, "", str(side))
        assert files_in(left) == files_in(right)
    (by_hand,) = [run.info.run_id for run in runs if run.info.run_name == "by hand"]
    assert files_in(tmp_path / "right" / by_hand) == {"notes/über.txt": b"long ago"}
    history = client.get_metric_history(by_hand, "loss")
    assert [(each.step, each.timestamp, str(each.value)) for each in history[:3]] == [
        (0, 1, "3.0"), (7, 2, "2.5"), (8, 3, "nan"),
    ]  # fmt: skip
    champion = client.get_model_version_by_alias("by_hand", "champion")
    assert champion.run_id == by_hand
    downloaded = client.get_model_version_download_uri("by_hand", champion.version)
    assert downloaded == f"mlflow-artifacts:/1/{by_hand}/artifacts/notes"
    assert client.create_experiment("after the move") == "2"  # numbers go on

    words = ("pipeline", "report", "--study", "ensemble", "--json")
    before, after = command(local, *words), command(tmp_path, *words, **server.admin())
    assert after == before and json.loads(before)["groups"]


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """What `move-store` says when it refuses."""

    def call(source: Path, *words: object) -> str:
        assert main(COMMANDS, ["move-store", "--source", str(source), *map(str, words)]) == EXIT_BAD_INPUT
        return capsys.readouterr().err

    return call


def test_moving_refuses(local: Path, server: TeamServer, tmp_path: Path, refused: Refused) -> None:
    assert "found no file" in refused(tmp_path / "none.db", "--folder", tmp_path / "new")
    assert "found one that runs" in refused(local / "mlruns/mlflow.db", *server.words())


def test_addresses_of_artifacts() -> None:
    homes = {Path("/a/1"): 1, Path("/a/1/inner"): 2}
    for address, expected in {
        "/a/1": "mlflow-artifacts:/1",
        "file:///a/1/r/artifacts": "mlflow-artifacts:/1/r/artifacts",
        "/a/1/inner/r/artifacts": "mlflow-artifacts:/2/r/artifacts",
        "s3://elsewhere/r": "s3://elsewhere/r",
        None: None,
    }.items():
        assert moved_address("runs", address, homes) == expected
    with pytest.raises(StoreError, match="found '/b/r/artifacts'"):
        moved_address("runs", "/b/r/artifacts", homes)


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_study_against_it(server: TeamServer, client: MlflowClient, data: Path, tmp_path: Path, count: int) -> None:
    """Every row is in PostgreSQL, every artifact in the S3 store, and the report works."""
    (tmp_path / "data").symlink_to(data)
    methods = {1: ["pi0_fast"], 2: ["pi0", "pi0_fast"]}[count]
    team, jobs = f"team-{count}", {1: 6, 2: 11}[count]  # with one model there is nothing to average
    words = ["--study", team, "--n-models", count, "--methods", ",".join(methods)]
    said = command(tmp_path, *STUDY, *words, **server.admin())
    assert f"{jobs} jobs run, 0 models reused, 0 failed" in said
    assert not list(tmp_path.rglob("*.db")) and not list((tmp_path / "mlruns/journals").glob("*/"))

    keys = server.keys()
    with server.database() as database:
        statuses = database.execute(
            "SELECT status, count(*) FROM runs JOIN tags USING (run_uuid) "
            f"WHERE key = 'study' AND tags.value = '{team}' GROUP BY status"
        ).fetchall()
        homes = database.execute("SELECT DISTINCT artifact_uri FROM runs").fetchall()
    assert statuses == [("FINISHED", jobs + len(methods))]  # the study and its groups; the trade-off has no run
    assert all(home.startswith("mlflow-artifacts:/") for (home,) in homes)

    runs = client.search_runs([client.get_experiment_by_name("tinypi").experiment_id], f"tags.study = '{team}'")
    models = [run for run in runs if run.data.tags["kind"] == "model"]
    objects = server.objects(keys["s3_access_key"], keys["s3_secret_key"])
    for run in models:
        assert len(client.get_metric_history(run.info.run_id, "val_loss")) == 1
        prefix = run.info.artifact_uri.removeprefix("mlflow-artifacts:/") + "/"
        stored = {item["Key"].removeprefix(prefix) for item in
                  objects.list_objects_v2(Bucket="mlflow", Prefix=prefix)["Contents"]}  # fmt: skip
        name = run.data.tags["name"]
        assert {f"{name}.pth", "settings.json", "episodes.csv"} <= {Path(key).name for key in stored}
        weights = next(key for key in stored if key.endswith(".pth"))
        body = objects.get_object(Bucket="mlflow", Key=prefix + weights)["Body"].read()
        assert body == (tmp_path / f"train/trained_models/{name}.pth").read_bytes()
    parent = next(run for run in runs if run.data.tags["kind"] == "study")
    expected = FIGURES | TEXTS if len(methods) > 1 else (FIGURES | TEXTS) - {"verdicts.png"}
    assert {Path(item.path).name for item in client.list_artifacts(parent.info.run_id, "report")} == expected

    text = command(tmp_path, "pipeline", "report", "--study", team, **server.admin())
    assert (f"{methods[0]} has one seed" in text) == (count == 1)


def test_passwords(server: TeamServer, client: MlflowClient) -> None:
    def asked(user: tuple[str, str] | None) -> int:
        address = f"{server.uri}/api/2.0/mlflow/experiments/search"
        return requests.post(address, json={"max_results": 1}, auth=user, timeout=20).status_code

    admin = ("admin", server.keys()["admin_password"])
    assert [asked(user) for user in (None, ("admin", "password1234"), ("admin", "password"), admin)] == [
        401, 401, 401, 200,
    ]  # fmt: skip
    ada = {"username": "ada", "password": "a long password of her own"}
    made = requests.post(f"{server.uri}/api/2.0/mlflow/users/create", json=ada, auth=admin, timeout=20)
    assert made.status_code == 200, made.text
    name = {"experiment_names": "of ada"}
    said = command(
        server.folder.parent, "mlflow", "experiments", "create", "--experiment-name", name["experiment_names"],
        **server.as_user(ada["username"], ada["password"]),
    )  # fmt: skip
    assert "Created experiment 'of ada'" in said


def command_lines() -> list[str]:
    """The command of every process, as everybody can see it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            found.append(path.read_bytes().decode(errors="replace"))
    return found


def test_secrets_stay_secret(server: TeamServer) -> None:
    """No password in a command line or a log, and none but their owner reads them; all listen on loopback alone."""
    assert stat.S_IMODE((server.folder / "credentials.json").stat().st_mode) == 0o600
    secret = set(server.keys().values())
    shown = command_lines() + [path.read_text() for path in (server.folder / "logs").iterdir()] + [server.printed()]
    assert not [text for text in shown if any(key in text for key in secret)]
    with server.database() as database:
        assert database.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
    tables = [Path(f"/proc/net/{name}").read_text().splitlines() for name in ("tcp", "tcp6")]
    listening = [line.split()[1:4] for table in tables for line in table]
    for port in (server.port, server.postgres_port, server.s3_port):
        found = {address for address, _, state in listening if state == "0A" and address.endswith(f":{port:04X}")}
        assert found == {f"0100007F:{port:04X}"}
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=server.postgres_port, user="mlflow", dbname="mlflow", password="no")
    refused = requests.get(f"http://127.0.0.1:{server.s3_port}/mlflow?list-type=2", timeout=20)
    assert refused.status_code == 400  # not signed
    forged = server.objects(server.keys()["s3_access_key"], "another secret")
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        forged.list_objects_v2(Bucket="mlflow")


def test_it_stops_takes_no_second_store_and_finds_all_again(
    local: Path, server: TeamServer, client: MlflowClient, tmp_path: Path, refused: Refused
) -> None:
    def ours() -> list[str]:
        words = (str(server.folder), f"\0{server.port}\0")
        return [line for line in command_lines() if any(word in line for word in words)]

    before = {run.info.run_id for run in client.search_runs(["1"])}
    assert before and len(ours()) >= 4
    assert server.stop() == 0 and "stopped; all data are kept for the next start" in server.printed()
    assert not ours()

    assert "expected an empty one, found" in refused(local / "mlruns/mlflow.db", *server.words())
    put_store(tmp_path)
    busy = tmp_path / "mlruns/mlflow.db"
    MlflowClient(f"sqlite:///{busy}").create_run("0")
    assert "found 1 RUNNING" in refused(busy, *server.words())

    server.start()
    assert {run.info.run_id for run in client.search_runs(["1"])} == before


def test_a_part_that_dies_ends_the_server_and_is_named(server: TeamServer) -> None:
    """The last of those that share the server: it does not run any more."""
    assert server.process is not None
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    (store,) = [pid for pid in children if "rclone" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(int(store), signal.SIGKILL)
    assert server.process.wait(60) == 1
    assert "error: S3 store: expected it to run, found it ended with code -9:" in server.printed()
    assert server.printed().strip().endswith(f"Its log is {server.folder}/logs/s3.log.")


def test_ports_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = ["server", "--folder", str(tmp_path / "new"), "--postgres-port", str(port)]
        assert main(COMMANDS, words) == EXIT_BAD_INPUT
        assert f"expected port {port} to be free, found it in use" in capsys.readouterr().err
    assert main(COMMANDS, ["server", "--port", "6000", "--s3-port", "6000"]) == EXIT_BAD_INPUT
    assert "expected three different ports" in capsys.readouterr().err
