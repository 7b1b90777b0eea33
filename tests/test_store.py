"""The store: which runs are taken up, where its files lie, and what is said of one that cannot be used."""

from pathlib import Path

import pytest

from pipeline.cli.main import main
from pipeline.cli.train import train_command
from pipeline.errors import SettingsError
from pipeline.methods.settings import Pi0Settings
from pipeline.tracking.run import experiment_of, start_run
from pipeline.tracking.store import open_store
from pipeline.tracking.study import open_study
from tests.conftest import store

TRAIN = train_command("pi0", Pi0Settings)
INHERITED = {
    "a deleted one": "deleted",
    "one that is FINISHED": "finished",
    "in use, with the tag 'weights_sha256'": "model",
    "in use, with the tag 'kind'": "study",
    "in use, with the tag 'journal'": "started",
    "not found": "unknown",
    "Invalid value": "../x",
}


def inherit(workplace: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> tuple[str, object]:
    """Set MLFLOW_RUN_ID as a shell would inherit it; the run's id, and the run as it was."""
    client = store(workplace)
    tags = {"model": {"weights_sha256": "0"}, "study": {"kind": "study"}, "started": {"journal": "here:/x"}}
    run_id = client.create_run("0", run_name="given", tags=tags.get(how)).info.run_id
    if how == "finished":
        client.set_terminated(run_id)
    if how == "deleted":
        client.delete_run(run_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", {"unknown": "0" * 32, "../x": "../x"}.get(how, run_id))
    return run_id, client.get_run(run_id).to_dictionary()


@pytest.mark.usefixtures("with_store")
@pytest.mark.parametrize(("found", "how"), INHERITED.items())
def test_an_inherited_run_is_refused(found: str, how: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_store()
    study = open_study(client, "mine", "Default")
    study.end("FINISHED")
    run_id, before = inherit(workplace, monkeypatch, how)
    for begin in (
        lambda: start_run(client, "Default", "new", chosen=True),
        lambda: experiment_of(client, "Default"),
        lambda: open_study(client, "mine", "Default"),
        lambda: open_study(client, "other", "Default"),
    ):
        with pytest.raises(SettingsError, match=f"^MLFLOW_RUN_ID: expected .* found .*{found}"):
            begin()
    assert client.get_run(run_id).to_dictionary() == before
    assert client.get_run(study.run_id).info.status == "FINISHED"


@pytest.mark.usefixtures("with_store")
def test_a_training_does_not_begin_in_an_inherited_run(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, before = inherit(workplace, monkeypatch, "finished")
    assert main(TRAIN, ["--seed", "5"]) == 2
    assert capsys.readouterr().err.startswith("error: MLFLOW_RUN_ID: expected")
    assert store(workplace).get_run(run_id).to_dictionary() == before
    assert len(store(workplace).search_runs(["0"])) == 1 and not list(Path("train").rglob("*.pth"))


@pytest.mark.usefixtures("with_store")
def test_a_run_that_was_started_for_us_is_taken_up(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id, _ = inherit(workplace, monkeypatch, "fresh")
    client = open_store()
    assert experiment_of(client, "other") == "Default"
    run = start_run(client, "other", "new", chosen=True)
    assert run.run_id == run_id and run.experiment == "Default"
    run.end("FINISHED")
