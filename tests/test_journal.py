"""Journals: one owner, nothing half-written, nothing that a look at them leaves behind."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, TEMPORARILY_UNAVAILABLE
from mlflow.tracking import MlflowClient
from requests import HTTPError

from pipeline.errors import StoreError
from pipeline.methods.registry import METHODS
from pipeline.policies.checkpoint import Checkpoint, save_checkpoint
from pipeline.tracking.begin import start_run
from pipeline.tracking.journal import Journal, journal_of, left_journals, open_journal
from pipeline.tracking.query import search
from pipeline.tracking.run import TrackedRun
from pipeline.tracking.store import home, open_store
from pipeline.tracking.study import open_study
from pipeline.upkeep.doctor import doctor, remove_unfinished_files
from tests import warm
from tests.conftest import environment, files_of


def item(number: int) -> dict[str, object]:
    return {"what": "text", "values": {"name": "x", "text": str(number)}}


def test_an_outbox_survives_a_line_that_was_broken_off(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run")
    assert journal.make({"name": "x"}) and not journal.has_waiting
    journal.put(item(1))
    with (journal.folder / "outbox.jsonl").open("ab") as outbox:
        outbox.write(b'{"what": "te')
    journal.put(item(2))
    assert list(journal.waiting()) == [item(1), item(2)] and journal.count_waiting() == 2
    journal.delivered(1)
    assert list(journal.waiting()) == [item(2)]
    journal.delivered(1)
    assert not journal.has_waiting
    (journal.folder / "outbox.jsonl").write_bytes(b"")
    assert not journal.has_waiting  # a disk was full when the first line was begun


def test_files_that_wait_are_copies(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run")
    journal.make({})
    original = tmp_path / "log.txt"
    for text in ("first", "second", "third"):
        original.write_text(text)
        journal.put({"what": "file", "values": {"folder": None}, "path": str(original)})
        if text == "second":
            journal.delivered(1)
    original.unlink()
    assert [Path(each["path"]).read_text() for each in journal.waiting()] == ["second", "third"]
    assert {Path(each["path"]).name for each in journal.waiting()} == {"log.txt"}


OWN = """
import sys
from pathlib import Path
from pipeline.tracking.journal import Journal
sys.exit(0 if Journal(Path(sys.argv[1])).own(patience=0) else 3)
"""


def exit_code(folder: Path) -> int:
    """Of a process that tries to own a journal."""
    return warm.run(folder, ["-c", OWN, str(folder)], environment()).returncode


def test_a_journal_has_one_owner_and_a_look_leaves_nothing(workplace: Path) -> None:
    journal = open_journal("one", {"started": 1.0})
    assert exit_code(journal.folder) == 3
    journal.release()
    assert exit_code(journal.folder) == 0
    open_journal("two", {"started": 0.5}).release()
    assert [each.run_id for each in left_journals()] == ["two", "one"]
    assert journal.own()
    journal.remove()
    assert not journal.own() and not journal.folder.exists() and not journal_of("absent").own()
    assert not journal_of("absent").folder.exists()
    assert [each.run_id for each in left_journals()] == ["two"]


def test_a_journal_that_is_closed_to_us_does_not_hide_the_others(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("closed", "open")):
        open_journal(name, {"started": float(number)}).release()
    own = Journal.own

    def closed(journal: Journal, patience: float = 0) -> bool:
        if journal.run_id == "closed":
            raise PermissionError(13, "Permission denied", str(journal.folder))
        return own(journal, patience)

    monkeypatch.setattr(Journal, "own", closed)
    assert [each.run_id for each in left_journals()] == ["open"]


@pytest.mark.usefixtures("with_store")
def test_what_a_store_says_against_a_call_is_told(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a proxy before MLflow that takes no large files."""
    run = start(open_store(), "large")

    def refuse(*_: Any) -> None:
        raise HTTPError("413 Client Error: Request Entity Too Large")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifact", refuse)
        run.file(Path(__file__))
        assert run.end("FINISHED") == 2 and "413 Client Error" in run.obstacle
        (finding,) = doctor()
        assert finding.waiting == 2 and "2 calls still wait: 413 Client Error" in finding.done
    (finding,) = doctor()
    assert finding.waiting == 0 and "2 calls delivered" in finding.done


@pytest.mark.usefixtures("with_store")
def test_a_study_is_found_by_its_tags_though_the_store_was_away(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_batch, tries = MlflowClient.log_batch, []

    def away_once(*given: Any, **named: Any) -> None:
        tries.append(named)
        if len(tries) == 1:
            raise MlflowException("away", error_code=TEMPORARILY_UNAVAILABLE)
        log_batch(*given, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", away_once)
    run = open_study(open_store(), "first", "tinypi")
    assert [each.run_id for each in search(open_store(), {"study": "first"})] == [run.run_id] and len(tries) > 1
    run.end("FINISHED")

    def denied(*_: Any, **__: Any) -> None:
        raise MlflowException("not yours", error_code=PERMISSION_DENIED)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", denied)
        with pytest.raises(StoreError, match=r"second: expected MLflow to take the study's tags, found: .*not yours"):
            open_study(open_store(), "second", "tinypi")
    assert not search(open_store(), status="RUNNING") and not search(open_store(), {"study": "second"})


def test_doctor_leaves_alone_what_is_not_its_own(workplace: Path) -> None:
    kept = [home() / ".study-ensemble.lock", home() / ".mlflow.db.lock", workplace / "train/logs/.tinypi0_1_2.txt"]
    begun = [home() / ".part-abcdefgh.db", workplace / "train/reports/x/.part-abcdefgh.md"]
    for path in (*kept, *begun):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        os.utime(path, (0, 0))
    young = workplace / "train/logs/.part-12345678.txt"
    young.write_text("")
    growing, left = (home() / f".part-{name}" for name in ("growing", "left"))  # as of imports
    for folder in (growing, left):
        folder.mkdir()
        (folder / "states").write_text("1")
        os.utime(folder / "states", (0, 0))
        os.utime(folder, (0, 0))
    with (growing / "states").open("a") as file:
        file.write("2")
    os.utime(growing, (0, 0))
    assert remove_unfinished_files() == 3
    assert all(path.exists() for path in (*kept, young, growing))
    assert not any(path.exists() for path in (*begun, left))


def start(client: MlflowClient, name: str) -> TrackedRun:
    return start_run(client, "tinypi", name, chosen=True, about={"method": "pi0"})


@pytest.mark.usefixtures("with_store")
def test_doctor_goes_by_what_mlflow_says(workplace: Path) -> None:
    client = open_store()
    finished, deleted, dead, alive = (start(client, name) for name in ("finished", "deleted", "dead", "alive"))
    client.set_terminated(finished.run_id, "FINISHED")  # and then the process died
    client.delete_run(deleted.run_id)
    for run in (finished, deleted, dead):
        assert run.journal is not None
        run.journal.release()
    found = {finding.what.partition(" ")[0]: finding for finding in doctor()}
    assert set(found) == {"finished", "deleted", "dead"}
    status = {run.run_id: client.get_run(run.run_id).info.status for run in (finished, dead, alive)}
    assert list(status.values()) == ["FINISHED", "KILLED", "RUNNING"]
    assert not journal_of(finished.run_id).folder.exists() and not journal_of(deleted.run_id).folder.exists()
    alive.end("FINISHED")
    alive.end("KILLED")  # an interrupt that comes too late
    assert client.get_run(alive.run_id).info.status == "FINISHED"
    assert not journal_of(alive.run_id).folder.exists()


@pytest.mark.usefixtures("with_store")
def test_a_run_without_a_journal_has_lost_its_process(workplace: Path) -> None:
    client = open_store()
    run = start(client, "early")
    assert run.journal is not None
    run.journal.remove()
    elsewhere = start(client, "elsewhere")
    client.set_tag(elsewhere.run_id, "journal", "another host:/another/folder")
    assert elsewhere.journal is not None
    elsewhere.journal.remove()
    assert [finding.done for finding in doctor()] == ["ended as KILLED"]
    assert client.get_run(run.run_id).info.status == "KILLED"
    assert client.get_run(elsewhere.run_id).info.status == "RUNNING"


def test_a_model_written_twice_has_the_same_bytes(data: Path, tmp_path: Path) -> None:
    method = METHODS["pi0"]
    settings = method.settings_type(**files_of("pi0", data), width=8, layers=1, heads=1)
    interface = method.prepare(settings).interface
    weights = {name: tensor.clone() for name, tensor in method.build(settings, interface).state_dict().items()}
    provenance = {"name": "x", "versions": {"torch": "1"}, "method": "pi0"}
    one = Checkpoint(method, settings, interface, weights, provenance)
    again = json.loads(json.dumps(settings.model_dump(mode="json")))
    two = replace(
        one,
        settings=method.settings_type(**again),
        weights=dict(reversed(list(weights.items()))),
        provenance=json.loads(json.dumps(provenance)),
    )
    for number, checkpoint in enumerate((one, two)):
        save_checkpoint(tmp_path / f"{number}.pth", checkpoint)
    assert (tmp_path / "0.pth").read_bytes() == (tmp_path / "1.pth").read_bytes()


@pytest.mark.usefixtures("with_store")
@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_run_that_goes_on_is_running_again(workplace: Path, status: str) -> None:
    from pipeline.tracking.begin import resume_run

    client = open_store()
    run = start(client, "broken off")
    run.tags({"failure": "x"})
    run.end(status, resumable=True)
    for times in (1, 2):
        journal = journal_of(run.run_id)
        assert journal.own()
        resumed = resume_run(client, journal, in_study=False)
        stored = client.get_run(run.run_id)
        assert stored.info.status == "RUNNING" and stored.data.tags["resumed"] == str(times)
        assert "failure" not in stored.data.tags and "ended" not in journal.about()
        journal.release()  # as if the process had been killed
        assert "ended as KILLED" in doctor()[0].done
        assert client.get_run(run.run_id).info.status == "KILLED"
        assert resumed.journal is journal
