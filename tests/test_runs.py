"""Whole runs as users start them: what they leave in MLflow and on disk, the same every time."""

import json
import re
import signal
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest
import torch

import pipeline
from benchmarks.soak import soak
from pipeline.cli.main import main
from pipeline.cli.options import settings_command
from pipeline.cli.train import train_command
from pipeline.config import Settings
from pipeline.methods.settings import Pi0Settings
from pipeline.stages.account import params_note
from pipeline.studies.settings import EnsembleSettings
from pipeline.tracking.begin import GENERATED_NAME
from pipeline.tracking.mirror import reserve
from pipeline.tracking.run import TrackedRun
from tests import warm
from tests.conftest import Run, environment, mlflow_run, put_store, runs_of, store

SMALL = ("--epochs", 2, "--width", 16, "--layers", 1)
EPOCH_METRICS = {"train_loss", "val_loss", "test_loss", "lr", "grad_norm", "samples_per_second"}
FINAL_METRICS = {"best_val_loss", "best_epoch", "test_loss_at_best_val", "train_seconds"}


def log_without_times(workplace: Path, name: str) -> str:
    text = (workplace / f"train/logs/{name}.txt").read_text().replace(name, "NAME")
    text = re.sub(r"finished after .*", "", text)
    return re.sub(r"^( +\d+(?: +\S+){5}) +[\d,]+", r"\1", text, flags=re.MULTILINE)  # samples a second


@pytest.mark.slow(seconds=14)
@pytest.mark.usefixtures("with_store")
@pytest.mark.parametrize(("module", "prefix"), [("train_pi0", "tinypi0"), ("train_pi0_fast", "tinypi0fast")])
def test_what_a_run_leaves_and_that_it_repeats(
    run: Run, run_anew: Run, workplace: Path, module: str, prefix: str
) -> None:
    again = run if module == "train_pi0" else run_anew  # test_reproduce.py makes pi0 anew, to the bit
    for start, seed in ((run, 0), (again, 0), (run, 1)):
        result = start(f"train.{module}", *SMALL, "--seed", seed)
        assert result.returncode == 0, result.stderr
        assert result.stderr == "" and "open the UI" in result.stdout and "\x1b" not in result.stdout
    first, second, other = sorted(runs_of(workplace), key=lambda run: run.info.start_time)

    data = first.data
    assert first.info.status == "FINISHED" and data.params["width"] == "16"
    assert set(data.metrics) >= EPOCH_METRICS | FINAL_METRICS
    client = store(workplace)
    for metric in EPOCH_METRICS:
        assert [point.step for point in client.get_metric_history(first.info.run_id, metric)] == [1, 2]
    by_step = client.get_metric_history(first.info.run_id, "train_loss_by_step")
    assert [point.step for point in by_step] == [20]
    assert {"method", "code_commit", "code_tree", "data_sha256", "split_digest", "weights_sha256"} <= set(data.tags)
    assert ("tokenizer_sha256" in data.tags) == (module == "train_pi0_fast")
    (dataset,) = first.inputs.dataset_inputs
    assert data.tags["data_sha256"].startswith(dataset.dataset.digest)

    (logged,) = client.search_logged_models([first.info.experiment_id], f"source_run_id = '{first.info.run_id}'")
    assert logged.status == "READY" and first.outputs.model_outputs[0].model_id == logged.model_id
    shown = {metric.key: metric.value for metric in logged.metrics}
    assert shown.keys() >= FINAL_METRICS and shown == {name: data.metrics[name] for name in shown}

    name = data.tags["name"]
    assert re.fullmatch(prefix + r"_\d{8}_\d{4}(_\d+)?", name) and first.info.run_name == name
    artifacts = {item.path for item in client.list_artifacts(first.info.run_id)}
    assert artifacts == {f"{name}.pth", f"{name}.png", f"{name}.txt", "settings.json", "lock.json"}
    for folder, ending in (("logs", "txt"), ("trained_models", "pth"), ("loss_pics", "png")):
        mirrored = workplace / "train" / folder / f"{name}.{ending}"
        stored = Path(client.download_artifacts(first.info.run_id, f"{name}.{ending}"))
        assert mirrored.read_bytes() == stored.read_bytes()
        assert len(list(mirrored.parent.iterdir())) == 3  # three runs, nothing hidden or half-written
    folder = workplace / "mlruns" / first.info.experiment_id  # as by `mlflow run`
    assert Path(first.info.artifact_uri.removeprefix("file://")) == folder / first.info.run_id / "artifacts"
    chunks = {"action_chunk": [1500, 50, 1]} if module != "train_pi0_fast" else {"token_seq": [1500, 26]}
    assert json.loads(dataset.dataset.profile)["features_shape"] == {"state": [1500, 4]} | chunks

    model = workplace / f"train/trained_models/{name}.pth"
    assert pipeline.load_policy(model).act([[0.1, 0.2, 0.0, 0.0]]).shape == (1, 50, 1)
    provenance = torch.load(model, weights_only=True)["provenance"]
    assert provenance["run_id"] == first.info.run_id and provenance["weights_sha256"] == data.tags["weights_sha256"]

    def bits(run: object) -> tuple:
        history = [
            [point.value for point in client.get_metric_history(run.info.run_id, metric)]
            for metric in sorted(EPOCH_METRICS - {"samples_per_second"} | {"train_loss_by_step"})
        ]
        return run.data.tags["weights_sha256"], history, log_without_times(workplace, run.data.tags["name"])

    assert bits(first) == bits(second)
    assert bits(first)[0] != bits(other)[0] and bits(first)[1] != bits(other)[1]
    assert first.data.tags["split_digest"] == other.data.tags["split_digest"]


@pytest.mark.usefixtures("with_store")
def test_settings_of_mlflow_in_the_environment_are_honoured(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    monkeypatch.setenv("MLFLOW_RUN_NAME", "named")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    words = [*map(str, SMALL[2:]), "--epochs", "1"]
    assert main(train_command("pi0", Pi0Settings), words) == 0
    (run,) = runs_of(workplace, "theirs")
    assert run.info.run_name == "named" and "system/cpu_utilization_percentage" in run.data.metrics
    said = capsys.readouterr().out
    assert f"#/experiments/{run.info.experiment_id}/runs?workflowType=machine_learning\n" in said

    made: list[Settings] = []
    for kind, words in (
        (Pi0Settings, ["--experiment", "mine", "--run-name", "auto"]),
        (Pi0Settings, ["--resume", "latest"]),  # goes on where it was
        (EnsembleSettings, []),
        (EnsembleSettings, ["--study", "mine", "--experiment", "tinypi"]),
    ):
        assert main(settings_command("command", kind, made.append, ()), words) == 0
    names = [(each.experiment, getattr(each, "study", None) or each.run_name) for each in made]
    assert names == [("mine", "auto"), ("tinypi", "auto"), ("theirs", "named"), ("tinypi", "mine")]


@pytest.mark.slow(seconds=16)
def test_mlflow_run_uses_its_own_run_and_both_spellings(workplace: Path) -> None:
    small = ("-P", "epochs=1", "-P", "width=16", "-P", "layers=1", "-P", "lr=1e-3", "--experiment-name", "mine")
    mlflow_run(workplace, *small, new=True)  # main
    mlflow_run(workplace, "-e", "train_pi0_fast", *small, "-P", "batch-size=300", "--run-name", "chosen")
    second, first = runs_of(workplace, "mine")
    assert [run.info.status for run in (first, second)] == ["FINISHED"] * 2 and first.data.tags["method"] == "pi0"
    assert first.info.run_name == first.data.tags["name"] and first.data.params["width"] == "16"
    folder = workplace / "mlruns" / first.info.experiment_id
    assert Path(first.info.artifact_uri.removeprefix("file://")) == folder / first.info.run_id / "artifacts"
    assert first.data.params["lr"] == "1e-3" and "settings_used" not in first.data.tags
    assert first.data.metrics["lr"] < 1e-3 and first.data.tags["mlflow.source.type"] == "PROJECT"
    # MLflow records the default before it starts us; what was used is said beside it.
    assert second.data.tags["settings_used"] == "batch_size=300" and second.info.run_name == "chosen"


@pytest.mark.long
def test_memory_and_open_files_stay_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short form of `python -m benchmarks.soak`."""
    monkeypatch.chdir(tmp_path)
    put_store(tmp_path)
    first, *_, last = rows = soak(12)[2:]  # imports and caches are filled by then
    assert {row["open_files"] for row in rows} == {first["open_files"]}
    assert last["memory_mib"] - first["memory_mib"] < 10


@pytest.mark.long
def test_a_name_chosen_as_a_parameter_of_mlflow_run(workplace: Path) -> None:
    small = ("-P", "epochs=1", "-P", "width=16", "-P", "layers=1", "--experiment-name", "mine")
    mlflow_run(workplace, "-e", "train_pi0", *small, "-P", "run_name=also-chosen")
    (run,) = runs_of(workplace, "mine")
    assert run.info.status == "FINISHED" and run.info.run_name == "also-chosen"


def test_mlflow_run_with_bad_parameters_fails(workplace: Path) -> None:
    for word in ("batch_size=0", "foo=1"):
        result = mlflow_run(workplace, "-e", "train_pi0", "-P", word, check=False)
        assert result.returncode != 0 and "error: " in result.stderr and "Traceback" not in result.stderr
    assert {run.info.status for run in runs_of(workplace, "Default")} == {"FAILED"}


def test_what_mlflow_shows_otherwise_is_said_with_its_cause() -> None:
    dash = params_note("batch_size=300", ["batch_size"], "none")
    assert dash.endswith("used are batch_size=300: with 'mlflow run', write -P names with '_'")
    assert params_note("pairs=data/arm/pairs.npz", ["pairs"], "none").endswith("used are pairs=data/arm/pairs.npz")
    assert params_note("batch_size=300", ["batch_size"], "found.yaml").endswith("used are batch_size=300")


def test_names_in_the_same_minute(tmp_path: Path) -> None:
    now = datetime(2025, 6, 20, 1, 33)
    first, second = reserve("tinypi0", now, tmp_path), reserve("tinypi0", now, tmp_path)
    assert (first.name, second.name) == ("tinypi0_20250620_0133", "tinypi0_20250620_0133_2")
    first.write("line")
    first.publish_log()
    second.hidden_log.unlink()  # an abandoned reservation is free again; a finished run's name is not
    assert reserve("tinypi0", now, tmp_path).name == "tinypi0_20250620_0133_2"
    assert first.log.read_text() == "line\n"


def test_names_are_unique_between_threads(tmp_path: Path) -> None:
    names: list[str] = []
    now = datetime(2025, 6, 20, 1, 33)
    threads = [threading.Thread(target=lambda: names.append(reserve("tinypi0", now, tmp_path).name)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 20


def test_generated_run_names_are_known() -> None:
    from mlflow.utils.name_utils import _generate_random_name

    assert all(GENERATED_NAME.fullmatch(_generate_random_name()) for _ in range(200))


@pytest.mark.usefixtures("with_store")
def test_a_run_that_diverges_is_failed_with_its_reason(run: Run, workplace: Path) -> None:
    result = run("train.train_pi0", "--lr", 1, "--weight-decay", 10, "--warmup", 0, "--width", 16)
    assert result.returncode == 1 and re.search(r"^error: training step \d+ \(epoch \d+\)", result.stderr)
    (failed,) = runs_of(workplace)
    assert failed.info.status == "FAILED"
    name = failed.data.tags["name"]
    assert "failed: training step" in (workplace / f"train/logs/{name}.txt").read_text()
    assert [item.path for item in store(workplace).list_artifacts(failed.info.run_id)].count(f"{name}.txt") == 1
    assert not list((workplace / "train/trained_models").iterdir())


@pytest.mark.parametrize("method", ["json", "file"])
@pytest.mark.usefixtures("with_store")
def test_a_run_whose_artifacts_cannot_be_stored_is_failed_and_keeps_its_log(
    workplace: Path, method: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: TrackedRun, *words: object) -> None:
        raise OSError("artifact store is full")

    monkeypatch.setattr(TrackedRun, method, broken)
    words = ["--epochs", "1", "--width", "16", "--layers", "1"]
    assert main(train_command("pi0", Pi0Settings), words) == 1
    assert "error: artifact store is full" in capsys.readouterr().err
    (failed,) = runs_of(workplace)
    (log,) = (workplace / "train/logs").iterdir()
    assert failed.info.status == "FAILED" and log.read_text().endswith("failed: artifact store is full\n")
    assert method == "json" or "best: epoch 1" in log.read_text()


@pytest.mark.usefixtures("with_store")
def test_interrupted_run_is_killed(workplace: Path) -> None:
    process = warm.Command(workplace, ["-m", "train.train_pi0", "--epochs", "100000"], environment())
    while not re.search("^ +1 ", process.printed(), re.MULTILINE):  # the first epoch's line
        assert process.returncode is None, "the training ended by itself"
        time.sleep(0.05)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)  # as `mlflow run` does it: Ctrl-C reaches the child, and MLflow terminates it
    time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and errors.startswith("error: interrupted") and time.monotonic() - started < 10
    (killed,) = runs_of(workplace)
    assert killed.info.status == "KILLED" and not list((workplace / "train/logs").glob(".*"))
