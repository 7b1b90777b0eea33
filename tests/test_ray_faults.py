"""A study on a real cluster whose workers, nodes and driver are killed ends as if nothing had been."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from mlflow.tracking import MlflowClient

from tests import warm
from tests.conftest import environment
from tests.nodes import Nodes, nodes
from tests.test_server_away import Server

pytestmark = [pytest.mark.long, pytest.mark.slow(seconds=200), pytest.mark.xdist_group("ray")]

WORDS = ["--methods", "pi0", "--n-models", "2", "--epochs", "30", "--width", "16", "--layers", "1"]
WORDS += ["--batch-size", "16", "--episodes", "3"]
OF_TIME = {"train_seconds", "samples_per_second"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("ray") / "server")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes() as found:
        yield found


class Place:
    """A folder whose only tie to the workers' nodes is the cluster; its studies are in an experiment of their own."""

    def __init__(self, name: str, folder: Path, data: Path, server: Server, *words: str) -> None:
        self.name, self.folder, self.server, self.words = name, folder / name, server, words
        self.folder.mkdir()
        (self.folder / "data").symlink_to(data)

    def start(self) -> warm.Command:
        words = ["-m", "pipeline", "ensemble", "--study", "one", "--experiment", self.name, *WORDS, *self.words]
        return warm.Command(self.folder, words, environment(MLFLOW_TRACKING_URI=self.server.uri))

    def finish(self) -> dict[str, Any]:
        """Give the study, again if it was begun; what is in its report."""
        process = self.start()
        assert process.wait(600) == 0, process.errors()
        return self.essence()

    def models(self) -> list[Any]:
        client = MlflowClient(self.server.uri)
        found = client.get_experiment_by_name(self.name)
        return client.search_runs([found.experiment_id], "tags.kind = 'model'") if found else []

    def essence(self) -> dict[str, Any]:
        """The report, and the weights, without ids and times."""
        report = json.loads((self.folder / "train/reports/one/report.json").read_text())
        for group in report["groups"]:
            for model in [group, *group["models"]]:
                model.pop("run_id", None)
                model["costs"] = {name: cost for name, cost in model["costs"].items() if name not in OF_TIME}
        report["weights"] = {run.data.params["seed"]: run.data.tags["weights_sha256"] for run in self.models()}
        return report

    def wait_for_snapshots(self, process: warm.Command) -> None:
        """Until those of both trainings are stored here."""
        end = time.monotonic() + 120
        while len(list(self.folder.glob("mlruns/journals/*/snapshot.safetensors"))) < 2:
            assert process.returncode is None and time.monotonic() < end, process.errors()
            time.sleep(0.05)

    def tidy(self) -> None:
        """Have what a killed process was writing removed, as if it had been long ago."""
        for path in self.folder.glob("train/*/.part-*"):
            os.utime(path, (0, 0))
        done = warm.run(self.folder, ["-m", "pipeline", "doctor"], environment(MLFLOW_TRACKING_URI=self.server.uri))
        assert done.returncode == 0, done.stderr

    def has_all_files(self) -> None:
        """Each model's files are here, as in MLflow, and nothing else is left of its run."""
        client = MlflowClient(self.server.uri)
        for run in self.models():
            for place in ("logs/{}.txt", "trained_models/{}.pth", "loss_pics/{}.png"):
                path = self.folder / "train" / place.format(run.data.tags["name"])
                assert path.read_bytes() == Path(client.download_artifacts(run.info.run_id, path.name)).read_bytes()
        assert not [each for each in (self.folder / "mlruns/journals").iterdir() if each.is_dir()]
        assert not list(self.folder.glob("train/*/.*"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, data: Path, server: Server) -> dict[str, Any]:
    """Of the same study on the pool, undisturbed."""
    return Place("pool", tmp_path_factory.mktemp("pool"), data, server).finish()


def on_ray(name: str, folder: Path, data: Path, server: Server, cluster: Nodes) -> Place:
    return Place(name, folder, data, server, "--executor", "ray", "--ray-address", cluster.address)


def each_was_trained_once(place: Place, resumed: range) -> None:
    runs = place.models()
    assert sorted((run.data.params["seed"], run.info.status) for run in runs) == [("0", "FINISHED"), ("1", "FINISHED")]
    assert sum(int(run.data.tags.get("resumed", "0")) for run in runs) in resumed


def test_undisturbed_it_is_as_on_the_pool(
    tmp_path: Path, data: Path, server: Server, cluster: Nodes, expected: dict[str, Any]
) -> None:
    place = on_ray("ray", tmp_path, data, server, cluster)
    assert place.finish() == expected
    each_was_trained_once(place, range(1))
    place.has_all_files()


@pytest.mark.parametrize("what", ["worker", "node", "driver"])
def test_what_is_killed_is_made_good(
    what: str, tmp_path: Path, data: Path, server: Server, cluster: Nodes, expected: dict[str, Any]
) -> None:
    place = on_ray(what, tmp_path, data, server, cluster)
    process = place.start()
    place.wait_for_snapshots(process)
    if what == "driver":
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert place.finish() == expected
    else:
        number = next(number for number in range(2) if cluster.processes(number, "pi0 seed"))
        if what == "worker":
            cluster.processes(number, "pi0 seed")[0].kill()
        else:
            cluster.kill_node(number)
        assert process.wait(600) == 0, process.errors()
        assert "is gone; trying again" in process.printed()
        assert place.essence() == expected
        if what == "node":
            cluster.add(number)
    each_was_trained_once(place, range(1, 3))
    place.tidy()
    place.has_all_files()


def test_searches_and_tables_are_as_on_one_machine(tmp_path: Path, data: Path, server: Server, cluster: Nodes) -> None:
    tried, tables = [], []
    executors = {"here": ["--executor", "serial"], "ray": ["--executor", "ray", "--ray-address", cluster.address]}
    for name, words in executors.items():
        folder = Place(f"search-{name}", tmp_path, data, server).folder
        (folder / "space.yaml").write_text("regression: {lr: {low: 0.001, high: 0.02, log: true}}")
        search = ["search", "--methods", "regression", "--space", "space.yaml", "--trials", "2", "--episodes", "1"]
        search += ["--experiment", folder.name, "--set", "epochs=1", "width=8", "layers=1"]
        table = ["evaluate", "--yardsticks", "--episodes", "2", "--out", "episodes.parquet"]
        for command in (search, table):
            env = environment(MLFLOW_TRACKING_URI=server.uri)
            done = warm.run(folder, ["-m", "pipeline", *command, *words], env)
            assert done.returncode == 0, done.stderr
        tried.append(yaml.safe_load((folder / "train/reports/search/regression.yaml").read_text())["found"]["tried"])
        rows = pq.read_table(folder / "episodes.parquet").to_pandas()
        tables.append(rows.astype(str).sort_values(["model", "condition", "episode"], ignore_index=True))
    assert tried[0] == tried[1] and len(tried[0]) == 2
    assert tables[0].equals(tables[1]) and len(tables[0]) > 0


def test_a_store_that_is_a_file_is_refused(tmp_path: Path, data: Path, server: Server, cluster: Nodes) -> None:
    place = on_ray("file", tmp_path, data, server, cluster)
    words = ["-m", "pipeline", "ensemble", *WORDS, *place.words]
    result = warm.run(place.folder, words, environment())
    assert result.returncode == 2 and result.stderr.startswith(
        "error: ray_address: expected a tracking server that the workers of 3 machines reach, found a store that is a "
        "file. Start one with 'make server' or 'mlflow server'"
    )


def test_a_cluster_of_other_versions_is_refused(tmp_path: Path, data: Path, server: Server, cluster: Nodes) -> None:
    place = on_ray("version", tmp_path, data, server, cluster)
    with cluster.another_version():
        result = warm.run(place.folder, ["-m", "pipeline", "ensemble", *WORDS, *place.words], environment())
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert "expected a cluster with our versions" in result.stderr and "Ray: 1.2.3" in result.stderr
