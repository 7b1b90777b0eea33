"""A suite: the same groups of models on several tasks, a study per task, and one report across them."""

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import NONE
from pipeline.errors import RunError, SettingsError, UserError, one_line
from pipeline.executors.run import Watch
from pipeline.names import FAILURES, KIND, STUDY, Kind
from pipeline.report.comparison import Comparison
from pipeline.results.gather import gather
from pipeline.results.suite import write_suite
from pipeline.stages.remote import ready_to_run
from pipeline.stages.say import Say
from pipeline.studies.groups import plan_groups, plan_members
from pipeline.studies.publish import FOLDER, REPORTS
from pipeline.studies.settings import EnsembleSettings, SuiteSettings
from pipeline.studies.study import run_study
from pipeline.studies.study_plan import find_originals
from pipeline.tasks.project import DEFAULT, TASKS
from pipeline.tasks.registry import find_task, named_task
from pipeline.tasks.settings import at_task
from pipeline.tracking.begin import experiment_of
from pipeline.tracking.query import search, task_of
from pipeline.tracking.run import TrackedRun
from pipeline.tracking.store import Store, open_store
from pipeline.tracking.study import (
    as_tag,
    describe_call,
    end_all,
    ended_by_errors,
    is_at_its_end,
    one_at_a_time,
    open_study,
)


@dataclass(frozen=True)
class Suite:
    """What a suite left."""

    run_id: str
    url: str
    comparisons: Mapping[str, Comparison]  # by task; none of a task without a finished model
    failures: tuple[str, ...]
    seconds: float
    files: tuple[Path, ...]


def run_suite(settings: SuiteSettings, say: Say, watch: Watch) -> Suite:
    """Do what is missing of a suite, study after study, and report on all of it.

    Bad input raises a `UserError` before any work. A study that fails, or whose own data are refused when its turn
    comes, is told; the others go on.
    """
    with ready_to_run(settings, in_store=True):
        return _run_suite(settings, say, watch)


def _run_suite(settings: SuiteSettings, say: Say, watch: Watch) -> Suite:
    started = time.monotonic()
    studies = plan_studies(settings)
    store = open_store()
    experiment = experiment_of(store, settings.experiment)
    with one_at_a_time(settings.suite, Kind.SUITE):
        suite = open_study(store, settings.suite, experiment, Kind.SUITE)
        with ended_by_errors(store, suite, {}, f"suite '{settings.suite}'"):
            describe_call(suite, settings.model_dump(mode="json"), {"suite", "base_seed", "experiment"})
            comparisons, failures = _run_studies(studies, say, watch, suite)
            comparisons = with_earlier(store, settings, experiment, comparisons, say)
            files = write_suite(settings.suite, comparisons, REPORTS / settings.suite) if comparisons else ()
            for path in files:
                suite.file(path, FOLDER)
            suite.tags({FAILURES: as_tag("; ".join(failures))})
        end_all(store, suite, {}, "FAILED" if failures else "FINISHED")
    return Suite(suite.run_id, suite.url, comparisons, tuple(failures), time.monotonic() - started, files)


def plan_studies(settings: SuiteSettings) -> dict[str, EnsembleSettings]:
    """The settings of each task's study, by the task's name, checked; raises `SettingsError`."""
    studies: dict[str, EnsembleSettings] = {}
    for reference in settings.references:
        task = find_task(reference)
        name = task.name
        if name in studies:
            raise SettingsError(f"tasks: expected each task once, found two called '{name}'. See --help.")
        studies[name] = settings.study_of(reference, name)
        groups = plan_groups(studies[name])
        plan_members(studies[name], groups)
        for group in groups:
            at_task(group.settings, task)  # refuses a horizon that is too short for this task
        find_originals(studies[name])
    of_originals = [DEFAULT] if settings.originals != NONE else []
    for field, names in (("episodes", settings.episodes_by_task), ("originals", of_originals)):
        if strange := [name for name in names if name not in studies]:
            raise SettingsError(
                f"{field}: expected tasks of this suite ({', '.join(studies)}), found '{strange[0]}'. See --help."
            )
    return studies


def with_earlier(
    store: Store, settings: SuiteSettings, experiment: str, comparisons: Mapping[str, Comparison], say: Say
) -> dict[str, Comparison]:
    """The comparisons of a call, and of the studies of other tasks that earlier calls brought to their end.

    Tasks are in the project's order. Of a user's own task, which must be named for its code to be run, `say` is told
    that it is left out.
    """
    found = dict(comparisons)
    studies = {run.tags[STUDY]: run for run in search(store, {KIND: Kind.STUDY}, experiment)}
    for name, run in studies.items():
        task = task_of(run)
        if name != f"{settings.suite}-{task}" or task in found or not is_at_its_end(run):
            continue
        with contextlib.suppress(UserError):  # its data set is faulty, or no model of it is finished
            if named_task(task) is None:
                say(f"task {task}: its study is left out of the report: name the task again by --tasks")
            else:
                found[task] = gather(store, name, experiment, task).comparison
    return {task: found[task] for task in dict.fromkeys([*TASKS, *found]) if task in found}


def _run_studies(
    studies: Mapping[str, EnsembleSettings], say: Say, watch: Watch, suite: TrackedRun
) -> tuple[dict[str, Comparison], list[str]]:
    comparisons: dict[str, Comparison] = {}
    failures: list[str] = []
    refused: list[UserError] = []
    for number, (name, settings) in enumerate(studies.items(), start=1):
        say(f"task {name}: study {settings.study} ({number} of {len(studies)})")
        try:
            study = run_study(settings, say, watch, suite)
        except (RunError, UserError) as error:
            if isinstance(error, UserError):
                refused.append(error)
            failures.append(f"{name}: {one_line(error)}")
            continue
        failures += [f"{name}: {failure}" for failure in study.failures]
        if study.gathered:
            comparisons[name] = study.gathered.comparison
        elif not study.failures:
            failures.append(f"{name}: no model is finished")
    if len(refused) == len(studies):
        raise refused[0]
    return comparisons, failures
