"""A suite's studies: what is the same for all tasks, and what is a task's own."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config import NONE, make
from pipeline.errors import SettingsError
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import Pi0FastSettings, Pi0Settings
from pipeline.results.gather import Gathered
from pipeline.studies import study, suite
from pipeline.studies.groups import plan_groups
from pipeline.studies.settings import EnsembleSettings, SuiteSettings
from pipeline.studies.study import Study
from pipeline.studies.suite import plan_studies, with_earlier
from pipeline.tasks.project import DEFAULT, TASKS
from pipeline.tasks.registry import find_task
from pipeline.tracking.query import StoredRun
from tests.conftest import ROOT
from tests.test_report_suite import made_up


def test_a_task_may_have_episodes_of_its_own() -> None:
    studies = plan_studies(make(SuiteSettings, {"tasks": "pendulum,reacher", "episodes": "300, pendulum=1000"}))
    assert {name: study.episodes for name, study in studies.items()} == {"pendulum": 1000, "reacher": 300}
    assert {study.episodes for study in plan_studies(SuiteSettings()).values()} == {100}


def test_its_studies_train_as_it_says() -> None:
    studies = plan_studies(make(SuiteSettings, {"together": "no", "executor": "serial", "workers": 3}))
    assert {(study.together, study.executor, study.workers) for study in studies.values()} == {("no", "serial", 3)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"episodes": "300,reacher=10"},
            r"episodes: expected tasks .* \(pendulum, avoiding\), found 'reacher'",
        ),
        ({"episodes": "3,avoiding=1,avoiding=2"}, "episodes: expected each task once, found two .* 'avoiding'"),
        ({"episodes": "300,avoiding=0"}, "episodes: expected 1 or more, found '0'"),
        ({"episodes": "avoiding=3"}, "episodes: expected text like '300' or '300,pendulum=1000', found 'avoiding=3'"),
        (
            {"methods": "pi0 horizon=12,regression"},
            "horizon: expected chunks of at least 15 actions, the longest .* 'pendulum', f",
        ),
        (
            {"methods": "pi0 horizon=15", "tasks": "pendulum,avoiding"},
            "horizon: expected chunks of at least 20 .* 'avoiding', f",
        ),
        ({"originals": "nowhere"}, "originals: expected a folder with .pth files, found none in 'nowhere'"),
        ({"originals": "nowhere", "tasks": "avoiding"}, r"originals: expected tasks of this suite \(avoiding\), found"),
    ],
)
def test_what_fits_no_task_is_refused(values: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        plan_studies(make(SuiteSettings, {"tasks": "pendulum,avoiding"} | values))


def test_weights_of_the_reference_system_stand_beside_the_pendulum_alone() -> None:
    settings = SuiteSettings(originals="theirs")
    found = {name: settings.study_of(name, name).originals for name in TASKS}
    assert found == dict.fromkeys(TASKS, NONE) | {DEFAULT: "theirs"}


def test_a_task_without_a_finished_model_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_nothing(settings: EnsembleSettings, *_: object) -> Study:
        failures = ("job 3",) if settings.task == "reacher" else ()
        return Study("run", "#", 0, 0, failures, 0.0, gathered=None, files=())

    monkeypatch.setattr(suite, "run_study", run_nothing)
    studies = plan_studies(make(SuiteSettings, {"tasks": "pendulum,reacher"}))
    found = suite._run_studies(studies, lambda _line: None, None, None)  # type: ignore[arg-type]
    assert found == ({}, ["pendulum: no model is finished", "reacher: job 3"])


def test_the_same_looks_are_written_in_one_way() -> None:
    """They are terms of a verdict, and others would be another verdict."""
    written = {make(EnsembleSettings, {"looks": looks}).looks for looks in ("8,12", "8, 12", "08,12")}
    assert written == {"8,12"}


def test_a_report_has_the_tasks_of_earlier_calls_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def gathered(_store: object, study: str, _experiment: str, task: str) -> Gathered:
        assert study == f"s-{task}"
        if task == "double_pendulum":
            raise SettingsError("report: expected a study with finished models, found none.")
        return Gathered(made_up(find_task(task), {"pi0": 0.5}), None)

    def searched(_store: object, tags: dict[str, str], _experiment: str) -> list[StoredRun]:
        assert tags == {"kind": "study"}
        named = [(task, f"s-{task}") for task in (*TASKS, "theirs")] + [("reacher", "another")]
        ended = [{"complete": "no" if task == "swing_up" else "yes"} for task, _ in named]  # one was broken off
        return [
            StoredRun("1", "s", "FAILED", 0, {}, {}, {"study": name, "task": task, **end}, "1", False)
            for (task, name), end in zip(named, ended, strict=True)
        ]

    monkeypatch.setattr(suite, "gather", gathered)
    monkeypatch.setattr(suite, "search", searched)
    own = made_up(find_task("reacher"), {"pi0": 0.8})
    said: list[str] = []
    settings = make(SuiteSettings, {"suite": "s"})
    found = with_earlier(None, settings, "tinypi", {"mine": own, "reacher": own}, said.append)  # type: ignore[arg-type]
    assert said == ["task theirs: its study is left out of the report: name the task again by --tasks"]
    assert list(found) == ["pendulum", "reacher", "avoiding", "mine"] and found["reacher"] is own


def test_a_study_decides_only_where_all_groups_can_be_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """One group, and two of which one has no model yet, leave nothing undecided, and are not decided."""
    settings = make(EnsembleSettings, {"methods": "pi0,regression,binning"})
    plan: Any = SimpleNamespace(study="s", experiment="tinypi", settings=settings, groups=plan_groups(settings))
    for means, decided in (
        ({"pi0": 0.9, "regression": 0.1, "binning": 0.5}, True),
        ({"pi0": 0.9, "regression": 0.1}, False),
        ({"pi0": 0.9}, False),
    ):
        comparison = made_up(find_task("pendulum"), means, models=6)
        monkeypatch.setattr(study, "gather", lambda *_, found=comparison: Gathered(found, None))
        assert study.is_decided(None, plan, 6, lambda _line: None) == decided  # type: ignore[arg-type]


def test_make_suite_compares_all_methods_both_as_published_and_sampled_tokens() -> None:
    line = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("COMPARED := "))
    studies = plan_studies(make(SuiteSettings, {"methods": line.removeprefix("COMPARED := ")}))
    assert list(studies) == list(TASKS)
    groups = {group.name: group for group in plan_groups(studies["avoiding"])}
    others = {name: group.settings for name, group in groups.items() if name not in METHODS}
    assert METHODS.keys() == groups.keys() - others.keys()
    assert others == {
        "pi0 start_noise=1": Pi0Settings(task="avoiding", start_noise=1),
        "pi0_fast scheme=one_scale decoding=greedy": Pi0FastSettings(
            task="avoiding", scheme="one_scale", decoding="greedy"
        ),
        "pi0_fast decoding=sampled": Pi0FastSettings(task="avoiding", decoding="sampled"),
    }
    assert groups["pi0_fast decoding=sampled"].trained == "pi0_fast"
