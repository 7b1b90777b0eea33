"""The store: which runs are taken up, where its files lie, and what is said of one that cannot be used."""

import errno
import fcntl
import json
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import UNAUTHENTICATED
from mlflow.tracking import MlflowClient

from pipeline import versions
from pipeline.cli.main import COMMANDS, main
from pipeline.cli.train import train_command
from pipeline.errors import SettingsError, StoreError, one_line
from pipeline.files import whole_file
from pipeline.methods.settings import Pi0Settings
from pipeline.tracking import begin as beginning
from pipeline.tracking import query
from pipeline.tracking.begin import experiment_of, start_run
from pipeline.tracking.delivery import patiently
from pipeline.tracking.journal import Journal
from pipeline.tracking.query import artifact
from pipeline.tracking.registry import CHAMPION, champion_of, named_version, numbered_version, set_alias, versions_of
from pipeline.tracking.relocate import relocate
from pipeline.tracking.store import AT_START, database_file, experiment_id, open_store, store_name, ui_command
from pipeline.tracking.study import describe_call, open_study
from tests.conftest import empty_store, environment, put_store, store

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


@pytest.mark.usefixtures("with_store")
def test_a_study_that_has_grown_says_so_beside_the_params_of_its_first_call(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlflow run` has written these, as text, before it started us."""
    run_id, _ = inherit(workplace, monkeypatch, "fresh")
    client = open_store()
    for name, value in {"n_models": "1", "margin": "0.010", "methods": "pi0", "set": "none", "epochs": "1"}.items():
        client.log_param(run_id, name, value)
    lasting = {"base_seed", "study"}

    def call(**changes: object) -> tuple[str, str]:
        values = {"study": "mine", "methods": "pi0", "set": ["epochs=1"], "n_models": 1, "margin": 0.01, "base_seed": 0}
        run = open_study(client, "mine", "Default")
        describe_call(run, values | changes, lasting)
        run.end("FINISHED")
        monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
        data = client.get_run(run_id).data
        assert run.run_id == run_id and (data.params["n_models"], data.params["base_seed"]) == ("1", "0")
        return data.tags["settings_used"], text_of(client, run_id, "settings.json")

    assert call()[0] == "none"
    used, settings = call(n_models=2, methods="pi0,regression")
    assert used == "methods=pi0,regression, n_models=2" and json.loads(settings)["n_models"] == 2
    assert call()[0] == "none"


@pytest.mark.usefixtures("with_store")
@pytest.mark.parametrize("is_ours", [True, False])
def test_the_commit_of_another_repository_is_not_told(
    is_ours: bool, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow looks for a repository in all the folders above the sources, also before it starts us."""
    if not is_ours:
        monkeypatch.setattr(versions, "ROOT", workplace)
    theirs = {
        "mlflow.source.git.commit": "0" * 40,
        "mlflow.source.git.repoURL": "git@example.org:x",
        "mlflow.user": "x",
    }
    monkeypatch.setattr(beginning, "resolve_tags", lambda: theirs)
    client = open_store()
    launched = client.create_run("0", tags=theirs).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", launched)
    for _ in range(2):
        run = start_run(client, "Default", "new", chosen=True)
        tags = client.get_run(run.run_id).data.tags
        assert (theirs if is_ours else {"mlflow.user": "x"}) == {name: tags[name] for name in theirs if name in tags}
        run.end("FINISHED")
        monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)


def trained(client: MlflowClient, experiment: str) -> str:
    """A run with a file."""
    run_id = str(client.create_run(experiment_id(client, experiment)).info.run_id)
    client.log_text(run_id, "kept", "file.txt")
    client.set_terminated(run_id)
    return run_id


def text_of(client: MlflowClient, run_id: str, file: str = "file.txt") -> str:
    with artifact(client, run_id, file) as path:
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


@pytest.mark.usefixtures("with_store")
def test_lists_are_read_to_their_end(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "PAGE", 2)
    client = store(workplace)
    client.create_experiment("first")
    start_run(open_store(), "first", "study", chosen=True).end("FINISHED")
    for number in range(5):
        home = client.create_experiment(f"later {number}")
        client.create_run(home, tags={"study": "s"})
        client.create_registered_model(f"model {number}")
        client.create_model_version("model 0", source="s3://bucket/x", run_id=None)
    assert len(found := query.search(client)) == 6 and found[0].name == "study"
    assert [run.name for run in query.search(client, experiment="first")] == ["study"] and not query.search(
        client, experiment="none"
    )
    assert len(query.search(client, {"study": "s"})) == 5
    assert len(query.search(client, status="RUNNING")) == 5 and not query.search(
        client, {"study": "t"}, status="RUNNING"
    )
    for name in ("o'brien", 'a "quoted" word', "50% = ?"):
        run = client.create_run("0", tags={"study": name}).info.run_id
        assert [each.run_id for each in query.search(client, {"study": name})] == [run]
        client.delete_run(run)
    assert len(query.registered_models(client)) == 5
    versions = versions_of(client, "model 0")
    assert [version.number for version in versions] == [1, 2, 3, 4, 5]
    for version in versions:
        assert numbered_version(client, "model 0", version.number) == version
    assert numbered_version(client, "model 0", 6) is numbered_version(client, "none", 1) is None
    assert champion_of(client, "model 0") is champion_of(client, "none") is None
    set_alias(client, CHAMPION, versions[2])
    assert champion_of(client, "model 0") == versions_of(client, "model 0")[2] != versions[2]
    for uri in (f"models:/model 0/{10**20}", "models:/model 0@none", "models:/o'brien@x", "models:/none/1"):
        with pytest.raises(SettingsError, match=f"^model: expected .*, found .*{uri}"):
            named_version(client, uri)
    with pytest.raises(SettingsError, match=r"found it in later 0, later 1, .*Name one with --experiment"):
        query.search_study(client, "s")
    assert len(query.search_study(client, "s", "later 3")) == 1
    client.delete_experiment(client.get_experiment_by_name("later 3").experiment_id)
    assert not query.search_study(client, "s", "later 3") and len(query.search(client, {"study": "s"})) == 4


def test_who_is_refused_is_not_asked_again() -> None:
    calls = []

    def refused() -> None:
        calls.append(1)
        raise MlflowException("You are not authenticated.", error_code=UNAUTHENTICATED)

    with pytest.raises(MlflowException, match="not authenticated"):
        patiently(refused)
    assert len(calls) == 1


@pytest.mark.usefixtures("with_store")
def test_a_deleted_run_is_not_used(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = store(workplace)
    tags = {"method": "pi0", "name": "x", "weights_sha256": "0", "kind": "model"}
    run_id = client.create_run("0", run_name="x", tags=tags).info.run_id
    client.log_param(run_id, "seed", 0)
    client.set_terminated(run_id)
    client.create_registered_model("pi0")
    client.create_model_version("pi0", source="s3://bucket/x", run_id=run_id)
    client.delete_run(run_id)
    promote = ["promote", "--model", "pi0", "--candidate"]
    for words in (["register", "--run", run_id], ["evaluate", "--run", run_id], ["reproduce", run_id],
                  [*promote, run_id], [*promote, "1"]):  # fmt: skip
        assert main(COMMANDS, words) == 2
        errors = capsys.readouterr().err
        assert "is deleted. Restore it in MLflow" in errors and errors.count("\n") == 1, words


@pytest.mark.parametrize("name", ["q?uestion", "sp ace", "\u00fcml\u00e4ut", "per%20cent", "ha#sh&"])
def test_folders_of_any_name_keep_their_store(name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / name).mkdir()
    put_store(workplace / name)
    monkeypatch.chdir(workplace / name)
    client = open_store()
    assert text_of(client, trained(client, "mine")) == "kept"
    assert database_file() == workplace / name / "mlruns" / "mlflow.db"
    assert {path.name for path in workplace.iterdir()} == {name, "data"}
    assert {path.name for path in Path("mlruns").iterdir()} == {"mlflow.db", ".mlflow.db.lock", "artifacts"}


def test_settings_of_sqlite_are_no_part_of_the_name(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_store(workplace)
    Path("mlruns/mlflow.db").rename("other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db?timeout=30")
    client = open_store()
    assert text_of(client, trained(client, "mine")) == "kept"
    assert database_file() == workplace / "other.db"
    assert {path.name for path in workplace.iterdir()} == {"other.db", ".other.db.lock", "data", "mlruns", "artifacts"}


@pytest.mark.parametrize("uri", ["sqlite:///:memory:", "sqlite://", "sqlite:///", "sqlite:///file::memory:?uri=true"])
def test_a_store_in_memory_is_refused(uri: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(StoreError, match="expected the path of a file"):
        open_store()
    assert [path.name for path in workplace.iterdir()] == ["data"]


SECRET = "s3cr@t/?x"
ADDRESSES = [
    f"postgresql+psycopg://me:{SECRET}@127.0.0.1:9/db",
    "postgresql+psycopg://me@127.0.0.1:9/db?password=s3cr%40t",
    f"http://me:{SECRET}@127.0.0.1:9",
    f"nonsense://me:{SECRET}@x",
]


@pytest.mark.parametrize("uri", ADDRESSES)
def test_passwords_are_not_printed(
    uri: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a store that is out of reach is reported in seconds."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    started = time.monotonic()
    assert main(COMMANDS, ["info", "--verbose"]) == 0
    assert main(COMMANDS, ["register", "--study", "x"]) == 2
    printed = capsys.readouterr()
    assert time.monotonic() - started < 20
    assert "MLflow store" in printed.err and uri.partition(":")[0] in printed.out
    shown = printed.out + printed.err + ui_command() + store_name()
    assert "s3cr" not in shown and "me:" not in shown
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@127.0.0.1:9")
    assert (
        one_line(ValueError(f"GET http://me:{SECRET}@127.0.0.1:9/api: {SECRET}")) == "GET http://127.0.0.1:9/api: ***"
    )


@pytest.mark.usefixtures("with_store")
def test_how_to_look_at_the_store(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ui_command() == f"mlflow ui --backend-store-uri sqlite:///{workplace}/mlruns/mlflow.db"
    Path("Makefile").touch()
    assert ui_command() == "make ui"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///a b.db")
    assert ui_command() == "mlflow ui --backend-store-uri 'sqlite:///a b.db'"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host:5000")
    assert ui_command() == "http://host:5000"


@pytest.mark.usefixtures("with_store")
def test_a_store_of_another_version_of_mlflow(workplace: Path) -> None:
    with closing(sqlite3.connect("mlruns/mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0'")
    with pytest.raises(StoreError, match=f"Back it up, then: mlflow db upgrade sqlite:///{workplace}/mlruns/mlflow.db"):
        open_store()


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0)
    os.umask(before)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_who_may_read_is_left_to_the_umask(mask: int, tmp_path: Path) -> None:
    os.umask(mask)
    with whole_file(tmp_path / "made") as temporary:
        temporary.write_text("x")
    with whole_file(tmp_path / "replaced") as temporary:
        handle, name = tempfile.mkstemp(dir=tmp_path)  # as libraries do: of mode 0600
        os.close(handle)
        Path(name).replace(temporary)
    journal = Journal(tmp_path / "run")
    journal.make({})
    journal.put({"what": "text", "values": {}})
    journal.release()
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask, path


@pytest.fixture
def as_another() -> Iterator[None]:
    """Be another user than root, whom no rights hold back; the folder is one that any user can pass through."""
    empty_store()  # which is in a folder of root's
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        Path(folder).chmod(0o777)
        patch.chdir(folder)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield
        finally:
            if root:
                os.seteuid(0)
            for path in (Path(folder), *Path(folder).rglob("*")):
                path.chmod(0o777)


@pytest.mark.usefixtures("as_another")
@pytest.mark.parametrize("closed", ["mlruns/mlflow.db", "mlruns", "mlruns/journals"])
def test_without_rights_to_write_the_answer_comes_at_once(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put_store(Path())
    run_id = trained(open_store(), "mine")
    Path("mlruns/journals").mkdir()
    Path(closed).chmod(0o444 if closed.endswith(".db") else 0o555)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd()}//mlruns/mlflow.db")  # MLflow keeps connections
    client = open_store()
    assert text_of(client, run_id) == "kept"
    started = time.monotonic()
    for experiment in ("mine", "new"):
        with pytest.raises(StoreError, match="Ask for the right to write"):
            start_run(client, experiment, "x", chosen=True)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_named(
    number: int, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_locks(_file: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    put_store(workplace)
    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert main(COMMANDS, ["doctor"]) == 2
    errors = capsys.readouterr().err
    assert (
        errors.count("\n") == 1 and f"{workplace}/mlruns/.mlflow.db.lock: expected a file system with locks" in errors
    )


@pytest.mark.usefixtures("with_store")
def test_a_user_without_a_home(workplace: Path) -> None:
    """And what reads results imports neither torch nor MuJoCo."""
    code = "import pwd, sys; pwd.getpwuid = lambda user: {}[user]; from pipeline.cli.main import *\n"
    code += "assert [main(COMMANDS, words.split()) for words in ('info', 'doctor', 'report')] == [0, 0, 2]\n"
    code += "assert not {'torch', 'mujoco'} & sys.modules.keys(), sorted(sys.modules)"
    env = {name: value for name, value in environment().items() if name not in ("HOME", "USER", "LOGNAME")}
    made = subprocess.run([sys.executable, "-c", code], cwd=workplace, env=env, capture_output=True, text=True)
    assert made.returncode == 0 and made.stderr.count("\n") == 1, made.stderr
    assert "expected a store with finished models" in made.stderr


def test_a_database_that_is_silent_is_not_waited_for(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv(
            "MLFLOW_TRACKING_URI", f"postgresql+psycopg://me:secret@127.0.0.1:{silent.getsockname()[1]}/x"
        )
        monkeypatch.setitem(AT_START, "PGCONNECT_TIMEOUT", "2")
        started = time.monotonic()
        with pytest.raises(StoreError, match="expected a tracking store that answers"):
            open_store()
        assert time.monotonic() - started < 6


HALF_WRITTEN = """
import os, signal, sqlite3, sys
store = sqlite3.connect(sys.argv[1])
store.execute("PRAGMA cache_size = 1")  # so that the transaction is in the file before it ends
store.execute("BEGIN")
store.execute("UPDATE experiments SET name = name || 'x'")
store.executemany("INSERT INTO experiment_tags VALUES ('k' || ?, ?, 0)", [(n, "x" * 1000) for n in range(2000)])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.usefixtures("with_store")
def test_what_a_killed_process_has_half_written_is_taken_back(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    database = workplace / "mlruns/mlflow.db"
    found = subprocess.run([sys.executable, "-c", HALF_WRITTEN, str(database)], check=False, capture_output=True)
    assert found.returncode == -9 and database.with_name("mlflow.db-journal").stat().st_size > 0, found.stderr
    assert [each.name for each in open_store().search_experiments()] == ["Default"]
    assert not database.with_name("mlflow.db-journal").exists()
