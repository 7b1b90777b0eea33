"""What CONTRIBUTING.md says of a new method, command and score is done to a copy of the project, and used."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import warm
from tests.conftest import ROOT, environment

TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def project(workplace: Path) -> Path:
    """A copy of the project with the page's changes made."""
    folder = workplace / "project"
    for name in ("pipeline", "train"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pth", "reports"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for code in blocks("python"):
        path = re.match(r"# (\S+)\n", code)
        assert path is not None
        (folder / path[1]).write_text(code.removeprefix(path[0]))
    for change in blocks("diff"):
        subprocess.run(["git", "apply", "-"], input=change, text=True, cwd=folder, check=True)
    return folder


@pytest.mark.slow(seconds=8)
@pytest.mark.usefixtures("with_store")
def test_a_new_method_command_and_score(project: Path, workplace: Path) -> None:
    (command,) = blocks("bash")
    command = command.replace("--n-models 2", "--n-models 1").replace(
        "--episodes 20", "--episodes 2 --layers 1 --executor serial"
    )

    def start(words: str) -> str:
        made = warm.run(workplace, shlex.split(words)[1:], environment(PYTHONPATH=str(project)))
        assert made.returncode == 0, made.stdout + made.stderr
        return made.stdout

    start(command)
    report = json.loads((workplace / "train" / "reports" / "mine" / "report.json").read_text())
    groups = {group["name"]: group for group in report["groups"]}
    assert {"linear", "pi0", "PID, closed loop"} <= groups.keys()
    for group in groups.values():  # every condition, and their mean
        assert len(group["scores"]["effort"]) == 10 and len(group["scores"]["success"]) == 10
    means = {name: group["scores"]["effort"][-1]["mean"] for name, group in groups.items()}
    assert means["zero action"] == 0 < means["PID, closed loop"] < 9
    (compared,) = report["differences"]
    assert {compared["first"], compared["second"]} == {"pi0", "linear"} and "effort" in compared["scores"]

    best = start(r"python -m pipeline best --study mine --method linear").strip()
    assert best in [model["run_id"] for model in groups["linear"]["models"]]

    (model,) = (workplace / "train" / "trained_models").glob("tinylinear_*.pth")
    acted = start(f"""python -c 'import pipeline; print(pipeline.load_policy("{model}").act([[0] * 4]).shape)'""")
    assert acted.strip() == "(1, 50, 1)"


def test_the_example_is_as_clean_as_the_house(project: Path) -> None:
    for words in (["check"], ["format", "--check"]):
        checked = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "."], cwd=project, capture_output=True, text=True
        )
        assert checked.returncode == 0, checked.stdout
