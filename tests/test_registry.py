"""The model registry on a real store, promotion of a champion, and a real `mlflow models serve` of it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run as MlflowRun
from numpy.testing import assert_allclose

import pipeline
from pipeline.cli.main import COMMANDS, main
from pipeline.cli.train import train_command
from pipeline.errors import StoreError
from pipeline.methods.settings import Pi0FastSettings, Pi0Settings
from pipeline.policies.remote import connect
from pipeline.registry.register import best_alias, best_of, register_runs
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tracking import registry
from pipeline.tracking.query import artifact, fetch
from pipeline.tracking.store import experiment_id, open_store
from tests import warm
from tests.conftest import ROOT, environment, put_store, runs_of, store

pytestmark = pytest.mark.xdist_group("registry")

SMALL = ("--width", "32", "--layers", "1", "--warmup", "20")
STATE = [0.1, 0.2, 0.0, 0.0]


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with runs of pi0: one hardly trained, one trained, the same again; and one of pi0-FAST."""
    folder = tmp_path_factory.mktemp("registry")
    (folder / "data").symlink_to(data)
    put_store(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        patch.chdir(folder)
        for name, epochs in (("weak", "1"), ("strong", "60"), ("again", "60")):
            words = [*SMALL, "--epochs", epochs, "--run-name", name]
            assert main(train_command("pi0", Pi0Settings), words) == 0
        words = [*SMALL, "--epochs", "1", "--run-name", "tokens"]
        assert main(train_command("pi0_fast", Pi0FastSettings), words) == 0
        yield folder


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder as the place to work in."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(trained)
    return trained


def named(folder: Path, name: str) -> MlflowRun:
    (found,) = [run for run in runs_of(folder) if run.info.run_name == name]
    return found


def run_id(folder: Path, name: str) -> str:
    return str(named(folder, name).info.run_id)


def champion(folder: Path) -> str | None:
    """The id of the run that the champion of pi0 is from."""
    found = registry.champion_of(open_store(), "pi0")
    return found.run_id if found else None


def promote(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    capsys.readouterr()
    assert main(COMMANDS, ["promote", "--max-episodes", "180", "--margin", "0.3", *map(str, words)]) == code
    found = capsys.readouterr()
    return found.out if code == 0 else found.err


def test_a_registered_model(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    weak, tokens = run_id(here, "weak"), run_id(here, "tokens")
    file = Path(
        named(here, "weak").info.artifact_uri.removeprefix("file://"), f"{named(here, 'weak').data.tags['name']}.pth"
    )
    aside = file.rename(file.with_suffix(".aside"))
    try:
        for _ in range(
            2
        ):  # its training has logged the model, so that no file is fetched; the second time all is there
            assert main(COMMANDS, ["register", "--run", weak, tokens]) == 0
    finally:
        aside.rename(file)
    said = capsys.readouterr()
    assert "pi0 version 1" in said.out and "pi0_fast version 1" in said.out and "Warning" not in said.err
    client = store(here)
    (version,) = client.search_model_versions(f"name = 'pi0' and run_id = '{weak}'")
    for heading in ("## Data", "## Training", "## How it was chosen", "## Scores", "## Limits"):
        assert heading in version.description
    assert (
        named(here, "weak").data.tags["data_sha256"] in version.description and "Not evaluated" in version.description
    )
    (logged,) = named(here, "weak").outputs.model_outputs
    assert version.source == f"models:/{logged.model_id}" and version.tags == {"kind": "model", "experiment": "tinypi"}

    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    place = Path(mlflow.artifacts.download_artifacts("models:/pi0/1"))
    files = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    assert not any(name.endswith((".pkl", ".pickle", ".pyc")) for name in files)
    assert {
        "served_model.py",
        "artifacts/model_card.md",
        "input_example.json",
        "code/pipeline/policies/load.py",
    } <= files
    about = mlflow.models.Model.load(str(place))
    assert about.signature.inputs is None
    assert about.metadata == {"state": ["x", "theta", "v", "omega"], "action": ["force"]}
    assert list(about.load_input_example(str(place)).columns) == about.metadata["state"]
    assert about.signature.outputs.to_dict()[0]["tensor-spec"] == {"dtype": "float32", "shape": (-1, 50, 1)}
    pins = (place / "requirements.txt").read_text().split()
    assert all("==" in pin for pin in pins) and any(pin.startswith("torch==") for pin in pins)


@pytest.mark.usefixtures("with_store")
def test_a_training_whose_model_cannot_be_logged_is_finished_and_register_makes_it_good(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = open_store().get_experiment(experiment_id(open_store(), "tinypi"))
    models = Path(experiment.artifact_location.removeprefix("file://"), "models")
    models.parent.mkdir(parents=True)
    models.write_text("in the way")
    words = ["--epochs", "1", "--width", "16", "--layers", "1"]
    assert main(train_command("pi0", Pi0Settings), words) == 0
    (run,) = runs_of(workplace)
    assert "warning: no logged model in MLflow: " in (said := capsys.readouterr().out)
    assert f"register --run {run.info.run_id}" in said and run.info.status == "FINISHED"
    models.unlink()
    assert main(COMMANDS, ["register", "--run", run.info.run_id]) == 0
    (logged,) = [model for model in open_store().search_logged_models(["1"]) if model.status == "READY"]
    assert {metric.key for metric in logged.metrics} >= {"best_val_loss", "check_converge"}


@pytest.mark.parametrize("others", [("a.b", "a_b"), ("a.b_c", "a_b.c"), ("a.b.c", "a_b_c")])
def test_studies_of_like_names_have_aliases_of_their_own(others: tuple[str, str]) -> None:
    first, second = map(best_alias, others)
    assert first != second and re.fullmatch(r"best-[\w-]+", first) and best_alias("plain_1") == "best-plain_1"


def test_a_study_of_the_same_name_in_another_experiment_has_an_alias_of_its_own() -> None:
    found = [best_alias("mine"), best_alias("mine", "first"), best_alias("mine", "second"), best_alias("a.b", "first")]
    assert len(set(found)) == 4 and all(re.fullmatch(r"best-[\w-]+", alias) for alias in found)


def test_the_best_of_two_studies_of_one_name_keep_their_aliases(here: Path) -> None:
    """The first has the plain alias, and keeps it; registered again, nothing changes."""
    client = open_store()
    one, other = fetch(client, run_id(here, "weak")), fetch(client, run_id(here, "strong"))
    elsewhere = client.create_experiment("elsewhere")
    ours = {name: value for name, value in other.tags.items() if not name.startswith("mlflow.")}
    moved = client.create_run(elsewhere, tags=ours | {"study": "same"}, run_name="moved").info.run_id
    for name, value in other.params.items():
        client.log_param(moved, name, value)
    for name, value in other.metrics.items():
        client.log_metric(moved, name, value)
    client.set_terminated(moved)
    file = f"{other.tags['name']}.pth"
    with artifact(client, other.run_id, file) as path:
        client.log_artifact(moved, str(path))
    client.set_tag(one.run_id, "study", "same")
    try:
        for _ in range(2):
            for run in (one.run_id, moved):
                (made,) = register_runs(client, [fetch(client, run)], print)
                assert made.best
        for alias, run in ((best_alias("same"), one.run_id), (best_alias("same", "elsewhere"), moved)):
            assert client.get_model_version_by_alias("pi0", alias).run_id == run
    finally:
        client.delete_tag(one.run_id, "study")
        client.delete_run(moved)


def test_a_registered_model_loads_without_the_project(here: Path, tmp_path: Path) -> None:
    """Only the model's own code is found: nothing of the project is on the path, and it is not installed there."""
    registry_name, policy = "pi0_fast", here / f"train/trained_models/{named(here, 'tokens').data.tags['name']}.pth"
    main(COMMANDS, ["register", "--run", run_id(here, "tokens")])
    code = (
        "import sys, json\n"
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        f"sys.path = [p for p in sys.path if p not in ('', {str(ROOT)!r})]\n"
        "import mlflow, numpy, pandas\n"
        f"model = mlflow.pyfunc.load_model('models:/{registry_name}/1')\n"
        f"state = numpy.array([{STATE}])\n"
        "print(json.dumps(model.predict(state).tolist()))\n"
        "named = pandas.DataFrame(state[:, ::-1], columns=['omega', 'v', 'theta', 'x'])\n"
        "others = [state.astype('f4'), named, named.astype('f4'), pandas.DataFrame(state)]\n"
        "assert all((model.predict(other) == model.predict(state)).all() for other in others)\n"
        "assert model.predict(state[:0]).shape == (0, 50, 1)\n"
        "import pipeline, torch\n"
        "print(pipeline.__file__, torch.get_num_threads())"
    )
    env = environment(MLFLOW_TRACKING_URI=f"sqlite:///{here}/mlruns/mlflow.db")
    del env["PYTHONPATH"]
    found = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 0, found.stderr
    actions, about = found.stdout.splitlines()
    assert str(ROOT) not in about and "/code/pipeline/" in about and about.endswith(" 1")
    assert_allclose(json.loads(actions), pipeline.load_policy(policy).act([STATE]), atol=1e-6)


@pytest.mark.slow
def test_promotion(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weak, strong, again = (run_id(here, name) for name in ("weak", "strong", "again"))
    said = promote(capsys, "--candidate", weak)  # nobody is champion, and this one falls
    assert "Not promoted: its success is 0.0" in said and "and a champion needs 0.5." in said and champion(here) is None
    said = promote(capsys, "--candidate", weak, "--max-episodes", 270)
    assert "decided before, by 20 episodes per condition: nothing was played" in said and champion(here) is None
    assert "Promoted: pi0 has no champion yet, and " in promote(capsys, "--candidate", strong)
    assert champion(here) == strong
    assert "is the champion already" in promote(capsys, "--candidate", strong)

    said = promote(capsys, "--candidate", again)  # equal weights: every episode ends alike
    assert "Not promoted: it is equivalent to pi0 version" in said and champion(here) == strong
    assert " within 0.3: the difference of calm is +0.0000 [-0.3000, 0.3000]." in said
    assert "19 paired episodes per condition" in said
    version = registry.version_of_run(open_store(), "pi0", again)
    assert version is not None and version.tags["promotion"].startswith("Not promoted")
    said = promote(capsys, "--candidate", version.number, "--max-episodes", 360, "--dry-run")
    assert "Would not be promoted" in said and "Nothing was changed" in said
    said = promote(capsys, "--candidate", version.number, "--max-episodes", 360)
    assert "it is equivalent to" in said and "nothing was played" in said and "paired" not in said

    registry.set_alias(open_store(), registry.CHAMPION, registry.version_of_run(open_store(), "pi0", weak))
    said = promote(capsys, "--candidate", strong, "--max-episodes", 900)
    assert "it is better than pi0 version" in said and "models:/pi0@champion" in said and champion(here) == strong


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--candidate", "99"), "expected a version of pi0, found none with the number 99"),
        (("--candidate", "0" * 32), "expected a run of this store"),
        (("--study", "none-such"), "found none called 'none-such'"),
        (("--task", "avoiding"), "pi0 models of the task avoiding, found none called 'ensemble'"),
        (("--candidate", "average"), "expected one with an average of pi0 models"),
        (("--model", "pi9"), "model: expected one of pi0, pi0_fast"),
        (("--max-episodes", "1"), "max_episodes: expected 9 or more"),
        (("--margin", "1"), "margin: expected a number below 1"),
    ],
)
def test_bad_candidates(here: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str) -> None:
    before = champion(here)
    assert message in promote(capsys, *words, code=2) and champion(here) == before


def test_a_candidate_of_another_method(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "found one of pi0_fast" in promote(capsys, "--candidate", run_id(here, "tokens"), code=2)


def test_foreign_versions_are_refused(here: Path, tmp_path: Path) -> None:
    """What somebody else registered under our name is no model of ours."""
    client = open_store()
    if not registry.versions_of(client, "foreign"):
        client.create_registered_model("foreign")
        client.create_model_version("foreign", str(tmp_path), None)
    (version,) = registry.versions_of(client, "foreign")
    with pytest.raises(StoreError, match="foreign version 1"), registry.model_file(client, version):
        pass


def test_versions_that_are_no_models_of_ours_are_no_candidates(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = open_store()
    if not registry.versions_of(client, "regression"):
        client.create_registered_model("regression")
        other = client.create_run("0", run_name="by hand").info.run_id
        client.set_terminated(other)
        for run in (None, other):
            client.create_model_version("regression", str(tmp_path), run)
    words = ("--model", "regression", "--dry-run", "--candidate")
    assert "found regression version 1 without one" in promote(capsys, *words, 1, code=2)
    assert "expected a finished training run, found 'by hand'" in promote(capsys, *words, 2, code=2)


def test_models_without_a_first_check_are_registered_though_none_is_the_best(here: Path) -> None:
    """As those of early versions are."""
    client = open_store()
    run = fetch(client, run_id(here, "weak"))
    client.set_tag(run.run_id, "study", "early")
    try:
        early = replace(fetch(client, run.run_id), metrics={})
        assert best_of(client, PENDULUM, "none-such", "pi0") is None
        (made,) = register_runs(client, [replace(early, tags=early.tags | {"study": "none-such"})], print)
        assert made.version.run_id == run.run_id and not made.best
    finally:
        client.delete_tag(run.run_id, "study")


def test_a_study_that_is_not_there_is_called_a_study(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["register", "--study", "none-such"], ["evaluate", "--study", "none-such"]):
        assert main(COMMANDS, words) == 2
        assert capsys.readouterr().err.startswith("error: study: expected one with finished models, found none called")


@pytest.fixture(scope="module")
def served(trained: Path) -> Iterator[str]:
    """The address of a real server of the champion."""
    client = open_store()
    if registry.champion_of(client, "pi0") is None:
        words = ["--candidate", run_id(trained, "strong"), "--max-episodes", "180"]
        assert main(COMMANDS, ["promote", *words]) == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"sqlite:///{trained}/mlruns/mlflow.db"
    server = subprocess.Popen(
        [
            warm.python(), "-m", "mlflow", "models", "serve", "-m", "models:/pi0@champion",
            "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port),
        ],
        env=environment(MLFLOW_TRACKING_URI=uri, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"),
        cwd=trained, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < end, "the server did not start"
                time.sleep(0.3)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def ask(address: str, body: bytes) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.parametrize("count", [1, 3])
def test_a_server_answers_states_with_chunks(served: str, here: Path, count: int) -> None:
    found = registry.champion_of(open_store(), "pi0")
    assert found is not None
    with registry.model_file(open_store(), found) as path:
        policy = pipeline.load_policy(path)
    states = np.random.default_rng(0).uniform(-0.3, 0.3, (count, 4)).round(3)
    status, answer = ask(served, json.dumps({"inputs": states.tolist()}).encode())
    assert status == 200 and set(answer) == {"predictions"}
    assert_allclose(np.array(answer["predictions"]), policy.act(states), atol=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": [{"omega": 0, "v": 0, "theta": 0.2, "x": 0.1}]},
        {"dataframe_split": {"columns": ["theta", "x", "omega", "v"], "data": [[0.2, 0.1, 0, 0]]}},
        {"dataframe_split": {"data": [STATE]}},
        {"inputs": {"omega": [0], "v": [0], "theta": [0.2], "x": [0.1]}},
        {"instances": [{"omega": 0, "v": 0, "theta": 0.2, "x": 0.1}]},
        {"instances": [STATE]},
    ],
)
def test_a_server_takes_columns_by_name(served: str, body: dict[str, Any]) -> None:
    assert ask(served, json.dumps(body).encode()) == ask(served, json.dumps({"inputs": [STATE]}).encode())


def test_a_remote_policy_plans_no_states_as_all_do(served: str) -> None:
    assert connect(served, 4, 1).act(np.zeros((0, 4))).shape == (0, 50, 1)


def test_the_pendulum_is_played_through_a_server_as_with_the_model_itself(
    served: str, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = registry.champion_of(open_store(), "pi0")
    assert found is not None
    said = []
    with registry.model_file(open_store(), found) as path:
        for source in (["--policy", served], ["--checkpoint", str(path)]):
            assert main(COMMANDS, ["play", *source, "--lockstep", "--out", str(tmp_path / "episode.gif")]) == 0
            assert (tmp_path / "episode.gif").read_bytes().startswith(b"GIF8")
            said.append([line for line in capsys.readouterr().out.splitlines() if line.startswith(("pend", "plans"))])
    assert said[0] == said[1] and len(said[0]) == 2
    assert main(COMMANDS, ["play", "--policy", served, "--out", "none"]) == 0
    assert "late" in capsys.readouterr().out  # by the clock


def test_a_run_its_versions_and_its_server_are_one_policy_in_a_comparison(
    served: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = registry.champion_of(open_store(), "pi0")
    assert found is not None
    means = []
    for place in (found.run_id, found.uri, "models:/pi0@champion", served):
        capsys.readouterr()
        words = ["compare", place, "models:/pi0@champion", "--max-episodes", "18", "--json"]
        assert main(COMMANDS, words) == 11
        said = json.loads(capsys.readouterr().out)
        assert said["a"].split(", ")[0] == place and said["episodes"] == 18
        assert_allclose(said["difference"], 0, atol=0.01)  # an answer's rounding may move an episode
        means.append([each["a"] for each in said["conditions"]])
    assert means[0] == means[1] == means[2] != means[3]  # a server's episodes are named after its address


def test_a_server_is_evaluated_as_its_model_file(
    served: str, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = registry.champion_of(open_store(), "pi0")
    assert found is not None
    table = str(tmp_path / "episodes.parquet")
    with registry.model_file(open_store(), found) as path:
        words = ["evaluate", str(path), "--policy", served, "--episodes", "2", "--executor", "serial"]
        assert main(COMMANDS, [*words, "--json"]) == main(COMMANDS, [*words, "--out", table]) == 0
    values = json.loads(capsys.readouterr().out.splitlines()[0])
    file, server = values["models"]
    assert server["name"] == served and server["method"] == "foreign" and "no_plan" not in server
    for ours, theirs in zip(file["conditions"], server["conditions"], strict=True):
        assert not any(theirs["episodes"]["no_plan"])
        assert theirs["scores"]["calm"] == pytest.approx(ours["scores"]["calm"], abs=0.1)  # of an answer: rounded
    rows = pd.read_parquet(table)
    assert sorted(rows["method"].unique()) == sorted([served, "pi0"]) and len(rows) == 2 * 9 * 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"inputs": [[0.1, 0.2, 0]]}', "expected finite states of shape (B, 4), found shape (1, 3)"),
        ('{"inputs": [0.1, 0.2, 0, 0]}', "expected finite states of shape (B, 4), found shape (4,)"),
        ('{"inputs": []}', "expected finite states of shape (B, 4), found shape (0,)"),
        ('{"inputs": [[0.1, 0.2, 0, 0], [1]]}', "inhomogeneous"),
        ('{"inputs": [[NaN, 0, 0, 0]]}', "with NaN or infinity"),
        ('{"inputs": [[null, 0, 0, 0]]}', "with NaN or infinity"),
        ('{"inputs": [[1e400, 0, 0, 0]]}', "with NaN or infinity"),
        ('{"inputs": [[1e39, 0, 0, 0]]}', "with NaN or infinity"),
        ('{"inputs": [[1e30, 0, 0, 0]]}', "expected states of numbers up to 1e+18, found 1e+30"),
        ('{"inputs": [["a", 0, 0, 0]]}', "expected numbers as states"),
        ('{"inputs": {"state": [1]}}', "expected the columns x, theta, v, omega, in any order; found state"),
        ('{"dataframe_records": [{"a": 0, "b": 0, "c": 0, "d": 0}]}', "expected the columns x, theta, v, omega"),
        ('{"dataframe_records": [{"x": 0, "theta": 0, "v": 0}]}', "expected the columns x, theta, v, omega"),
        ('{"dataframe_split": {"columns": ["x", "x", "v", "theta"], "data": [[0, 0, 0, 0]]}}', "expected the columns"),
        ('{"dataframe_records": [{"x": 0, "theta": 0, "v": 0, "omega": null}]}', "with NaN or infinity"),
        ('{"states": [[0, 0, 0, 0]]}', "exactly one of the input fields"),
        ("[1, 2]", "must be a JSON dictionary"),
        ("not json", "valid JSON"),
        ('{"inputs": [' + "[0, 0, 0, 0], " * 10_000 + "[0, 0, 0, 0]]}", "at most 10,000 states in a request"),
    ],
)
def test_bad_requests_are_answered_400_with_the_reason(served: str, body: str, reason: str) -> None:
    status, answer = ask(served, body.encode())
    assert status == 400 and reason in answer["message"]
    assert ask(served, json.dumps({"inputs": [STATE]}).encode())[0] == 200  # and the server goes on
