"""A study: train groups of models, each model with its own seed, evaluate them all, report.

What runs of the same study in the store have done already is not done again.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.executors.jobs import Job
from pipeline.executors.run import Watch, is_elsewhere, run_all
from pipeline.names import COMPLETE, FAILURES, GROUP, KIND, METHOD, STUDY, TASK, Kind
from pipeline.report.design import design_of
from pipeline.report.words import verdict_words
from pipeline.results.figures import TRADEOFF_TAG
from pipeline.results.gather import Gathered, gather
from pipeline.stages.held_out import within
from pipeline.stages.remote import ready_to_run
from pipeline.stages.say import Say
from pipeline.studies.design import caution, design_for, tags_of
from pipeline.studies.groups import plan_groups, plan_members, together_groups
from pipeline.studies.jobs import (
    Runs,
    acting_jobs,
    average_jobs,
    end_failed,
    end_orphans,
    find_earlier,
    judging_jobs,
    missing_jobs,
    what_was_left,
    with_files,
)
from pipeline.studies.publish import publish
from pipeline.studies.settings import EnsembleSettings
from pipeline.studies.study_plan import Beside, Plan, files_read, find_originals, prepare_data, require_same_recipes
from pipeline.tasks.settings import at_task, settle
from pipeline.tracking.begin import experiment_of, system_metrics
from pipeline.tracking.query import fetch, search
from pipeline.tracking.run import TrackedRun
from pipeline.tracking.store import Store, open_store
from pipeline.tracking.study import (
    as_tag,
    describe_call,
    end_all,
    ended_by_errors,
    one_at_a_time,
    open_group,
    open_study,
)

GROWS = {  # not params: calls differ
    "n_models", "executor", "workers", "ray_address", "together", "episodes", "evaluation_seed", "set", "methods",
    "until", "looks", "margin",
}  # fmt: skip


@dataclass(frozen=True)
class Study:
    """What a study left."""

    run_id: str
    url: str
    done: int  # jobs of this call
    reused: int  # models that earlier calls had finished
    failures: tuple[str, ...]
    seconds: float
    gathered: Gathered | None  # None where no model was finished
    files: tuple[Path, ...]


@dataclass
class Tally:
    """How many jobs came to what."""

    done: int = 0
    reused: int = 0
    failures: list[str] = field(default_factory=list)


def run_study(settings: EnsembleSettings, say: Say, watch: Watch, suite: TrackedRun | None = None) -> Study:
    """Do what is missing of a study, one torch thread per job, and report on all of it.

    Its run is below that of its suite, if it has one.

    Bad input raises a `UserError` before any work. A member that fails is tried once more, then recorded as failed;
    the others go on.
    """
    with ready_to_run(settings, in_store=True):
        return _run_study(settings, say, watch, suite)


def _run_study(settings: EnsembleSettings, say: Say, watch: Watch, suite: TrackedRun | None) -> Study:
    started = time.monotonic()
    settings, task = settle(settings)
    groups = [replace(group, settings=at_task(group.settings, task)) for group in plan_groups(settings)]
    members = plan_members(settings, groups)
    together = together_groups(settings, groups)
    originals = find_originals(settings)
    prepared, most = prepare_data(task, settings, groups, say)
    settings = settings.model_copy(update={"episodes": within(most, settings.episodes)})
    tokenizers = [one.interface.tokenizer for one in prepared.values() if one.interface.tokenizer is not None]
    recipes = {group.name: group.recipe(prepared[group.name]) for group in groups}
    beside = Beside(originals, tokenizers[0] if tokenizers else None)
    store = open_store()
    experiment = experiment_of(store, settings.experiment)
    with one_at_a_time(settings.study):
        trained = {group.name: recipes[group.name] for group in groups if group.trained == group.name}
        design = design_for(task, settings, trained, study_tags(store, settings.study, experiment))
        files = files_read(settings, prepared.values(), beside)
        plan = Plan(
            task=task,
            settings=settings,
            experiment=experiment,
            groups=groups,
            members=members,
            recipes=recipes,
            beside=beside,
            design=design,
            together=together,
            files=files,
        )
        require_same_recipes(store, plan)
        study = open_study(store, settings.study, plan.experiment, suite=suite)
        runs = Runs(settings.study, task.name, study, {})
        with ended_by_errors(store, study, runs.groups, f"study '{settings.study}'"), system_metrics(study):
            describe(store, plan, runs, say)
            tally = run_jobs(store, plan, runs, watch, say)
            gathered, files = publish(store, plan, runs, say)
            study.tags({COMPLETE: "yes"})
        end_all(store, study, runs.groups, "FAILED" if tally.failures or gathered is None else "FINISHED")
    seconds = time.monotonic() - started
    return Study(study.run_id, study.url, tally.done, tally.reused, tuple(tally.failures), seconds, gathered, files)


def study_tags(store: Store, study: str, experiment: str) -> dict[str, str]:
    """The tags of a study's run; none if there is no such study yet."""
    found = search(store, {STUDY: study, KIND: Kind.STUDY}, experiment)
    return found[-1].tags if found else {}


def describe(store: Store, plan: Plan, runs: Runs, say: Say) -> None:
    """Log what the study is, before anything is evaluated, and open a run for each group."""
    tags = fetch(store, runs.study.run_id).tags
    if (known := design_of(tags)) is not None and known != plan.design:
        say(f"another verdict of this study, on other terms: {plan.design}. The terms before were {known}")
    if warning := caution(plan.design, [group.trained for group in plan.groups]):
        say(f"warning: {warning}")
    runs.study.tags(tags_of(plan.design, tags) | {TASK: plan.task.name, COMPLETE: "no"})
    settings = plan.settings.model_dump(mode="json")
    describe_call(runs.study, settings, settings.keys() - GROWS)
    seeds = [plan.settings.base_seed, plan.settings.models]
    runs.study.json("plan.json", {"groups": plan.recipes, "seeds": seeds, "design": asdict(plan.design)})
    for group in plan.groups:
        run = open_group(store, runs.study, runs.place(runs.study, Kind.GROUP, {GROUP: group.name}))
        runs.groups[group.name] = run
        run.tags({METHOD: group.method.name})
        run.params(plan.recipes[group.name])


def run_jobs(store: Store, plan: Plan, runs: Runs, watch: Watch, say: Say) -> Tally:
    """Run what is missing: members and what is evaluated beside them, other rules of acting, then averages.

    Members are trained up to each look in turn, and no further than the one that decides.
    """
    end_orphans(store, plan.study, plan.experiment, "the study's process was gone")
    tally, before = Tally(), 0
    earlier = partial(find_earlier, store, plan.study, plan.experiment, plan.evaluation)
    for look in plan.looks:
        first, last = (plan.settings.base_seed + count for count in (before, look))
        members = [member for member in plan.members if first <= member.settings.seed < last]
        measured = fetch(store, runs.study.run_id).tags.get(TRADEOFF_TAG, "")
        jobs, reused = missing_jobs(members, plan.beside, runs, earlier(), measured, plan.together, plan.needs)
        tally.reused += reused
        _run(store, plan, jobs, watch, tally)
        if plan.together:
            trained = [member for member in members if member.group in plan.together]
            _run(store, plan, judging_jobs(trained, earlier()), watch, tally)
        _run(store, plan, acting_jobs(members, runs, earlier()), watch, tally)
        if look != plan.looks[-1] and is_decided(store, plan, look, say):
            break
        before = look
    _run(store, plan, average_jobs(runs, earlier()), watch, tally)
    runs.study.tags({FAILURES: as_tag("; ".join(tally.failures))})
    return tally


def is_decided(store: Store, plan: Plan, look: int, say: Say) -> bool:
    """Whether the models up to a look decide between every two groups."""
    try:
        comparison = gather(store, plan.study, plan.experiment, plan.settings.task).comparison
    except SettingsError:  # no model is finished
        return False
    verdicts = [each.verdict for each in comparison.contrasts]
    told = [verdict_words(verdict) for verdict in verdicts if verdict is not None]
    seen = max((each.models for verdict in verdicts if verdict for each in verdict.looks), default=look)
    say(f"look at {seen} models per group: {'; '.join(told) or 'nothing to compare'}")
    present = {group.name for group in comparison.of_kind("model")} >= {group.name for group in plan.groups}
    return present and bool(told) and all(verdict and verdict.word != "undecided" for verdict in verdicts)


def _run(store: Store, plan: Plan, jobs: Sequence[Job[str]], watch: Watch, tally: Tally) -> None:
    left = what_was_left(store, plan.study, plan.experiment) if is_elsewhere(plan.settings.executor) else {}
    failed = partial(end_failed, store, plan.study, plan.experiment)
    outcome = run_all(with_files(jobs, plan.files, left), watch, plan.settings.executor, plan.settings.workers, failed)
    tally.done += len(outcome.results)
    tally.failures += outcome.failures
