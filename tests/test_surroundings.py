"""What stands around the project does not reach into its records."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import versions
from pipeline.executors.pool import cores
from tests.conftest import ROOT


def git(*words: str, folder: Path) -> str:
    made = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return made.stdout.strip()


def test_the_commit_of_another_repository_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git("init", "-q", folder=tmp_path)
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    git(*author, "commit", "-q", "--allow-empty", "-m", "theirs", folder=tmp_path)
    theirs = git("rev-parse", "HEAD", folder=tmp_path)
    here = versions.code_state()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    assert versions.code_state() == here and theirs not in here
    monkeypatch.delenv("GIT_DIR")
    sources = tmp_path / "sources"
    sources.mkdir()
    monkeypatch.setattr(versions, "ROOT", sources)
    assert versions.code_state() == ("unknown", "unknown")


def test_what_a_plain_mlflow_run_leaves_is_ignored() -> None:
    for name in ("journals/x", ".study-mine.lock", "mlflow.db"):
        assert git("check-ignore", "--no-index", name, folder=ROOT) == name


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
def test_only_the_cores_that_are_ours_count() -> None:
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    code += "from pipeline.executors.pool import cores; print(cores())"
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "1" <= str(cores())
