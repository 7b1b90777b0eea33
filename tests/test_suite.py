"""A suite's studies: what is the same for all tasks, and what is a task's own."""

import pytest

from pipeline.config import NONE, make
from pipeline.errors import SettingsError
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import Pi0FastSettings, Pi0Settings
from pipeline.studies import suite
from pipeline.studies.groups import plan_groups
from pipeline.studies.settings import EnsembleSettings, SuiteSettings
from pipeline.studies.study import Study
from pipeline.studies.suite import plan_studies
from pipeline.tasks.project import DEFAULT, TASKS
from tests.conftest import ROOT


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


def test_make_suite_compares_all_methods_and_both_as_published() -> None:
    line = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("COMPARED := "))
    studies = plan_studies(make(SuiteSettings, {"methods": line.removeprefix("COMPARED := ")}))
    assert list(studies) == list(TASKS)
    groups = {group.name: group for group in plan_groups(studies["avoiding"])}
    published = {name: group.settings for name, group in groups.items() if name not in METHODS}
    assert METHODS.keys() == groups.keys() - published.keys()
    assert published == {
        "pi0 start_noise=1": Pi0Settings(task="avoiding", start_noise=1),
        "pi0_fast scheme=one_scale decoding=greedy": Pi0FastSettings(
            task="avoiding", scheme="one_scale", decoding="greedy"
        ),
    }
