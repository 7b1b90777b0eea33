"""The notebooks run from top to bottom on a real store."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT, Run, runs_of


@pytest.mark.slow
def test_compare_runs(run: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two models by hand, one of them evaluated, and a note about the other."""
    small = ("--epochs", 1, "--width", 16, "--layers", 1)
    for module, seed in (("train_pi0", 0), ("train_pi0_fast", 0)):
        assert run(f"train.{module}", *small, "--seed", seed).returncode == 0
    evaluated = next(found for found in runs_of(workplace) if found.data.tags["method"] == "pi0")
    assert run("pipeline", "evaluate", "--run", evaluated.info.run_id, "--episodes", 2).returncode == 0

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "notebooks" / "compare_runs.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(workplace)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = "".join(str(output.get("text", "")) + str(output.get("data", {})) for output in outputs)
    assert "all runs - 2 episodes a condition, seed 0" in texts and "1 of 2 models have not been evaluated" in texts
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
