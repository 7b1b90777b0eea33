"""What is said of a store that gives no answer: the line tells what is wrong with this one, and what helps."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from pipeline.cli.main import COMMANDS, main
from pipeline.errors import StoreError
from pipeline.tracking import delivery, query
from pipeline.tracking.places import strayed
from pipeline.tracking.store import advice, open_store
from tests.conftest import put_store

ADVICE = {
    "http://127.0.0.1:9": "Start the server, or correct or unset MLFLOW_TRACKING_URI.",
    "postgresql+psycopg://me@127.0.0.1:9/db": "Start the server, or correct or unset MLFLOW_TRACKING_URI.",
    "mssql+nothing://127.0.0.1:9/db": "Correct or unset MLFLOW_TRACKING_URI.",
    "postgresql+psycopg://127.0.0.1:port/db": "Correct or unset MLFLOW_TRACKING_URI.",
    "mysql+mysqlconnector://127.0.0.1:9/db": "Install the driver of that database, or correct or unset",
    "mlruns": "Correct or unset MLFLOW_TRACKING_URI.",
    "nonsense://x": "Correct or unset MLFLOW_TRACKING_URI.",
    "sqlite:///damaged.db": "Put back a backup of the file, or name another",
}


@pytest.mark.parametrize("uri", ADVICE)
def test_the_advice_fits_the_store(uri: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("damaged.db").write_bytes(b"no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(StoreError) as raised:
        open_store()
    assert str(raised.value).partition("... ")[2].startswith(ADVICE[uri])


def test_a_locked_store_is_waited_for(workplace: Path) -> None:
    put_store(workplace)
    with closing(sqlite3.connect("mlruns/mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError) as raised:
            sqlite3.connect("mlruns/mlflow.db", timeout=0).execute("SELECT * FROM runs")
    assert advice(raised.value) == "Wait for the process that writes to it, and try again."


def test_a_file_without_tables_is_not_astray(tmp_path: Path) -> None:
    """MLflow makes its own there: in an empty file, and beside those of another program."""
    database = tmp_path / "mlflow.db"
    database.touch()
    assert strayed(database) == {}
    with closing(sqlite3.connect(database)) as theirs, theirs:
        theirs.execute("CREATE TABLE theirs (x)")
    assert strayed(database) == {}


def test_a_registry_that_is_away_is_not_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    client = MlflowClient("http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"list its registered models, found: .* Start the server"):
        query.registered_models(client)
    with pytest.raises(StoreError, match=r"list its values of loss, found: .* Start the server"):
        query.history(client, "0" * 32, "loss")


@pytest.mark.usefixtures("with_store")
def test_info_tells_how_to_mend_a_moved_store(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = workplace / ("a long name " * 12)
    there.mkdir()
    open_store().create_experiment("mine", artifact_location=(workplace / "mlruns/artifacts/mine").as_uri())
    (workplace / "mlruns").rename(there / "mlruns")
    monkeypatch.chdir(there)
    assert main(COMMANDS, ["info"]) == 0
    assert "python -m pipeline relocate\n" in capsys.readouterr().out
