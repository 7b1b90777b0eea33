"""What a result was made with: library versions and the state of the code."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

from pipeline.config import ROOT

RECORDED = ("torch", "numpy", "scipy", "mujoco", "gymnasium", "tokenizers", "mlflow", "matplotlib", "pydantic")


def installed_versions(*packages: str) -> dict[str, str]:
    """The versions of the named packages ("absent" where not installed)."""

    def find(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "absent"

    return {package: find(package) for package in packages}


def environment() -> dict[str, str]:
    """Python, platform and library versions of this process."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        **installed_versions(*RECORDED),
    }


def code_state() -> tuple[str, str]:
    """The git commit, and "clean" or "dirty"; ("unknown", "unknown") outside a git checkout."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), "dirty" if git("status", "--porcelain") else "clean"
    except (OSError, subprocess.SubprocessError):
        return "unknown", "unknown"
