"""A disk that is full, or read-only: one clear line, what was there stays, and no run is left RUNNING."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Run, runs_of

SMALL = ("--epochs", 2, "--width", 16, "--layers", 1)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 400 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("only root can mount a small disk here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


def read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def one_error(result: subprocess.CompletedProcess[str], code: int) -> str:
    assert result.returncode == code, result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_data_do_not_fit(disk: Path, run: Run) -> None:
    assert run("pipeline", "collect", "--trajectories", 20, "--out", disk).returncode == 0
    before = {path.name: path.read_bytes() for path in disk.iterdir()}
    error = one_error(run("pipeline", "collect", "--trajectories", 500, "--out", disk), 1)
    assert "trajectories.npz: expected to write it, found: No space left on device" in error
    fill(disk)
    pairs = ("--pairs", disk / "training_pairs_original.npz", "--out", disk)
    assert "No space left" in one_error(run("pipeline", "tokenize", *pairs), 1)
    (disk / "filler").unlink()
    assert {path.name: path.read_bytes() for path in disk.iterdir()} == before
    read_only(disk)
    assert f"found '{disk}'" in one_error(run("pipeline", "collect", "--trajectories", 20, "--out", disk), 2)
    with np.load(disk / "training_pairs_original.npz") as pairs_file:  # it is still read: nothing is locked there
        assert len(pairs_file["state"]) == 500


@pytest.mark.usefixtures("with_store")
def test_the_mirror_is_full(disk: Path, run: Run, workplace: Path) -> None:
    (workplace / "train").symlink_to(disk)
    for folder in ("logs", "trained_models", "loss_pics"):
        (disk / folder).mkdir()
    kept = disk / "logs" / "kept.txt"
    kept.write_text("an earlier run\n")
    fill(disk)
    result = run("train.train_pi0", *SMALL)
    assert "No space left on device" in one_error(result, 1) and "train/logs/tinypi0" in result.stderr
    (failed,) = runs_of(workplace)
    assert failed.info.status == "FAILED" and kept.read_text() == "an earlier run\n"
    (disk / "filler").unlink()
    again = run("train.train_pi0", "--resume", "latest")
    assert again.returncode == 0, again.stderr
    (finished,) = runs_of(workplace)
    assert finished.info.status == "FINISHED" and (disk / "logs" / f"{finished.data.tags['name']}.txt").exists()


@pytest.mark.usefixtures("with_store")
def test_the_model_does_not_fit_into_the_mirror(disk: Path, run: Run, workplace: Path) -> None:
    (workplace / "train").symlink_to(disk)
    result = run("train.train_pi0", "--epochs", 1, "--width", 64)
    assert ".pth: expected to write it, found: No space left on device" in one_error(result, 1)
    (failed,) = runs_of(workplace)
    assert failed.info.status == "FAILED" and not list((disk / "trained_models").iterdir())
    assert "failed: " in next((disk / "logs").glob("*.txt")).read_text()


@pytest.mark.usefixtures("with_store")
def test_a_read_only_mirror_is_refused_before_a_run_is_started(disk: Path, run: Run, workplace: Path) -> None:
    (workplace / "train").symlink_to(disk)
    read_only(disk)
    assert "train: expected a folder to write the run's files to" in one_error(run("train.train_pi0", *SMALL), 2)
    assert runs_of(workplace) == []


def test_the_store_is_full(disk: Path, run: Run, workplace: Path) -> None:
    (workplace / "mlruns").symlink_to(disk)
    result = run("train.train_pi0", *SMALL)  # MLflow's fresh database alone is larger than the disk
    assert "MLflow store" in one_error(result, 2) and not (disk / "mlflow.db").exists()
