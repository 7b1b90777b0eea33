"""A study with real processes and a real store: what it leaves, that it repeats, and what survives a death."""

import contextlib
import csv
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from mlflow.entities import Run as MlflowRun

import pipeline
from pipeline.cli.main import COMMANDS, main
from pipeline.config import make
from pipeline.evaluation.stored import read_episodes
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import Pi0FastSettings, Pi0Settings, TrainSettings
from pipeline.studies.groups import plan_groups
from pipeline.studies.publish import holds_report_of
from pipeline.studies.settings import EnsembleSettings
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tracking.query import artifact
from tests import warm
from tests.conftest import TINY, Run, environment, runs_of, store

pytestmark = pytest.mark.slow(seconds=1)
shares_the_study = pytest.mark.xdist_group("study")  # made once, by the process that runs these

TINY_WORDS = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
FIGURES = {"verdicts.png", "scores.png", "losses.png", "converge_steps.png", "plans.png", "fast_tradeoff.png"}
TEXTS = {"report.md", "report.json", "report.csv"}
YARDSTICKS = {"PID, closed loop", "PID, planned", "LQR, planned", "zero action"}


def command(folder: Path, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`python -m WORDS...` in the folder of a study."""
    result = warm.run(folder, ["-m", *map(str, words)], environment())
    assert not check or result.returncode == 0, result.stderr
    return result


def of_kind(folder: Path, kind: str) -> list[MlflowRun]:
    found = [run for run in runs_of(folder) if run.data.tags.get("kind") == kind]
    return sorted(found, key=lambda run: run.info.start_time)


@shares_the_study
def test_runs_of_a_study(study: Path) -> None:
    (parent,) = of_kind(study, "study")
    methods = {run.data.tags["group"]: run for run in of_kind(study, "group")}
    models = of_kind(study, "model")
    assert {run.info.status for run in runs_of(study)} == {"FINISHED"}
    assert parent.info.run_name == "ensemble" and parent.data.metrics["pi0/models"] == 2
    assert parent.data.metrics["pi0/success"] == methods["pi0"].data.metrics["success_mean"]
    assert "**Study ensemble**" in parent.data.tags["mlflow.note.content"]
    assert parent.data.tags["settings_used"] == "none" and parent.data.params["n_models"] == "2"
    assert {run.data.tags["mlflow.parentRunId"] for run in methods.values()} == {parent.info.run_id}
    assert sorted((run.data.tags["method"], run.data.params["seed"]) for run in models) == [
        ("pi0", "0"), ("pi0", "1"), ("pi0_fast", "0"), ("pi0_fast", "1"),
    ]  # fmt: skip
    for run in models:
        assert run.data.tags["mlflow.parentRunId"] == methods[run.data.tags["method"]].info.run_id
        assert run.data.tags["evaluation"] == f"3 episodes per condition, seed {parent.data.tags['design.seed']}"
        assert {"success/mean", "converge/mean", "chunk_mae", "best_val_loss"} <= set(run.data.metrics)
        assert len(run.data.metrics) < 40
        mirrored = study / "project/train/trained_models" / f"{run.data.tags['name']}.pth"
        assert mirrored.exists()
    assert {run.info.run_name for run in of_kind(study, "yardstick")} == YARDSTICKS
    averages = of_kind(study, "average")
    assert sorted(run.info.run_name for run in averages) == ["pi0 average of 2", "pi0_fast average of 2"]
    for run in averages:
        assert run.data.tags["mlflow.parentRunId"] == methods[run.data.tags["method"]].info.run_id
        assert run.data.tags["evaluation"] == f"3 episodes per condition, seed {parent.data.tags['design.seed']}"
    success = [run.data.metrics["success/mean"] for run in models if run.data.tags["method"] == "pi0"]
    assert methods["pi0"].data.metrics["success_mean"] == pytest.approx(sum(success) / 2)
    assert "success_std" in methods["pi0_fast"].data.metrics


@shares_the_study
def test_what_a_study_leaves(study: Path, tmp_path: Path) -> None:
    (parent,) = of_kind(study, "study")
    mirror = study / "project/train/reports/ensemble"
    assert {path.name for path in mirror.iterdir()} == FIGURES | TEXTS
    client = store(study)
    assert {Path(item.path).name for item in client.list_artifacts(parent.info.run_id, "report")} == FIGURES | TEXTS
    for name in FIGURES | TEXTS:
        stored = Path(client.download_artifacts(parent.info.run_id, f"report/{name}"))
        assert stored.read_bytes() == (mirror / name).read_bytes()
    assert holds_report_of(client, parent.info.run_id, mirror)
    (tmp_path / "report.json").write_text("of a study of the same name in another experiment")
    assert not holds_report_of(client, parent.info.run_id, tmp_path)
    assert not holds_report_of(client, parent.info.run_id, tmp_path / "nothing")
    assert sorted(run.info.run_name for run in of_kind(study, "model")) == [
        "pi0 seed 0", "pi0 seed 1", "pi0_fast seed 0", "pi0_fast seed 1"
    ]  # fmt: skip
    model = of_kind(study, "model")[0]
    episodes = Path(client.download_artifacts(model.info.run_id, "evaluation/episodes.csv"))
    rows = list(csv.DictReader(episodes.open()))
    assert len(rows) == 27 and {"action_noise", "replan", "episode", "success", "converge_step"} <= set(rows[0])
    share = sum(row["success"] == "1" for row in rows) / 27
    assert model.data.metrics["success/mean"] == pytest.approx(share)


@shares_the_study
def test_the_average_is_a_policy_and_all_models_are_registered(study: Path, tmp_path: Path) -> None:
    client = store(study)
    (average,) = [run for run in of_kind(study, "average") if run.data.tags["method"] == "pi0"]
    members = [run for run in of_kind(study, "model") if run.data.tags["method"] == "pi0"]
    file = client.download_artifacts(average.info.run_id, f"{average.data.tags['name']}.pth", str(tmp_path))
    paths = [study / "project/train/trained_models" / f"{run.data.tags['name']}.pth" for run in members]
    states = [[0.1, 0.2, 0.0, 0.0], [0.0, -0.1, 0.3, 0.0]]
    plans = [pipeline.load_policy(path).act(states) for path in paths]
    np.testing.assert_allclose(pipeline.load_policy(file).act(states), np.mean(plans, axis=0), atol=1e-6)
    versions = client.search_model_versions("name = 'pi0'")
    assert {version.run_id for version in versions} == {run.info.run_id for run in [*members, average]}
    best = client.get_model_version_by_alias("pi0", "best-ensemble")
    check = {run.info.run_id: run.data.metrics["check_converge"] for run in members}
    assert check[best.run_id] == max(check.values()) and "The best of its method" in best.description
    assert "the test" not in best.description and "not the episodes reported below" in best.description


@shares_the_study
@pytest.mark.usefixtures("with_store")
@pytest.mark.parametrize("method", ["pi0", "pi0_fast"])
def test_members_are_the_models_that_train_alone(study: Path, run: Run, workplace: Path, method: str) -> None:
    result = run(f"train.train_{method}", *TINY_WORDS[:-2], "--seed", 1)
    assert result.returncode == 0, result.stderr
    (alone,) = runs_of(workplace)
    (member,) = [
        run for run in of_kind(study, "model")
        if (run.data.tags["method"], run.data.params["seed"]) == (method, "1")
    ]  # fmt: skip
    assert alone.data.tags["weights_sha256"] == member.data.tags["weights_sha256"]
    assert alone.data.metrics["best_val_loss"] == member.data.metrics["best_val_loss"]


@shares_the_study
def test_report_formats(study: Path) -> None:
    before = sorted(study.rglob("*"))
    text = command(study, "pipeline", "report", "--study", "ensemble").stdout
    assert "Undecided between pi0 and pi0_fast in calm: 0.000 against 0.000" in text
    assert [path for path in sorted(study.rglob("*")) if path not in before and "mlruns" not in path.parts] == []
    written = command(study, "pipeline", "report", "--study", "ensemble", "--out", "here").stdout
    assert "here/scores.png" in written and (study / "here/scores.png").stat().st_size > 10_000
    values = json.loads(command(study, "pipeline", "report", "--json").stdout)  # all runs of the store
    assert [group["name"] for group in values["groups"][:2]] == ["pi0", "pi0_fast"]
    assert [group["kind"] for group in values["groups"]] == ["model"] * 2 + ["average"] * 2 + ["yardstick"] * 4
    assert [len(group["models"]) for group in values["groups"]] == [2, 2] + [1] * 6  # the average is no third member
    assert values["evaluation"].startswith("3 episodes per condition, seed ")
    rows = list(csv.DictReader(io.StringIO(command(study, "pipeline", "report", "--csv").stdout)))
    assert {row["number"] for row in rows} >= {"success", "tokens_per_plan", "train_seconds"}
    assert command(study, "pipeline", "report", "--markdown").stdout.startswith("Comparison of all runs.")


@shares_the_study
def test_evaluate_files_runs_and_studies(study: Path) -> None:
    """The scores of a model are the same, whoever asks for them and beside whom."""
    model = of_kind(study, "model")[0]
    files = sorted((study / "project/train/trained_models").glob("*.pth"))
    seed = of_kind(study, "study")[0].data.tags["design.seed"]
    by_study = json.loads(command(study, "pipeline", "evaluate", "--study", "ensemble", "--json").stdout)
    assert str(by_study["seed"]) == seed and by_study["episodes"] == 3, "those of the study"
    words = ("--episodes", 3, "--seed", seed, "--json")
    found = command(study, "pipeline", "evaluate", *files, *words, "--executor", "serial")
    assert ": done in" in found.stderr and found.stdout.count("\n") == 1
    models = json.loads(found.stdout)["models"]
    assert [entry["name"] for entry in models] == [path.stem for path in files]
    mine = next(entry for entry in models if entry["name"] == model.data.tags["name"])
    with artifact(store(study), model.info.run_id, "evaluation/episodes.csv") as path:
        stored = read_episodes(path, 3, PENDULUM)
    for number, condition in enumerate(mine["conditions"]):
        assert {name: by[number].tolist() for name, by in stored.items()} == condition["episodes"]
        assert {name: by[number].mean() for name, by in stored.items()} == condition["scores"]
    assert len(mine["conditions"][0]["episodes"]["velocity_std"]) == 3

    by_run = json.loads(command(study, "pipeline", "evaluate", "--run", model.info.run_id, *words).stdout)["models"]
    whole = ("--study", "ensemble", "--executor", "serial")
    by_study = json.loads(command(study, "pipeline", "evaluate", *whole, "--json").stdout)["models"]  # its own terms
    assert by_run == [mine] and mine in by_study and len(by_study) == 6
    table = command(study, "pipeline", "evaluate", "--run", model.info.run_id, *words[:4]).stdout
    assert re.search(r"^noise, replan +calm +success +converge ", table, re.M) and "Plan against expert: MAE" in table


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("evaluate",), "name model files"),
        (("evaluate", "--checkpoint", "none.pth"), "expected a model file, found none"),
        (("evaluate", "--run", "0" * 32), "expected a run of this store"),
        (("evaluate", "--study", "none-such"), "found none called 'none-such'"),
        (("evaluate", "--episodes", "0"), "episodes: expected 1 or more, found '0'"),
        (("report", "--study", "none-such"), "expected a study 'none-such' with finished models"),
        (("ensemble", "--methods", "pi0,pi9"), "methods: expected some of pi0, pi0_fast"),
        (("ensemble", "--methods", "pi0;pi0_fast"), "methods: expected text like 'pi0,pi0_fast' or 'pi0 width=64,"),
        (("ensemble", "--methods", "pi0 widht=3"), "expected the name of a setting, found 'widht'"),
        (("ensemble", "--methods", "pi0 seed=3"), "expected a setting that all models of a group share, found 'seed'"),
        (("ensemble", "--set", "pi0.widht=3"), "expected a setting of the method 'pi0' of this study"),
        (("ensemble", "--set", "decoding=greedy", "--methods", "pi0"), "expected a setting of a method of this study"),
        (("ensemble", "--set", "binning.lr=0.1"), "expected a setting of the method 'binning' of this study"),
        (("ensemble", "--set", "pi0.lr=fast"), "lr: expected a number, found 'fast'"),
        (("ensemble", "--set", "lr"), "expected NAME=VALUE or METHOD.NAME=VALUE, found 'lr'"),
        (("ensemble", "--n-models", "0"), "n_models"),
        (("ensemble", "--base-seed", "2147483647", "--n-models", "2"), "seed: "),
        (
            ("ensemble", "--set", "experiment=x"),
            "expected a setting that all models of a group share, found 'experiment'",
        ),
        (("ensemble", "--originals", "nowhere"), "expected a folder with .pth files"),
        (("ensemble", "--set", "pi0_fast.tokenizer=none.json"), "expected a FAST tokenizer, found no file"),
        (("ensemble", "--study", "../x"), "study: "),
        (("ensemble", "--heads", "3"), "heads: must divide"),
        (("ensemble", "--study", "all"), "expected a name, found 'all'"),
        (("ensemble", "--looks", "8,6"), "looks: expected growing numbers of models, the first 2 or more, found '8,6'"),
        (("ensemble", "--evaluation-seed", "4294967296"), "evaluation_seed: expected 2,147,483,647 or less"),
        (("ensemble", "--margin", "0"), "margin: expected a number above 0"),
        (("plan", "--study", "none-such"), "expected a study 'none-such' with finished models"),
        (("plan", "--half-width", "-1"), "half_width: expected a number above 0"),
        (("evaluate", "--yardsticks", "--pairs", "none.npz"), "none.npz"),
    ],
)
@pytest.mark.usefixtures("with_store")
def test_bad_input_is_refused_before_any_run(
    workplace: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(COMMANDS, list(words)) == 2
    found = capsys.readouterr()
    assert found.err.startswith("error: ") and found.err.count("\n") == 1 and message in found.err
    assert found.out == "" and runs_of(workplace) == []


def test_bad_input_is_refused_before_data_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(COMMANDS, ["ensemble", "--originals", "nowhere"]) == 2
    assert not list(tmp_path.iterdir())


def test_member_settings_are_those_of_training() -> None:
    """What is declared once for a study means the same as for one training."""

    def planned(**values: object) -> dict[str, TrainSettings]:
        groups = plan_groups(make(EnsembleSettings, values))
        return {group.name: group.member(3).settings for group in groups}

    kinds = {name: method.settings_type for name, method in METHODS.items()}
    assert planned() == {"pi0": Pi0Settings(seed=3), "pi0_fast": Pi0FastSettings(seed=3)}
    assert planned(methods=",".join(METHODS)) == {name: kind(seed=3) for name, kind in kinds.items()}
    assert planned(set=("width=32", "pi0_fast.lr=0.2", "lr=0.1", "flow_steps=2")) == {
        "pi0": Pi0Settings(seed=3, lr=0.1, width=32, flow_steps=2),
        "pi0_fast": Pi0FastSettings(seed=3, lr=0.2, width=32),
    }
    assert planned(methods="pi0 width=64, pi0  width=128 layers=2", set="layers=1,lr=0.1") == {
        "pi0 width=64": Pi0Settings(seed=3, lr=0.1, width=64, layers=1),
        "pi0 width=128 layers=2": Pi0Settings(seed=3, lr=0.1, width=128, layers=2),
    }


@pytest.mark.slow(seconds=18)
@pytest.mark.usefixtures("with_store")
def test_a_study_goes_on_and_refuses_another_recipe(run: Run, workplace: Path) -> None:
    words = ("pipeline", "ensemble", "--methods", "pi0", "--executor", "serial", *TINY_WORDS)
    first = run(*words, "--n-models", 1)
    assert first.returncode == 0 and "5 jobs run, 0 models reused" in first.stdout
    again = run(*words, "--n-models", 1)
    assert again.returncode == 0 and "0 jobs run, 1 models reused" in again.stdout
    assert "the report and the registered models are up to date" in again.stdout
    more = run(*words, "--n-models", 2)
    assert more.returncode == 0 and "2 jobs run, 1 models reused" in more.stdout
    told = "The verdict was read with 1, 2 models per group"
    assert told in (workplace / "train/reports/ensemble/report.md").read_text()
    assert len(of_kind(workplace, "study")) == len(of_kind(workplace, "group")) == 1
    assert of_kind(workplace, "study")[0].data.metrics["pi0/models"] == 2
    assert sorted(run.data.params["seed"] for run in of_kind(workplace, "model")) == ["0", "1"]
    other = run(*words, "--lr", 0.1)
    asked = "study: 'ensemble' has pi0 models with lr 0.0065, and 0.1 is asked for"
    assert other.returncode == 2 and asked in other.stderr
    # Other episodes are other terms: everything is evaluated again, nothing trained, and the report says so.
    weights = {run.data.tags["weights_sha256"] for run in of_kind(workplace, "model")}
    longer = run(*words, "--n-models", 2, "--episodes", 4)
    assert longer.returncode == 0 and "7 jobs run, 0 models reused" in longer.stdout
    tags = of_kind(workplace, "study")[0].data.tags
    seed = tags["design.seed"]
    assert (tags["design.episodes"], tags["design.margin"], tags["design.primary"]) == ("4", "0.01", "calm")
    assert "another verdict of this study, on other terms: calm within 0.01, 4 episodes" in longer.stdout
    assert f"Note: Earlier terms 1: calm within 0.01, 3 episodes per condition, seed {seed}" in longer.stdout
    refused = run("pipeline", "evaluate", "--study", "ensemble", "--episodes", 5)
    assert refused.returncode == 2
    assert f"'ensemble' is evaluated by 4 episodes per condition, seed {seed}, and 5 epis" in refused.stderr
    assert {run.data.tags["weights_sha256"] for run in of_kind(workplace, "model")} == weights
    by = {run.data.tags["evaluation"] for run in of_kind(workplace, "model")}
    assert by == {f"4 episodes per condition, seed {seed}"}


@pytest.mark.slow(seconds=15)
@pytest.mark.usefixtures("with_store")
def test_a_study_stops_at_the_look_that_decides(run: Run, workplace: Path) -> None:
    words = ["--methods", "regression,regression patch=25", "--epochs", 8, "--width", 32, "--layers", 1]
    words += ["--lr", 0.02, "--warmup", 10, "--batch-size", 100, "--episodes", 6, "--executor", "serial"]
    words += ["--until", "decided", "--looks", "3,4", "--margin", 0.9]
    early = run("pipeline", "ensemble", *words)
    assert early.returncode == 0, early.stderr
    assert "warning: looks: at 3 models per group equivalence can be shown but no difference" in early.stdout
    assert "look at 3 models per group: regression and regression patch=25 are equivalent" in early.stdout
    assert "Looks at 3 models per group; of alpha" in early.stdout and len(of_kind(workplace, "model")) == 6
    tags = of_kind(workplace, "study")[0].data.tags
    assert (tags["design.looks"], tags["design.margin"], tags["looked"]) == ("3,4", "0.9", "3")
    assert tags["verdict"] == "regression and regression patch=25 are equivalent within 0.9"
    assert "0 jobs run, 6 models reused" in run("pipeline", "ensemble", *words).stdout


def start(workplace: Path, *words: object) -> warm.Command:
    command = ["-m", "pipeline", "ensemble", "--methods", "pi0", *map(str, words)]
    return warm.Command(workplace, command, environment())


def wait_for_training(workplace: Path, resumed: int = 0) -> str:
    """The id of the run of seed 0, once it is training, can be resumed, and has been that often.

    Reads the database by itself: an MLflow client would migrate a store that is just being made.
    """
    path = workplace / "mlruns/mlflow.db"
    query = "select r.run_uuid, coalesce(t.value, '0') from runs r join params p on r.run_uuid = p.run_uuid "
    query += "left join tags t on r.run_uuid = t.run_uuid and t.key = 'resumed' "
    query += "where r.status = 'RUNNING' and p.key = 'seed' and p.value = '0'"
    for _ in range(1200):
        time.sleep(0.1)
        if not path.exists():
            continue
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        with contextlib.closing(database), contextlib.suppress(sqlite3.OperationalError):  # while it is being made
            for run_id, times in database.execute(query):
                if int(times) == resumed and (workplace / f"mlruns/journals/{run_id}/snapshot.safetensors").exists():
                    return str(run_id)
    raise AssertionError("no training was seen")


def children(pid: int) -> list[int]:
    """The processes of the pool of process `pid`: the other forks of its group."""
    found = subprocess.run(["pgrep", "-g", str(pid), "-f", "forks.py"], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split() if int(word) != pid]


@pytest.mark.slow(seconds=25)
@pytest.mark.usefixtures("with_store")
def test_a_killed_member_goes_on_where_it_was_then_is_recorded_and_the_rest_goes_on(workplace: Path, run: Run) -> None:
    words = ("--n-models", 2, "--epochs", 10, "--batch-size", 32, "--workers", 1, *TINY_WORDS[2:])
    process = start(workplace, *words)
    for resumed in range(2):
        killed = wait_for_training(workplace, resumed)
        (worker,) = children(process.pid)
        os.kill(worker, signal.SIGKILL)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "pi0 seed 0: failed, its process was killed by SIGKILL; trying again" in out
    assert "error: study 'ensemble': 1 jobs failed, the first: pi0 seed 0: its process was killed" in errors
    assert "5 jobs run, 0 models reused, 1 failed" in out

    models = {run.info.run_id: run for run in of_kind(workplace, "model")}
    assert models[killed].info.status == "FAILED" and len(models) == 2
    assert models[killed].data.tags["failure"] == "its process was killed by SIGKILL"
    log = workplace / f"train/logs/{models[killed].data.tags['name']}.txt"
    assert log.read_text().endswith("failed: its process was killed by SIGKILL\n")
    assert not list((workplace / "train/logs").glob(".*"))
    (parent,) = of_kind(workplace, "study")
    assert parent.info.status == "FAILED" and parent.data.tags["failures"].startswith("pi0 seed 0: its process")

    again = run("pipeline", "ensemble", "--methods", "pi0", *words, "--executor", "serial")
    assert again.returncode == 0 and "2 jobs run, 1 models reused, 0 failed" in again.stdout
    (parent,) = of_kind(workplace, "study")
    assert parent.info.status == "FINISHED" and parent.data.tags["failures"] == "none"
    assert len(of_kind(workplace, "model")) == 2
    resumed = store(workplace).get_run(killed)
    assert resumed.info.status == "FINISHED" and resumed.data.tags["resumed"] == "2"
    alone = run("train.train_pi0", "--epochs", 10, "--batch-size", 32, *TINY_WORDS[2:6])
    assert alone.returncode == 0
    (single,) = [run for run in of_kind(workplace, "model") if "study" not in run.data.tags]
    assert single.data.tags["weights_sha256"] == resumed.data.tags["weights_sha256"]


@pytest.mark.slow(seconds=6)
@pytest.mark.usefixtures("with_store")
def test_an_interrupted_study_leaves_nothing_running(workplace: Path) -> None:
    process = start(workplace, "--n-models", 2, "--epochs", 100_000, *TINY_WORDS[2:])
    wait_for_training(workplace)
    other = start(workplace, "--n-models", 2, "--epochs", 100_000, *TINY_WORDS[2:])
    _, errors = other.communicate(timeout=60)
    assert other.returncode == 2 and "'ensemble' is running already in another process" in errors
    workers = children(process.pid)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.endswith("a run that was started is recorded as KILLED\n")
    assert len(workers) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert {run.info.status for run in runs_of(workplace)} == {"KILLED"}
    assert not list((workplace / "train/logs").glob(".*"))
