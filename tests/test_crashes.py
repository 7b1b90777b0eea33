"""Runs whose process is killed at any moment: nothing half-written is seen, and `--resume` gives the same bits."""

import contextlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from matplotlib import pyplot as plt
from mlflow.tracking import MlflowClient

from pipeline.cli.main import main
from pipeline.cli.train import train_command
from pipeline.methods.settings import Pi0FastSettings, Pi0Settings
from pipeline.policies.checkpoint import weights_digest
from tests import warm
from tests.conftest import environment, put_store, runs_of, store
from tests.test_runs import EPOCH_METRICS, log_without_times

TRAININGS = {"pi0": Pi0Settings, "pi0_fast": Pi0FastSettings}
SMALL = ["--epochs", "4", "--width", "16", "--layers", "1", "--batch-size", "50", "--dropout", "0.1"]

# `python -m` as ever, but whatever can be kept of a run is kept at once.
KEEPING_ALL = """
import runpy, sys
from pipeline.stages import account
account.SNAPSHOT_SECONDS = 0.0
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def start(folder: Path, command: str, *words: str) -> warm.Command:
    module = [f"train.train_{command}"] if command in TRAININGS else ["pipeline", command]
    return warm.Command(folder, ["-c", KEEPING_ALL, *module, *words], environment())


def finish(folder: Path, command: str, *words: str) -> None:
    process = start(folder, command, *words)
    assert process.wait() == 0, process.errors()


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
    """All of the one run that must be the same however often it was interrupted."""
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
    by_step = client.get_metric_history(run.info.run_id, "train_loss_by_step")
    history["by step"] = sorted((point.step, point.value) for point in by_step)
    assert [step for step, _ in history["by step"]] == list(range(20, 4 * 24 + 1, 20))  # each once
    content = torch.load(folder / f"train/trained_models/{name}.pth", weights_only=True)
    assert weights_digest(content["weights"]) == run.data.tags["weights_sha256"]
    for path in ("logs/{}.txt", "trained_models/{}.pth", "loss_pics/{}.png"):
        mirrored = folder / "train" / path.format(name)
        stored = client.download_artifacts(run.info.run_id, mirrored.name)
        assert mirrored.read_bytes() == Path(stored).read_bytes()
    assert not [each for each in (folder / "mlruns/journals").iterdir() if each.is_dir()]
    inputs = [each.dataset.digest for each in run.inputs.dataset_inputs]
    return run.data.tags["weights_sha256"], history, log_without_times(folder, name), run.data.params, inputs


def wait_for_snapshots(folder: Path, process: warm.Command, count: int) -> None:
    """Until the run has written `count` snapshots more, however fast this machine is just now."""
    seen: set[tuple[int, int]] = set()
    while process.returncode is None and len(seen) <= count:
        for path in folder.glob("mlruns/journals/*/snapshot.safetensors"):
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                seen.add((found.st_ino, found.st_mtime_ns))
        time.sleep(0.001)


def kill(process: warm.Command, after: float) -> None:
    if process.wait(after) is None:
        process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow(seconds=16)
@pytest.mark.parametrize(
    ("method", "kills"),
    [("pi0", 1), ("pi0_fast", 1), *(pytest.param(method, 10, marks=pytest.mark.long) for method in TRAININGS)],
)
def test_killed_at_any_moment_and_resumed_a_run_ends_as_if_nothing_had_been(
    method: str, kills: int, data: Path, tmp_path: Path
) -> None:
    def place(name: str, with_store: bool) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").symlink_to(data)
        if with_store:
            put_store(tmp_path / name)
        return tmp_path / name

    undisturbed = place("undisturbed", with_store=kills == 1)  # of more kills, some come in the making of a store
    begun = time.monotonic()
    finish(undisturbed, method, *SMALL)
    whole = time.monotonic() - begun
    expected = bits(undisturbed, store(undisturbed))
    moments = random.Random(5)
    resumed = 0
    for number in range(kills):
        in_training = number % 2 == 0  # half of the kills; the others come whenever, in the making of a store too
        folder = place(f"killed {number}", with_store=in_training)
        for _ in range(2):  # a resumed run is killed too
            if any(run.info.status == "FINISHED" for run in runs_of(folder)):
                break
            again = ["--resume", "latest"] if list(folder.glob("mlruns/journals/*/about.json")) else SMALL
            process = start(folder, method, *again)
            if in_training:
                wait_for_snapshots(folder, process, moments.randrange(6))
                kill(process, 0.1 * moments.random())
            else:
                kill(process, whole * moments.random())
            looks_whole(folder)
        finish(folder, "doctor")
        unfinished = list(folder.glob("mlruns/journals/*/about.json"))
        resumed += bool(unfinished)
        if unfinished:
            finish(folder, method, "--resume", "latest")
        elif not [run for run in runs_of(folder) if run.info.status == "FINISHED"]:
            finish(folder, method, *SMALL)  # it was killed before anything was begun
        looks_whole(folder)
        assert bits(folder, store(folder)) == expected, f"kill {number}"
    assert resumed >= -(-kills // 3), resumed


@pytest.mark.slow(seconds=4)
@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.long)])
@pytest.mark.parametrize("command", ["collect", "tokenize", "export", "report"])
def test_killed_at_any_moment_other_commands_leave_whole_files_or_none(
    command: str, kills: int, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").symlink_to(data)
    put_store(tmp_path)
    if command in ("export", "report"):
        finish(tmp_path, "pi0", *SMALL)
    if command == "report":
        finish(tmp_path, "evaluate", "--run", runs_of(tmp_path)[0].info.run_id, "--episodes", "2")
    models = map(str, tmp_path.glob("train/trained_models/*.pth"))
    pairs = str(data / "training_pairs_original.npz")
    words, made = {
        "collect": (["--trajectories", "500", "--out", "made"], "made"),
        "tokenize": (["--pairs", pairs, "--out", "made"], "made"),
        "export": (["--checkpoint", *models, "--out", "made/model.onnx"], "made"),
        "report": (["--out", "made"], "made"),
    }[command]
    begun = time.monotonic()
    finish(tmp_path, command, *words)
    whole = time.monotonic() - begun
    folder = tmp_path / made

    def seen() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.glob("[!.]*")} if folder.exists() else {}

    expected = seen()
    assert expected
    moments = random.Random(5)
    for _ in range(kills):
        shutil.rmtree(folder, ignore_errors=True)
        kill(start(tmp_path, command, *words), whole * moments.random())
        found = seen()
        assert found.items() <= expected.items()  # the final bytes under a name, or nothing
    finish(tmp_path, command, *words)
    assert seen() == expected


def test_doctor_ends_what_a_dead_process_left_and_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(data)
    put_store(tmp_path)
    process = start(tmp_path, "pi0", *SMALL, "--epochs", "100000")
    while not (snapshots := list(tmp_path.glob("mlruns/journals/*/snapshot.safetensors"))):
        time.sleep(0.05)
    kill(process, 0)
    run_id = snapshots[0].parent.name
    client = store(tmp_path)
    assert client.get_run(run_id).info.status == "RUNNING"
    (tmp_path / "train/logs/.part-abcdefgh.txt").write_text("half")
    os.utime(tmp_path / "train/logs/.part-abcdefgh.txt", (0, 0))

    def command(*words: str) -> str:
        env = environment(MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlruns/mlflow.db")
        done = warm.run(tmp_path, ["-m", *words], env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "1 earlier run was left" in command("train.train_pi0", "--epochs", "1", "--width", "16")
    mended = command("pipeline", "doctor")
    assert f"ended as KILLED, --resume {run_id} goes on with it" in mended and "1 files" in mended
    run = client.get_run(run_id)
    assert run.info.status == "KILLED" and run.data.tags["failure"] == "its process was gone"
    name = run.data.tags["name"]
    assert (tmp_path / f"train/logs/{name}.txt").read_text().endswith("killed: its process was gone\n")
    assert not list((tmp_path / "train/logs").glob(".*"))
    assert "left" not in command("train.train_pi0", "--epochs", "1", "--width", "16")
    assert "ended as KILLED" in command("pipeline", "doctor")  # it can still go on
    assert "nothing to upload" in command("pipeline", "sync")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume", "latest"], "expected an unfinished run of pi0, found none for 'latest'"),
        (["--resume", "0123"], "expected an unfinished run of pi0, found none for '0123'"),
        (["--resume", "../../x"], "resume: expected a name of letters, digits"),
    ],
)
def test_what_cannot_be_resumed_is_refused(
    words: list[str], message: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train_command("pi0", Pi0Settings), words) == 2
    assert message in capsys.readouterr().err


def test_a_run_goes_on_as_it_was_started(data: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(data)
    put_store(tmp_path)
    process = start(tmp_path, "pi0", *SMALL, "--epochs", "100000")
    while not (snapshots := list(tmp_path.glob("mlruns/journals/*/snapshot.safetensors"))):
        time.sleep(0.05)
    alive = start(tmp_path, "pi0", "--resume", snapshots[0].parent.name)
    assert alive.wait() == 2  # a process works on it
    kill(process, 0)
    for method, words in (("pi0", ["--lr", "0.5"]), ("pi0_fast", [])):
        other = start(tmp_path, method, "--resume", snapshots[0].parent.name, *words)
        assert other.wait() == 2
    content = bytearray(snapshots[0].read_bytes())
    content[-9] ^= 1
    snapshots[0].write_bytes(content)
    changed = start(tmp_path, "pi0", "--resume", "latest")
    assert changed.wait() == 2
    (run,) = runs_of(tmp_path)
    assert run.info.status == "RUNNING"  # refused before anything was changed
