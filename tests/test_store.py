"""The store: which runs are taken up, where its files lie, and what is said of one that cannot be used."""

import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from pipeline.cli.main import COMMANDS, main
from pipeline.cli.train import train_command
from pipeline.errors import SettingsError, StoreError
from pipeline.methods.settings import Pi0Settings
from pipeline.tracking.query import artifact
from pipeline.tracking.relocate import relocate
from pipeline.tracking.run import experiment_of, start_run
from pipeline.tracking.store import experiment_id, open_store
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


def trained(client: MlflowClient, experiment: str) -> str:
    """A run with a file."""
    run_id = str(client.create_run(experiment_id(client, experiment)).info.run_id)
    client.log_text(run_id, "kept", "file.txt")
    client.set_terminated(run_id)
    return run_id


def text_of(client: MlflowClient, run_id: str) -> str:
    with artifact(client, run_id, "file.txt") as path:
        return path.read_text()


@pytest.mark.usefixtures("with_store")
@pytest.mark.parametrize("way", ["copied", "moved"])
def test_a_store_at_another_place_is_told_so(
    way: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = workplace / "old place", workplace / "n\u00e4w?"
    old.mkdir()
    (workplace / "mlruns").rename(old / "mlruns")
    monkeypatch.chdir(old)
    client = open_store()
    run_id = trained(client, "mine")
    elsewhere = [(workplace / "big" / "artifacts" / "far").as_uri(), "s3://bucket/artifacts/x"]
    for number, location in enumerate(elsewhere):
        client.create_experiment(f"far {number}", artifact_location=location)
    (workplace / "big").mkdir()
    open_store()
    empty = experiment_id(client, "without a file")
    if way == "copied":
        shutil.copytree(old, new)
    else:
        old.rename(new)
    monkeypatch.chdir(new)
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match=r"it was moved or copied. .*: python -m pipeline relocate$"):
        open_store()
    assert main(COMMANDS, ["relocate"]) == 0
    assert "3 rewritten" in capsys.readouterr().out  # two experiments and a run
    client = open_store()
    assert text_of(client, run_id) == "kept"
    assert client.get_experiment(empty).artifact_location == (new / "mlruns" / "artifacts" / "without a file").as_uri()
    assert [client.get_experiment_by_name(f"far {number}").artifact_location for number in range(2)] == elsewhere
    assert text_of(client, trained(client, "mine")) == "kept"
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before
    assert main(COMMANDS, ["relocate"]) == 0
    assert "none had to be rewritten" in capsys.readouterr().out


@pytest.mark.usefixtures("with_store")
@pytest.mark.parametrize("beside", [True, False])
def test_artifacts_that_mlflow_placed_travel_too(
    beside: bool, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow puts them below the folder that it was started in: that of the database, or one above."""
    database = workplace / "old" / ("mlruns/mlflow.db" if beside else "mlflow.db")
    database.parent.mkdir(parents=True)
    (workplace / "mlruns" / "mlflow.db").rename(database)
    monkeypatch.chdir(workplace / "old")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    client = open_store()
    client.create_experiment("launched", artifact_location=f"{workplace}/old/mlruns/1")
    run_id = trained(client, "launched")
    open_store()
    monkeypatch.chdir(workplace)
    open_store()  # from another folder: nothing was moved
    (workplace / "old").rename(workplace / "new")
    copy = workplace / "new" / database.relative_to(workplace / "old")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{copy}")
    with pytest.raises(StoreError, match=f"relocate --store {copy}$"):
        open_store()
    relocate(copy)
    assert text_of(open_store(), run_id) == "kept"


def test_a_file_that_is_no_store_is_not_relocated(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.db").write_bytes(b"no database at all" * 100)
    for name in ("x.db", "nothing.db"):
        assert main(COMMANDS, ["relocate", "--store", name]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not Path("nothing.db").exists()
