"""Library versions and the state of the code, to record with results."""

import json
import os
import platform
import subprocess
import sys
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

from pipeline.config import ROOT

COMMIT_FILE = ".commit.json"  # beside code that was copied out of its checkout
UNKNOWN = "unknown"  # of the code's commit and state
RECORDED = ("torch", "numpy", "scipy", "mujoco", "gymnasium", "tokenizers", "mlflow", "matplotlib", "pydantic")


def installed_versions(*packages: str) -> dict[str, str]:
    """Return the versions of the named packages ("absent" if not installed)."""

    def find(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "absent"

    return {package: find(package) for package in packages}


def environment() -> dict[str, str]:
    """Return Python, platform and library versions of this process."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        **installed_versions(*RECORDED),
    }


def lock(data: dict[str, str]) -> dict[str, Any]:
    """Return all that may affect the bits of a training: command, code, data digests, every package, processor."""
    commit, tree = code_state()
    return {
        "command": [sys.executable.rpartition("/")[2], *sys.argv],
        "code": {"sha256": code_digest(), "commit": commit, "tree": tree},
        "data": data,
        "versions": environment(),
        "processor": processor(),
        "packages": _packages(),
    }


@cache
def _packages() -> dict[str, str]:
    """Every installed package and its version: read once in a process, because it takes tenths of a second."""
    abouts = [found.metadata for found in distributions()]
    return dict(sorted((about["Name"] or "", about["Version"]) for about in abouts))


def code_digest() -> str:
    """Return the sha256 over names and bytes of our code, independent of its folder."""
    digest = sha256()
    for path in sorted([*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("pipeline/**/*.xml"), *ROOT.glob("train/*.py")]):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def processor() -> str:
    """Return the processor's name, if the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def code_state() -> tuple[str, str]:
    """Return the git commit, and "clean" or "dirty"; ("unknown", "unknown") outside a git checkout."""
    if (ROOT / COMMIT_FILE).is_file():
        commit, tree = json.loads((ROOT / COMMIT_FILE).read_text(encoding="utf-8"))
        return str(commit), str(tree)

    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # of another repository

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:  # our sources inside another repository
            return UNKNOWN, UNKNOWN
        return git("rev-parse", "HEAD"), "dirty" if git("status", "--porcelain") else "clean"
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN, UNKNOWN
