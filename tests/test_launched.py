"""Runs that `mlflow run` starts for `collect` and `tokenize`: counts and digests, in their own run only."""

from pathlib import Path

import pytest
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT

from pipeline.cli.main import COMMANDS, main
from pipeline.files import file_digest
from tests.conftest import store

COLLECT = ["collect", "--trajectories", "20", "--plots", "0", "--out", "new"]


def launch(workplace: Path, monkeypatch: pytest.MonkeyPatch, entry_point: str, status: str = "RUNNING") -> str:
    client = store(workplace)
    tags = {MLFLOW_PROJECT_ENTRY_POINT: entry_point}
    run_id = client.create_run("0", tags=tags).info.run_id
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    return run_id


@pytest.mark.usefixtures("with_store")
def test_counts_and_digests(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = launch(workplace, monkeypatch, "collect")
    assert main(COMMANDS, COLLECT) == 0
    data = store(workplace).get_run(run_id).data
    assert data.metrics["trajectories"] == 20 and data.metrics["training_pairs"] > 20
    for name in ("trajectories.npz", "training_pairs_original.npz"):
        assert data.tags[f"sha256.{name}"] == file_digest(workplace / "new" / name)

    run_id = launch(workplace, monkeypatch, "tokenize")
    pairs = "new/training_pairs_original.npz"
    words = ["tokenize", "--pairs", pairs, "--scheme", "bins", "--out", "new"]
    assert main(COMMANDS, words) == 0
    data = store(workplace).get_run(run_id).data
    assert data.metrics["tokens_mean"] > 0 and data.metrics["error_max"] > 0
    for name in ("bins_tokenizer.json", "training_pairs_bins.npz"):
        assert data.tags[f"sha256.{name}"] == file_digest(workplace / "new" / name)


@pytest.mark.usefixtures("with_store")
@pytest.mark.parametrize(("entry_point", "status"), [("train_pi0", "RUNNING"), ("collect", "FINISHED")])
def test_an_inherited_run_is_left_alone(
    entry_point: str, status: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = launch(workplace, monkeypatch, entry_point, status)
    assert main(COMMANDS, COLLECT) == 0
    data = store(workplace).get_run(run_id).data
    assert not data.metrics and not any(name.startswith("sha256.") for name in data.tags)


def test_a_store_that_does_not_answer_costs_a_warning(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    assert main(COMMANDS, COLLECT) == 0
    assert (workplace / "new" / "trajectories.npz").is_file()
    assert "not described there" in caplog.text
