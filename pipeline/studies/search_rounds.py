"""The rounds of a search: the trials of a round are chosen before any of it is known.

In a round all first seeds are trained, then the other seeds of the trials that are not given up.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial

from pipeline.errors import DivergedError, ResumeError, RunError, SettingsError, one_line
from pipeline.executors.jobs import Job, Report, Resources
from pipeline.executors.run import Watch, is_elsewhere, run_all
from pipeline.methods.registry import METHODS
from pipeline.names import SEARCH, TRAIN_SECONDS, TRIAL, Kind
from pipeline.stages.judging import MEAN
from pipeline.stages.say import Say
from pipeline.studies.groups import Member
from pipeline.studies.jobs import (
    Earlier,
    Runs,
    end_failed,
    end_orphans,
    find_earlier,
    what_was_left,
    with_files,
)
from pipeline.studies.sampler import is_hopeless
from pipeline.studies.search_plan import Plan
from pipeline.studies.search_trials import Finished, Trial, close, find_trials, open_trials
from pipeline.studies.work import judge_again, make_member, make_together, require_none
from pipeline.tracking.begin import Place
from pipeline.tracking.run import status_of
from pipeline.tracking.store import Store
from pipeline.training.together import in_common, stacks_of

GONE = "the search's process was gone"

Wanted = Sequence[tuple[Trial, Member]]
"""Members that are to be trained and evaluated, each with its trial."""

Reasons = dict[str, str]
"""Why settings make no model, by the names of members: what a job of a search returns."""


def run_rounds(store: Store, plan: Plan, runs: Runs, watch: Watch, say: Say) -> Finished:
    """Run what is missing of each round, all methods beside each other; returns all finished trials."""
    settings = plan.settings
    end_orphans(store, plan.study, plan.experiment, GONE)
    finished, begun = find_trials(store, plan)
    for first in range(0, settings.trials, settings.parallel):
        numbers = range(first, min(first + settings.parallel, settings.trials))
        trials = open_trials(store, plan, runs, finished, begun, numbers)
        try:
            train_seeds(store, plan, runs, trials, plan.seeds[:1], watch)
            for each in trials:
                earlier = [one.scores[0] for one in finished[each.method].values() if one.number < first and one.scores]
                pruned = settings.pruning == "median" and not each.reason and len(plan.seeds) > 1
                each.hopeless = pruned and is_hopeless(each.scores[0], earlier)
            going_on = [each for each in trials if not (each.hopeless or each.reason)]
            train_seeds(store, plan, runs, going_on, plan.seeds[1:], watch)
            for each in trials:
                finished[each.method][each.number] = close(plan, each, say)
        except BaseException as error:
            for each in trials:
                with contextlib.suppress(Exception):  # what cannot be told now, doctor or the next call tells
                    each.run.end(status_of(error))
            raise
    return finished


def train_seeds(store: Store, plan: Plan, runs: Runs, trials: Sequence[Trial], seeds: range, watch: Watch) -> None:
    """Train and evaluate the models of these seeds that are missing; raises `RunError` if one fails unforeseen."""
    wanted = [(each, member) for each in trials for member in each.members if member.settings.seed in seeds]
    earlier = partial(find_earlier, store, plan.study, plan.experiment, plan.evaluation)
    failures: list[str] = []
    for jobs_of in (stack_jobs, single_jobs) if plan.together else (single_jobs,):  # evaluated one by one
        go_on = True
        while go_on:  # without those whose settings make no model: in their stacks others may have failed otherwise
            before = sum(bool(each.reason) for each in trials)
            told = run_jobs(store, plan, jobs_of(plan, runs, wanted, earlier()), wanted, watch)
            go_on = not told and sum(bool(each.reason) for each in trials) > before
        failures += told
    if failures:
        raise RunError(
            f"search '{plan.settings.search}': {len(failures)} trainings failed, the first: {failures[0]}. "
            "Run the same command again to go on."
        )
    known = earlier()
    for each, member in wanted:
        made = known.model(member.name)
        if made is not None and known.is_judged(made):
            each.scores.append(made.metrics[f"{plan.task.primary}/{MEAN}"])
            each.seconds.append(made.metrics[TRAIN_SECONDS])


def stack_jobs(plan: Plan, runs: Runs, wanted: Wanted, earlier: Earlier) -> list[Job[Reasons]]:
    """The jobs that train missing models of methods that train together: those that can be are one stack, or several.

    A model that no other is like is a stack of one, or the company of a trial would choose the way it is trained.
    """
    stacks: dict[tuple[str, ...], list[tuple[Member, Place]]] = {}
    for each, member in wanted:
        if each.method not in plan.together or each.reason or earlier.model(member.name) is not None:
            continue
        stacked = METHODS[each.method].stacked
        assert stacked is not None, "the plan has no other methods together"
        alike = (each.method, *in_common(stacked, member.settings).values())
        stacks.setdefault(alike, []).append((member, place_of(plan, runs, each, member)))
    jobs = []
    for (method, *_), whole in stacks.items():
        for members in stacks_of(whole):
            names = tuple(member.name for member, _ in members)
            name, kind = f"{names[0]} in a stack of {len(names)}", f"{method} together"
            work = partial(attempt_together, members, runs.study.experiment_id)
            jobs.append(Job(name, kind, work, needs=plan.needs[method], makes=names))
    return jobs


def single_jobs(plan: Plan, runs: Runs, wanted: Wanted, earlier: Earlier) -> list[Job[Reasons]]:
    """The jobs of a member each, which train it alone and evaluate it, or evaluate what is trained already."""
    jobs: list[Job[Reasons]] = []
    for each, member in wanted:
        made = earlier.model(member.name)
        if each.reason or (made is None and each.method in plan.together) or (made and earlier.is_judged(made)):
            continue
        place = place_of(plan, runs, each, member)
        work: Callable[[Report], str] = (
            partial(judge_again, made.run_id, plan.evaluation)
            if made
            else partial(make_member, member, place, plan.evaluation, runs.study.experiment_id)
        )
        needs = Resources() if made else plan.needs[each.method]
        jobs.append(Job(member.name, each.method, partial(attempt, member.name, work), needs=needs))
    return jobs


def run_jobs(store: Store, plan: Plan, jobs: Sequence[Job[Reasons]], wanted: Wanted, watch: Watch) -> list[str]:
    """Run jobs, and note which trials have failed as soon as that is known; returns a line for each failed job."""
    owners = {member.name: each for each, member in wanted}

    def take(_job: Job[Reasons], reasons: Reasons) -> None:
        for name, reason in reasons.items():
            owners[name].fail(reason)

    failed = partial(end_failed, store, plan.study, plan.experiment)
    left = what_was_left(store, plan.study, plan.experiment) if is_elsewhere(plan.settings.executor) else {}
    told = with_files(jobs, plan.files, left)
    return run_all(told, watch, plan.settings.executor, plan.settings.workers, failed, take).failures


def place_of(plan: Plan, runs: Runs, each: Trial, member: Member) -> Place:
    """Where the run of a trial's model goes."""
    tags = member.tags | {TRIAL: str(each.number), SEARCH: plan.settings.search}
    return runs.place(each.run, Kind.MODEL, tags, member.name)


def attempt(name: str, work: Callable[[Report], str], report: Report) -> Reasons:
    """Do the job of a member; returns why its settings make no model, if they make none."""
    try:
        work(report)
    except ResumeError:  # it says nothing about the settings
        raise
    except (DivergedError, SettingsError) as error:
        return {name: one_line(error)}
    return {}


def attempt_together(members: Sequence[tuple[Member, Place]], experiment_id: str, report: Report) -> Reasons:
    """Train the members of a stack; returns why settings make no model.

    Raises `RunError` if some failed otherwise and none so: else what is known would be lost with the job.
    """
    try:
        errors = make_together(members, experiment_id, report)
    except ResumeError:  # it says nothing about the settings
        raise
    except SettingsError as error:  # before any has begun, of settings that they have in common
        return {member.name: one_line(error) for member, _ in members}
    diverged = {name: one_line(error) for name, error in errors.items() if isinstance(error, DivergedError)}
    if not diverged:
        require_none(errors)
    return diverged
