"""Several people, one server: a machine's live runs are left alone by all others, and what it left is taken over later.

Two hosts are two folders with their own `TINYPI_HOST`.
"""

import getpass
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from pipeline.errors import SettingsError
from pipeline.tracking import owner, study
from pipeline.tracking.begin import start_run
from pipeline.tracking.leftover import find_leftovers
from pipeline.tracking.query import fetch, search
from pipeline.tracking.store import experiment_id, open_store
from pipeline.upkeep.doctor import doctor
from pipeline.upkeep.info import next_step
from tests import warm
from tests.conftest import environment, mlflow_run
from tests.test_server_away import Server

pytestmark = pytest.mark.xdist_group("hosts")  # one server, which these tests share

# One model, whose training takes long enough to be met on its way: processes are stopped there.
SMALL = ["--methods", "pi0", "--n-models", "1", "--episodes", "2", "--executor", "serial"]
SMALL += ["--width", "16", "--layers", "1", "--batch-size", "100", "--epochs", "20", "--study"]


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


def stop_in_training(process: warm.Command, server: Server, study: str, models: int = 1) -> None:
    """Stop a study's process once it trains the model that is the study's `models`-th."""
    end = time.monotonic() + 120
    while sum("method" in run.data.tags for run in models_of(server, study)) < models:
        assert process.returncode is None and time.monotonic() < end, process.errors()
        time.sleep(0.1)
    process.send_signal(signal.SIGSTOP)


def models_of(server: Server, study: str) -> list[Run]:
    return [run for run in runs_of(server, study) if run.data.tags.get("kind") == "model"]


def set_back(server: Server, study: str) -> None:
    """As if none of the study's owners had been seen for longer than the lease."""
    long_ago = datetime.now(UTC) - timedelta(seconds=owner.LEASE_SECONDS + 60)
    for run in runs_of(server, study):
        MlflowClient(server.uri).set_tag(run.info.run_id, owner.HEARTBEAT_TAG, long_ago.isoformat())


def is_refused(result: subprocess.CompletedProcess[str], by: Host) -> None:
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result.stderr
    assert f"is running already: {by.env['TINYPI_HOST']}:{by.folder}/mlruns/journals by process" in result.stderr


ALIVE = {"study": "RUNNING", "group": "RUNNING", "model": "RUNNING"}
DONE = {"study": "FINISHED", "group": "FINISHED", "model": "FINISHED"}


@pytest.mark.slow(seconds=12)
def test_a_study_is_refused_while_another_machine_works_on_it(hosts: tuple[Host, Host], server: Server) -> None:
    ada, bob = hosts
    first = ada.start("ensemble", *SMALL, "one")
    stop_in_training(first, server, "one")
    is_refused(bob.run("ensemble", *SMALL, "one"), by=ada)
    assert "nothing to repair" in bob.run("doctor").stdout
    assert states(server, "one") == ALIVE
    first.send_signal(signal.SIGCONT)
    _, errors = first.communicate()
    assert first.returncode == 0, errors
    assert states(server, "one") == DONE
    runs = runs_of(server, "one")
    assert not [run for run in runs if "failure" in run.data.tags]
    assert {run.data.tags["journal"] for run in runs} == {f"ada:{ada.folder}/mlruns/journals"}


@pytest.mark.slow(seconds=12)
def test_a_killed_study_goes_on_at_once_here_and_after_the_lease_elsewhere(
    hosts: tuple[Host, Host], server: Server
) -> None:
    ada, bob = hosts
    for _ in range(2):  # the second call goes on at once
        process = ada.start("ensemble", *SMALL, "two")
        stop_in_training(process, server, "two")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(models_of(server, "two")) == 1 and states(server, "two") == ALIVE
    is_refused(bob.run("ensemble", *SMALL, "two"), by=ada)
    set_back(server, "two")
    result = bob.run("ensemble", *SMALL, "two")
    assert result.returncode == 0, result.stderr
    assert states(server, "two") == DONE
    begun, made = models_of(server, "two")
    assert begun.info.status == "FAILED" and "process was gone" in begun.data.tags["failure"]
    assert "failure" not in made.data.tags
    assert "taken over by bob:" in ada.run("doctor").stdout
    assert states(server, "two") == DONE


@pytest.mark.slow(seconds=12)
def test_who_has_lost_a_study_does_not_end_it(hosts: tuple[Host, Host], server: Server) -> None:
    ada, bob = hosts
    first = ada.start("ensemble", *SMALL, "three")
    stop_in_training(first, server, "three")
    set_back(server, "three")  # as if it had slept
    second = bob.start("ensemble", *SMALL, "three")
    stop_in_training(second, server, "three", models=2)
    first.send_signal(signal.SIGTERM)
    first.send_signal(signal.SIGCONT)
    first.communicate()
    assert first.returncode == 130 and states(server, "three") == ALIVE
    second.send_signal(signal.SIGCONT)
    _, errors = second.communicate()
    assert second.returncode == 0, errors
    assert states(server, "three") == DONE


@pytest.fixture
def here(workplace: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """The server, for calls in this process."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    return open_store()


def begin_elsewhere(client: MlflowClient, experiment: str, **tags: str) -> str:
    tags = {
        "kind": "study",
        "study": "four",
        "journal": "eve:/there",
        "heartbeat": datetime.now(UTC).isoformat(),
    } | tags
    return str(client.create_run(experiment_id(client, experiment), tags=tags).info.run_id)


@pytest.mark.slow(seconds=3)
def test_of_two_that_begin_a_study_at_once_the_first_has_it(
    here: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    rivals = []

    def start_second(*words: Any, **more: Any) -> Any:
        rivals.append(begin_elsewhere(here, "tinypi"))  # since we looked
        time.sleep(0.01)
        return start_run(*words, **more)

    monkeypatch.setattr(study, "start_run", start_second)
    with pytest.raises(SettingsError, match="is running already: eve:/there by process unknown"):
        study.open_study(here, "four", "tinypi")
    theirs, ours = search(here, {"study": "four"}, "tinypi")
    assert theirs.run_id == rivals[0] and (theirs.status, theirs.tags["kind"]) == ("RUNNING", "study")
    assert (ours.status, ours.tags["kind"], ours.tags["continued"]) == ("KILLED", "continuation", theirs.run_id)


@pytest.mark.slow(seconds=2)
def test_an_owner_of_our_name_whose_journal_is_not_here_is_left_alone(here: MlflowClient) -> None:
    """Two containers may have one host name, and the project in one path."""
    run_id = begin_elsewhere(here, "tinypi", study="five", **owner.owner_tags())
    with pytest.raises(SettingsError, match=r"'five' is running already: .* last seen"):
        study.open_study(here, "five", "tinypi")
    (found,) = doctor()
    assert found.done == "left alone" and "alive without a journal here" in found.state
    long_ago = datetime.now(UTC) - timedelta(seconds=owner.LEASE_SECONDS + 60)
    here.set_tag(run_id, owner.HEARTBEAT_TAG, long_ago.isoformat())
    study.open_study(here, "five", "tinypi").end("FINISHED")
    assert fetch(here, run_id).status == "FINISHED" and doctor() == []


@pytest.mark.slow(seconds=3)
def test_a_run_is_said_to_be_alive_until_it_ends(here: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(owner, "_thread", None)
    run = start_run(here, "tinypi", "alive", chosen=True)

    def beats() -> bool:
        here.set_tag(run.run_id, owner.HEARTBEAT_TAG, "long ago")
        time.sleep(1)
        return here.get_run(run.run_id).data.tags[owner.HEARTBEAT_TAG] != "long ago"

    assert beats()
    run.end("FINISHED")
    assert not beats()


@pytest.mark.slow(seconds=5)
@pytest.mark.usefixtures("with_store")
def test_what_mlflow_run_leaves_without_conda_is_ended(workplace: Path) -> None:
    missing = str(workplace / "no-conda")
    result = mlflow_run(workplace, "-e", "train_pi0", check=False, manager="conda", MLFLOW_CONDA_HOME=missing)
    assert result.returncode == 1 and "Could not find Conda executable" in result.stderr
    store = open_store()
    (run,) = search(store)
    assert run.status == "RUNNING" and "journal" not in run.tags
    end = time.monotonic() + 60
    while any(left.obstacle for left in find_leftovers(search(store))):  # another `mlflow run` of this user
        assert time.monotonic() < end
        time.sleep(1)
    assert next_step(True, search(store)).startswith("python -m pipeline doctor")
    assert [(found.state, found.done) for found in doctor()] == [("its process was gone", "ended as KILLED")]
    assert fetch(store, run.run_id).status == "KILLED" and doctor() == []
    assert next_step(True, search(store)) == "python -m train.train_pi0"


def launched(store: MlflowClient, **changes: str) -> str:
    """A run as `mlflow run` begins it."""
    tags = {"mlflow.source.type": "PROJECT", "mlflow.project.entryPoint": "train_pi0", "mlflow.user": getpass.getuser()}
    tags |= {f"mlflow.{name.replace('_', '.', 1)}": value for name, value in changes.items()}
    return str(store.create_run("0", tags=tags).info.run_id)


@pytest.mark.usefixtures("with_store")
@pytest.mark.parametrize("how", ["environment", "command line", "user", "entry point", "not a project"])
def test_what_mlflow_run_may_still_work_on_is_left_alone(workplace: Path, how: str) -> None:
    store = open_store()
    words, changes = ["sleep", "60"], {}
    if how == "command line":
        words = [sys.executable, "-S", "-c", "import time; time.sleep(60)", "mlflow", "run"]
    elif how == "user":
        changes = {"user": "somebody"}
    elif how == "entry point":
        changes = {"project_entryPoint": "another"}
    elif how == "not a project":
        changes = {"source_type": "LOCAL"}
    before = subprocess.Popen(words)
    run_id = launched(store, **changes)
    after = subprocess.Popen(["sleep", "60"], env=environment(MLFLOW_RUN_ID=run_id if how == "environment" else "x"))
    try:
        found = doctor()
        assert fetch(store, run_id).status == "RUNNING"
        assert next_step(True, search(store)) == "python -m train.train_pi0"
        if how == "environment":
            assert found[0].state == f"process {after.pid} works on it" and found[0].done == "left alone"
        elif how == "command line":
            assert "is an 'mlflow run' that may have begun it" in found[0].state
        elif how == "user":
            assert found[0].state.startswith("begun by somebody")
        else:
            assert found == []
    finally:
        for process in (before, after):
            process.kill()
            process.wait()


@pytest.mark.slow(seconds=2)
def test_on_a_server_what_mlflow_run_left_is_listed_only(here: MlflowClient) -> None:
    run_id = launched(here)
    (found,) = doctor()
    assert "may be alive on another machine" in found.state and found.done == "left alone"
    assert fetch(here, run_id).status == "RUNNING"
    here.set_terminated(run_id, "KILLED")
