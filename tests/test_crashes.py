"""Runs whose process is killed at any moment: nothing half-written is seen, and `--resume` gives the same bits."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from matplotlib import pyplot as plt
from mlflow.tracking import MlflowClient

from pipeline.cli import COMMANDS, main, train_command
from pipeline.config import Pi0FastSettings, Pi0Settings
from pipeline.policies.checkpoint import weights_digest
from tests.conftest import runs_of, store
from tests.test_runs import EPOCH_METRICS, log_without_times

TRAININGS = {"pi0": Pi0Settings, "pi0_fast": Pi0FastSettings}
SMALL = ["--epochs", "4", "--width", "16", "--layers", "1", "--batch-size", "50", "--dropout", "0.1"]

# A clean process in which all is imported already, so that a run takes a second and a kill can hit any part of it.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["pipeline.workflows.train", "pipeline.workflows.tokenize", "mlflow.tracking"])


def work(folder: Path, command: str, words: list[str], seconds_between_snapshots: float) -> None:
    from pipeline.workflows import train

    os.chdir(folder)
    os.environ |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlruns/mlflow.db"}
    train.SNAPSHOT_SECONDS = seconds_between_snapshots
    chosen = train_command(command, TRAININGS[command]) if command in TRAININGS else COMMANDS
    raise SystemExit(main(chosen, words))


def start(folder: Path, command: str, *words: str, snapshots: float = 0.0) -> multiprocessing.Process:
    process = PROCESSES.Process(target=work, args=(folder, command, list(words), snapshots))
    process.start()
    return process


def finish(folder: Path, command: str, *words: str) -> None:
    process = start(folder, command, *words)
    process.join(120)
    assert process.exitcode == 0


def looks_whole(folder: Path) -> None:
    """Whatever is to be seen under a final name opens."""
    for path in folder.glob("train/*/[!.]*"):
        if path.suffix == ".pth":
            torch.load(path, weights_only=True)
        elif path.suffix == ".png":
            plt.imread(path)
        else:
            assert path.read_text().endswith("\n")


def bits(folder: Path, client: MlflowClient) -> tuple[object, ...]:
    """All of the one run that must be the same however often it was broken off."""
    runs = runs_of(folder)
    (run,) = [run for run in runs if run.info.status == "FINISHED"]
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}  # KILLED: before it had a journal
    name = run.data.tags["name"]
    history = {
        metric: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)]
        for metric in sorted(EPOCH_METRICS - {"samples_per_second"})
    }
    assert {len(points) for points in history.values()} == {4}
    assert len(client.get_metric_history(run.info.run_id, "samples_per_second")) == 4
    content = torch.load(folder / f"train/trained_models/{name}.pth", weights_only=True)
    assert weights_digest(content["weights"]) == run.data.tags["weights_sha256"]
    for path in ("logs/{}.txt", "trained_models/{}.pth", "loss_pics/{}.png"):
        mirrored = folder / "train" / path.format(name)
        stored = client.download_artifacts(run.info.run_id, mirrored.name)
        assert mirrored.read_bytes() == Path(stored).read_bytes()
    assert not [each for each in (folder / "mlruns/journals").iterdir() if each.is_dir()]
    inputs = [each.dataset.digest for each in run.inputs.dataset_inputs]
    return run.data.tags["weights_sha256"], history, log_without_times(folder, name), run.data.params, inputs


@pytest.mark.slow
@pytest.mark.parametrize("method", list(TRAININGS))
def test_killed_at_any_moment_and_resumed_a_run_ends_as_if_nothing_had_been(
    method: str, data: Path, tmp_path: Path
) -> None:
    def place(name: str) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").symlink_to(data)
        return tmp_path / name

    undisturbed = place("undisturbed")
    finish(undisturbed, method, *SMALL)
    begun = time.monotonic()
    finish(place("timed"), method, *SMALL)
    whole = time.monotonic() - begun
    expected = bits(undisturbed, store(undisturbed))
    moments = random.Random(5)
    resumed = 0
    for number in range(10):  # of each method: 20 in all
        folder = place(f"killed {number}")
        for _ in range(2):  # a resumed run is killed too
            if any(run.info.status == "FINISHED" for run in runs_of(folder)):
                break
            again = ["--resume", "latest"] if list(folder.glob("mlruns/journals/*/about.json")) else SMALL
            process = start(folder, method, *again)
            process.join(whole * moments.random())
            if process.exitcode is None:
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
            process.join()
            looks_whole(folder)
        finish(folder, "doctor", "doctor")
        unfinished = list(folder.glob("mlruns/journals/*/about.json"))
        resumed += bool(unfinished)
        if unfinished:
            finish(folder, method, "--resume", "latest")
        elif not [run for run in runs_of(folder) if run.info.status == "FINISHED"]:
            finish(folder, method, *SMALL)  # it was killed before anything was begun
        looks_whole(folder)
        assert bits(folder, store(folder)) == expected, f"kill {number}"
    assert resumed >= 3
