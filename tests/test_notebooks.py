"""The notebooks run from top to bottom; the third one on a real store."""

import json
import sys
from pathlib import Path

import nbformat
import pytest
from mlflow.tracking import MlflowClient
from nbclient import NotebookClient

from tests import warm
from tests.conftest import ROOT, Run, runs_of, store

NOTEBOOKS = ROOT / "notebooks"
FEWER = {
    "2_flow_matching_and_fast": {
        "epochs=8": "epochs=1",
        "epochs=5": "epochs=1",
        "trajectories=500": "trajectories=60",
        "split.test[:500]": "split.test[:60]",
    },
    "4_one_state_two_answers": {
        "epochs=8": "epochs=1",
        "epochs=4": "epochs=1",
        "epochs=3": "epochs=1",
        "trajectories=1500": "trajectories=60",
    },
}


def execute(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """Run a notebook, with fewer epochs, in `folder`; returns what it says, and how many pictures it shows."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(sys, "executable", warm.python())  # of its kernel
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # as kernels have it
    text = (NOTEBOOKS / f"{name}.ipynb").read_text()
    for shown, smaller in FEWER.get(name, {}).items():
        assert text.count(shown) == 1
        text = text.replace(shown, smaller)
    notebook = nbformat.reads(text, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = "".join(str(output.get("text", "")) + str(output.get("data", {})) for output in outputs)
    return texts, sum("image/png" in output.get("data", {}) for output in outputs)


def kept_outputs(name: str) -> list[dict]:
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
    return [output for cell in cells for output in cell.get("outputs", [])]


@pytest.mark.slow(seconds=12)
@pytest.mark.parametrize(
    ("name", "says", "pictures"),
    [
        ("1_data_and_demonstrator", "states (400, 100, 4), actions (400, 100, 1), gains (400, 6); refused: none", 7),
        ("2_flow_matching_and_fast", "scale 2, 12 for the 8 lowest frequencies", 9),
        ("4_one_state_two_answers", "mean (regression)       1.00          0.04         0.0          1.04", 6),
    ],
    ids=["data", "methods", "two answers"],
)
def test_teaching(name: str, says: str, pictures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They work on their own, write nothing, and are kept with as many pictures as they make."""
    texts, shown = execute(name, tmp_path, monkeypatch)
    assert says in texts and shown == pictures and not list(tmp_path.iterdir())
    assert sum("image/png" in output.get("data", {}) for output in kept_outputs(name)) == pictures
    assert not any(output["output_type"] == "error" for output in kept_outputs(name))


@pytest.mark.slow(seconds=8)
@pytest.mark.usefixtures("with_store")
def test_comparing_runs(run: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With three models by hand: one is not evaluated, and of the time before the tag `kind`."""
    small = ("--epochs", 1, "--width", 16, "--layers", 1)
    for module, seed in (("train_pi0", 0), ("train_pi0_fast", 0), ("train_pi0", 1)):
        assert run(f"train.{module}", *small, "--seed", seed).returncode == 0
    found = {(each.data.tags["method"], each.data.params["seed"]): each.info.run_id for each in runs_of(workplace)}
    old = found.pop(("pi0", "1"))
    assert run("pipeline", "evaluate", "--run", *found.values(), "--episodes", 2).returncode == 0
    client: MlflowClient = store(workplace)
    client.delete_tag(old, "kind")

    texts, pictures = execute("3_comparing_runs", workplace, monkeypatch)
    assert "3 finished models; other runs: {}" in texts
    assert "all runs - 2 episodes per condition, seed 0" in texts and "1 of 3 models have not been evaluated" in texts
    assert "pi0 minus pi0_fast: " in texts and "difference Difference(value=" in texts
    assert pictures == 3 and not kept_outputs("3_comparing_runs")
