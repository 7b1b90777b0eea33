"""The trials of a search, in rounds: those of a round are chosen before any of it is known.

In a round all first seeds are trained, then the other seeds of the trials that are not given up. What is true stands in
MLflow's runs, search > method > trial > models.
"""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from pipeline.errors import DivergedError, RunError, SettingsError, one_line
from pipeline.executors.jobs import Job, Report
from pipeline.executors.run import Watch, run_all
from pipeline.report.search import COMPLETE, FAILED, PRUNED, Tried
from pipeline.stages.judging import MEAN
from pipeline.stages.say import Say
from pipeline.streams import derive
from pipeline.studies.groups import Member
from pipeline.studies.jobs import Runs, end_failed, end_orphans, find_earlier, what_was_left, with_files
from pipeline.studies.sampler import is_hopeless, suggest
from pipeline.studies.search_plan import Plan
from pipeline.studies.space import Params
from pipeline.studies.work import judge_again, make_member
from pipeline.tracking.begin import Place
from pipeline.tracking.names import OUTCOME, REASON, SEARCH, TRIED, Kind
from pipeline.tracking.query import search_study
from pipeline.tracking.run import TrackedRun, status_of
from pipeline.tracking.store import Store
from pipeline.tracking.study import open_group

GONE = "the search's process was gone"


@dataclass(frozen=True)
class Begun:
    """What is settled of a trial from its beginning."""

    params: Params
    reason: str = ""  # why these settings make no model, if an earlier call found that


@dataclass
class Try:
    """A trial under way."""

    method: str
    number: int
    params: Params
    run: TrackedRun
    members: list[Member]  # by seed; none where such settings cannot be
    reason: str = ""  # why it failed
    scores: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    hopeless: bool = False

    def fail(self, reason: str) -> None:
        """Note why it has failed, in the store at once: no later call trains these settings again."""
        if not self.reason:
            self.reason = reason
            self.run.tags({REASON: reason})

    def finished(self) -> Tried:
        """What came of it."""
        state = FAILED if self.reason else PRUNED if self.hopeless else COMPLETE
        scores = () if self.reason else tuple(self.scores)
        return Tried(self.method, self.number, self.params, state, scores, tuple(self.seconds), self.reason)


Finished = dict[str, dict[int, Tried]]
"""The finished trials by method and number."""


def run_rounds(store: Store, plan: Plan, runs: Runs, watch: Watch, say: Say) -> Finished:
    """Run what is missing of each round, all methods beside each other; returns all finished trials."""
    settings = plan.settings
    end_orphans(store, plan.study, plan.experiment, GONE)
    finished, begun = find_trials(store, plan)
    for first in range(0, settings.trials, settings.parallel):
        numbers = range(first, min(first + settings.parallel, settings.trials))
        tries = open_tries(store, plan, runs, finished, begun, numbers)
        try:
            train_seeds(store, plan, runs, tries, plan.seeds[:1], watch)
            for each in tries:
                earlier = [one.scores[0] for one in finished[each.method].values() if one.number < first and one.scores]
                pruned = settings.pruning == "median" and not each.reason and len(plan.seeds) > 1
                each.hopeless = pruned and is_hopeless(each.scores[0], earlier)
            going_on = [each for each in tries if not (each.hopeless or each.reason)]
            train_seeds(store, plan, runs, going_on, plan.seeds[1:], watch)
            for each in tries:
                finished[each.method][each.number] = close(plan, each, say)
        except BaseException as error:
            for each in tries:
                with contextlib.suppress(Exception):  # what cannot be told now, doctor or the next call tells
                    each.run.end(status_of(error))
            raise
    return finished


def find_trials(store: Store, plan: Plan) -> tuple[Finished, dict[tuple[str, int], Begun]]:
    """The finished trials of earlier calls, and those that were begun, by method and number."""
    finished: Finished = {method: {} for method in plan.groups}
    begun: dict[tuple[str, int], Begun] = {}
    for run in search_study(store, plan.study, plan.experiment):
        if run.tags.get("kind") != Kind.TRIAL or TRIED not in run.tags or run.tags["method"] not in finished:
            continue
        method, number = run.tags["method"], int(run.tags["trial"])
        begun[method, number] = Begun(json.loads(run.tags[TRIED]), run.tags.get(REASON, ""))
        if OUTCOME in run.tags:
            told = json.loads(run.tags[OUTCOME])
            finished[method][number] = Tried(
                method, number, begun[method, number].params, told["state"], tuple(told["scores"]),
                tuple(told["seconds"]), told["reason"],
            )  # fmt: skip
            if run.status == "RUNNING":  # its process was killed before it could say so
                TrackedRun(store, run.run_id).end("FAILED" if told["state"] == FAILED else "FINISHED")
    return finished, begun


def open_tries(
    store: Store,
    plan: Plan,
    runs: Runs,
    finished: Finished,
    begun: Mapping[tuple[str, int], Begun],
    numbers: range,
) -> list[Try]:
    """The trials of a round that are not finished, each with its run; what it tries is there before it is trained.

    One that was begun goes on with what it tried, whatever would be suggested now.
    """
    tries = []
    for method in plan.groups:
        before = [finished[method][number] for number in range(numbers[0])]
        beside: list[Params] = []
        for number in numbers:
            known = begun.get((method, number))
            if known is None:
                seed = derive(plan.settings.seed, "search", method)
                known = Begun(suggest(plan.spaces[method], plan.settings.sampler, seed, number, before, beside))
            beside.append(known.params)
            if number not in finished[method]:
                tries.append(_open(store, plan, runs, method, number, known))
    return tries


def _open(store: Store, plan: Plan, runs: Runs, method: str, number: int, begun: Begun) -> Try:
    name = f"{method} trial {number}"
    tags = {"group": name, "method": method, "trial": str(number), SEARCH: plan.settings.search}
    run = open_group(store, runs.groups[method], runs.place(runs.groups[method], Kind.TRIAL, **tags))
    run.params(begun.params)
    run.tags({TRIED: json.dumps(begun.params)})
    try:
        group = replace(plan.settings_of(method, begun.params), name=name, trained=name)
        members = [group.member(seed) for seed in plan.seeds]
    except SettingsError as error:
        return Try(method, number, begun.params, run, [], one_line(error))
    return Try(method, number, begun.params, run, members, begun.reason)


def train_seeds(store: Store, plan: Plan, runs: Runs, tries: Sequence[Try], seeds: range, watch: Watch) -> None:
    """Train and evaluate the models of these seeds that are missing; raises `RunError` if one fails unforeseen."""
    wanted = [(each, member) for each in tries for member in each.members if member.settings.seed in seeds]
    earlier = find_earlier(store, plan.study, plan.experiment, plan.trial)
    jobs: list[Job[str]] = []
    owners: dict[str, Try] = {}  # by the job's name
    for each, member in wanted:
        made = earlier.model(member.name)
        if each.reason or (made is not None and earlier.is_judged(made)):
            continue
        work: Callable[[Report], str] = (
            partial(judge_again, made.run_id, plan.trial)
            if made
            else partial(make_member, member, _place(plan, runs, each, member), plan.trial, runs.study.experiment_id)
        )
        gpus = 0.0 if made else plan.gpus[each.method]
        jobs.append(Job(member.name, each.method, partial(attempt, work), gpus=gpus))
        owners[member.name] = each

    def take(job: Job[str], reason: str) -> None:
        if reason:
            owners[job.name].fail(reason)

    failed = partial(end_failed, store, plan.study, plan.experiment)
    left = what_was_left(store, plan.study, plan.experiment) if plan.settings.executor == "ray" else {}
    told = with_files(jobs, plan.files, left)
    outcome = run_all(told, watch, plan.settings.executor, plan.settings.workers, failed, take)
    if outcome.failures:
        raise RunError(
            f"search '{plan.settings.search}': {len(outcome.failures)} trainings failed, the first: "
            f"{outcome.failures[0]}. Run the same command again to go on."
        )
    earlier = find_earlier(store, plan.study, plan.experiment, plan.trial)
    for each, member in wanted:
        made = earlier.model(member.name)
        if made is not None and earlier.is_judged(made):
            each.scores.append(made.metrics[f"{plan.task.primary}/{MEAN}"])
            each.seconds.append(made.metrics["train_seconds"])


def _place(plan: Plan, runs: Runs, each: Try, member: Member) -> Place:
    tags = member.tags | {"trial": str(each.number), SEARCH: plan.settings.search}
    return runs.place(each.run, Kind.MODEL, member.name, **tags)


def attempt(work: Callable[[Report], str], report: Report) -> str:
    """Do a job of a trial; returns why its settings make no model, or nothing."""
    try:
        work(report)
    except (DivergedError, SettingsError) as error:
        return one_line(error)
    return ""


def close(plan: Plan, each: Try, say: Say) -> Tried:
    """Log what came of a trial, and end its run."""
    made = each.finished()
    for number, score in enumerate(made.scores):
        each.run.metrics({"score_by_seed": score}, number)
    if made.scores:
        each.run.metrics({"score": made.value, "train_seconds": made.cost})
    each.run.flush()
    told = {"state": made.state, "scores": made.scores, "seconds": made.seconds, "reason": made.reason}
    each.run.tags({OUTCOME: json.dumps(told), "state": made.state})
    each.run.end("FAILED" if made.state == FAILED else "FINISHED")
    primary = plan.task.scores[plan.task.primary]
    words = {
        COMPLETE: f"{primary.short} {primary.text(made.value)}, {made.cost:.1f} s of training",
        PRUNED: f"given up after its first seed, {primary.short} {primary.text(made.value)}",
        FAILED: f"failed: {made.reason}",
    }
    say(f"{each.method} trial {each.number}: {words[made.state]}")
    return made
