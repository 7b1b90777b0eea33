"""Models trained together as runs: each with its files, interrupted and resumed, in a study that does not mix."""

import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from mlflow.entities import Run as MlflowRun

from benchmarks import gpu
from pipeline.config import make
from pipeline.errors import DivergedError, SettingsError
from pipeline.evaluation.protocol import Protocol
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import RegressionSettings, TrainSettings
from pipeline.stages.judging import EvaluationSpec
from pipeline.stages.train_together import train_together
from pipeline.stages.unfinished import can_resume, find_unfinished
from pipeline.studies.groups import plan_groups, plan_members, together_groups
from pipeline.studies.jobs import Earlier, Runs, missing_jobs
from pipeline.studies.settings import EnsembleSettings
from pipeline.studies.study_plan import Beside
from pipeline.tracking.begin import Place, start_run
from pipeline.tracking.store import open_store
from pipeline.upkeep.doctor import doctor
from tests import warm
from tests.conftest import TINY, Run, environment, runs_of

REGRESSION = METHODS["regression"]
SMALL = {"epochs": 3, "width": 16, "layers": 1, "batch_size": 200, "dropout": 0.1}
STUDY = [
    word
    for name, value in (TINY | {"methods": "regression", "together": "yes"}).items()
    for word in (f"--{name}", value)
]


def asked(count: int, **values: object) -> list[tuple[TrainSettings, Place]]:
    """Settings of models with the seeds 0, 1, ..., each in a place below one run."""
    parent = start_run(open_store(), "tinypi", "parent", chosen=True)
    parent.end("FINISHED")
    place = Place(parent.run_id, {"study": "s", "group": "regression", "kind": "model"})
    return [(make(RegressionSettings, SMALL | {"seed": seed} | values), place) for seed in range(count)]


def replaced(one: tuple[TrainSettings, Place], **values: object) -> tuple[TrainSettings, Place]:
    return one[0].model_copy(update=values), one[1]


def models(folder: Path) -> list[MlflowRun]:
    """The runs of models, by seed."""
    found = [run for run in runs_of(folder) if run.data.tags.get("kind") == "model"]
    return sorted(found, key=lambda run: int(run.data.params["seed"]))


def weights(folder: Path) -> list[str]:
    return [run.data.tags["weights_sha256"] for run in models(folder)]


def quiet(_line: str) -> None:
    """Say nothing."""


def interrupt_at(fraction: float) -> Callable[[float], None]:
    def watch(done: float) -> None:
        if done > fraction:
            raise KeyboardInterrupt

    return watch


@pytest.mark.usefixtures("with_store")
def test_an_interrupted_group_goes_on_to_the_same_bits(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.training.together.STEP_EVENTS", 1)
    whole = asked(2)
    assert train_together(REGRESSION, whole, quiet, lambda _done: None) == {}
    undisturbed = models(workplace)
    assert len({run.data.tags["weights_sha256"] for run in undisturbed}) == 2
    for run in undisturbed:
        assert run.info.status == "FINISHED" and run.data.tags["together"] == "2"
        assert run.data.tags["same_bits"] == "yes" and run.data.metrics["best_epoch"] >= 1
        for ending in ("logs/{}.txt", "trained_models/{}.pth", "loss_pics/{}.png"):
            assert (workplace / "train" / ending.format(run.data.tags["name"])).exists()
    expected = weights(workplace)

    with pytest.raises(KeyboardInterrupt):
        train_together(REGRESSION, whole, quiet, interrupt_at(0.5))
    broken = [run for run in models(workplace) if run.info.status == "KILLED"]
    assert len(broken) == 2
    ids = [run.info.run_id for run in broken]
    with pytest.raises(SettingsError, match=r"expected a run that was trained alone, found .* one of 2"):
        find_unfinished(REGRESSION, whole[0][0].model_copy(update={"resume": ids[0]}))
    told = "ended as KILLED", "the command of its study or search, given again, goes on with it"
    assert [(each.state, each.done) for each in doctor()] == [told] * 2
    pairs = list(zip(ids, whole, strict=True))
    assert all(can_resume(run_id, settings, together=True) for run_id, (settings, _) in pairs)
    assert not any(can_resume(run_id, settings) for run_id, (settings, _) in pairs)
    on_cpu = whole[0][0].model_copy(update={"device": "cpu"})  # it was "auto", which is the same
    assert can_resume(ids[0], on_cpu, together=True)
    with monkeypatch.context() as with_gpu:
        with_gpu.setattr(torch.cuda, "is_available", lambda: True)
        with_gpu.setattr(torch, "use_deterministic_algorithms", lambda *_, **__: None)
        assert not can_resume(ids[0], whole[0][0], together=True) and can_resume(ids[0], on_cpu, together=True)
    cpu = {"device": "cpu"}
    again = [(settings.model_copy(update={"resume": run_id} | cpu), place) for run_id, (settings, place) in pairs]
    others = [replaced(again[1], pairs=Path("other.npz")), replaced(whole[1], width=8, **cpu)]
    for other, message in zip(others, ("was started with pairs", "width: expected one value for models"), strict=True):
        with pytest.raises(SettingsError, match=message) as refusal:
            train_together(REGRESSION, [again[0], other], quiet, lambda _done: None)
        assert can_resume(ids[0], whole[0][0], together=True), f"nobody holds it after {refusal.value}"
    assert train_together(REGRESSION, again, quiet, lambda _done: None) == {}
    resumed = [run for run in models(workplace) if run.info.run_id in ids]
    assert [run.data.tags["weights_sha256"] for run in resumed] == expected
    assert {(run.info.status, run.data.tags["resumed"]) for run in resumed} == {("FINISHED", "1")}
    assert not list((workplace / "train/logs").glob(".*"))


@pytest.mark.usefixtures("with_store")
def test_one_that_fails_is_told_and_the_others_are_finished(workplace: Path) -> None:
    """A weight decay of 10 at a rate of 1 multiplies all weights by -9 at each step."""
    bad = {"lr": 1.0, "weight_decay": 10.0, "schedule": "constant", "warmup": 0, "batch_size": 10}
    few = asked(2, epochs=1, batch_size=10)
    failures = train_together(REGRESSION, [few[0], (asked(2, epochs=1, **bad)[1])], quiet, lambda _done: None)
    assert [*failures] == [1] and isinstance(failures[1], DivergedError)
    assert "training step " in str(failures[1]) and "expected a finite loss and gradient" in str(failures[1])
    good, failed = models(workplace)
    assert (good.info.status, failed.info.status) == ("FINISHED", "FAILED")
    log = (workplace / f"train/logs/{failed.data.tags['name']}.txt").read_text()
    assert "failed: training step" in log.splitlines()[-1]


@pytest.mark.slow(seconds=10)
@pytest.mark.usefixtures("with_store")
def test_a_study_trains_together_and_does_not_mix(workplace: Path, run: Run) -> None:
    words = ("pipeline", "ensemble", "--executor", "serial", "--n-models", 2, *STUDY)
    first = run(*words)
    assert first.returncode == 0, first.stderr
    assert "regression together: done in" in first.stdout and "8 jobs run, 0 models reused" in first.stdout
    assert [m.data.tags["together"] for m in models(workplace)] == ["2", "2"]
    assert all(m.data.tags["evaluation"].startswith("3 episodes") for m in models(workplace))
    again = run(*words)
    assert again.returncode == 0 and "0 jobs run, 2 models reused" in again.stdout
    other = run(*words, "--together", "no")
    assert other.returncode == 2 and len(other.stderr.strip().splitlines()) == 1
    assert (
        "has regression models trained together, and alone is asked for: their bits differ. Use --tog" in other.stderr
    )
    refused = run("pipeline", "reproduce", models(workplace)[0].info.run_id)
    assert refused.returncode == 2 and "one of 2 that were trained together" in refused.stderr


@pytest.mark.long
@pytest.mark.slow(seconds=20)
@pytest.mark.usefixtures("with_store")
def test_a_group_that_is_killed_goes_on_to_the_same_bits(
    workplace: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = ["-m", "pipeline", "ensemble", "--executor", "serial", "--n-models", "2", *map(str, STUDY)]
    words += ["--epochs", "12", "--batch-size", "8"]
    process = warm.Command(workplace, words, environment())
    for _ in range(600):
        time.sleep(0.1)
        if len(list(workplace.glob("mlruns/journals/*/snapshot.safetensors"))) == 2:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert [m.info.status for m in models(workplace)] == ["RUNNING", "RUNNING"]
    result = warm.run(workplace, words, environment())
    assert result.returncode == 0, result.stderr
    assert {m.data.tags["resumed"] for m in models(workplace)} == {"1"}
    found = weights(workplace)
    other = tmp_path_factory.mktemp("undisturbed")
    (other / "data").symlink_to((workplace / "data").resolve())
    assert warm.run(other, words, environment()).returncode == 0
    assert weights(other) == found


@pytest.mark.usefixtures("with_store")
def test_many_models_are_several_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.training.together.MOST", 2)
    settings = make(EnsembleSettings, {"methods": "regression,pi0", "n_models": 5, "base_seed": 10})
    groups = plan_groups(settings)
    run = start_run(open_store(), "tinypi", "study", chosen=True)
    runs = Runs("s", "pendulum", run, dict.fromkeys(("regression", "pi0"), run))
    earlier = Earlier([], EvaluationSpec("pendulum", Protocol(1, 0), settings.pairs))
    needs = {group.name: group.needs for group in groups}
    jobs, _ = missing_jobs(plan_members(settings, groups), Beside([], None), runs, earlier, "", {"regression"}, needs)
    stacks = [(job.name, job.makes) for job in jobs if job.makes]
    assert stacks == [
        (f"regression together, {len(seeds)} from seed {seeds[0]}", tuple(f"regression seed {n}" for n in seeds))
        for seeds in ((10, 11), (12, 13), (14,))
    ]
    assert [job.name for job in jobs][3:8] == [f"pi0 seed {n}" for n in range(10, 15)]
    run.end("FINISHED")


def test_which_groups_are_trained_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(**values: str) -> frozenset[str]:
        settings = make(EnsembleSettings, values)
        return together_groups(settings, plan_groups(settings))

    assert chosen() == frozenset() == chosen(together="no")
    assert chosen(together="yes") == {"pi0", "pi0_fast"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *_, **__: None)
    assert chosen() == {"pi0", "pi0_fast"} and chosen(together="no") == frozenset()


def test_the_script_for_a_gpu_does_all_of_its_parts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "gpu.json"
    monkeypatch.setattr(gpu, "find_spec", lambda name: None if name == "mlflow" else name)
    gpu.main(["--device", "cpu", "--data", str(data), "--out", str(out)])
    report = json.loads(out.read_text())
    parts = {name: part for name, part in report.items() if isinstance(part, dict)}
    assert parts.pop("the default study") == {"left out": "mlflow is not installed"}
    assert not any("failed" in part or "left out" in part for part in parts.values()), report
    for name in ("pi0", "pi0_fast"):
        assert report["the same bits twice"][name]["together"] and report["together against alone"][name]["near"]
        assert len(report["200 trainings"][name]["val"]) == 3
        assert report["evaluation"][name]["episodes"] == 4


def test_the_script_for_a_gpu_ends_in_time(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "MOST_SECONDS", 0.0)
    report = gpu.main(["--device", "cpu", "--data", str(data), "--out", str(tmp_path / "gpu.json")])
    late = [part for part in report.values() if part == {"left out": "there was no time left"}]
    assert len(late) == 6 and gpu.GOALS.keys() <= report.keys()
    bench = gpu.Bench("cpu", data, time.perf_counter() + 0.05, {}, {})
    with pytest.raises(gpu.LeftOutError, match="no time left"):
        list(bench.in_time(iter(partial(time.sleep, 0.01), "never")))
    with pytest.raises(gpu.LeftOutError, match="it was not done after 0 s"):
        gpu.default_study(dataclasses.replace(bench, end=time.perf_counter() + 0.2), [])


@pytest.mark.long
@pytest.mark.slow(seconds=12)
def test_the_script_for_a_gpu_measures_a_whole_study(data: Path) -> None:
    found = gpu.default_study(gpu.Bench("cpu", data, time.perf_counter() + 300, {}, {}), gpu.TINY_STUDY.split())
    assert found["seconds"] > 0 and found["models"] == {"pi0": 2}
