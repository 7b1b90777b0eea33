"""Small real data, made once a session, and a way to run our commands as a user does."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import CollectSettings, TokenizeSettings
from pipeline.workflows.collect import collect
from pipeline.workflows.tokenize import tokenize

ROOT = Path(__file__).resolve().parent.parent
SMALL_TRAJECTORIES = 60

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `data` folder with 60 real demonstrations and their tokens; not to be written to."""
    folder = tmp_path_factory.mktemp("made") / "data"
    collect(CollectSettings(trajectories=SMALL_TRAJECTORIES, out=folder))
    tokenize(TokenizeSettings(pairs=folder / "training_pairs_original.npz", out=folder))
    return folder


@pytest.fixture
def workplace(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with `data` linked to the small data, and no MLflow settings from outside."""
    (tmp_path / "data").symlink_to(data)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(workplace: Path) -> Run:
    """Run `python -m WORDS...` in the workplace: `run("train.train_pi0", "--epochs", 1)`."""

    def call(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *map(str, words)],
            cwd=workplace,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return call
