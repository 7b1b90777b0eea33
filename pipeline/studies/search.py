"""A search: trials of recipes for each method, all with the same budget; the best of each becomes a preset.

Trials have numbers, and go in rounds: those of a round are chosen before any of it is known. In a round all first seeds
are trained, then the other seeds of the trials that are not given up. What is true stands in MLflow's runs, search >
method > trial > models, so a search that was killed goes on to the trials of an undisturbed one.
"""

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

from pipeline.config import NONE, make
from pipeline.errors import DivergedError, RunError, SettingsError, StoreError, one_line
from pipeline.evaluation.protocol import Protocol
from pipeline.executors.jobs import Job, Report
from pipeline.executors.run import Watch, run_all
from pipeline.files import whole_file
from pipeline.methods.preset import Preset, preset_of, write_preset
from pipeline.report.figures import save
from pipeline.report.search import (
    COMPLETE,
    FAILED,
    PRUNED,
    Found,
    Searched,
    Tried,
    best_table,
    failures,
    search_csv,
    search_markdown,
    winners_table,
)
from pipeline.report.search_figures import draw_searched
from pipeline.stages.evaluate import MEAN, Trial
from pipeline.streams import derive
from pipeline.studies.jobs import Earlier, Runs, judge_again, make_member
from pipeline.studies.plan import Group, Member, plan_groups
from pipeline.studies.sampler import importances, is_hopeless, suggest
from pipeline.studies.settings import SearchSettings
from pipeline.studies.space import Params, Space, as_values, check_buildable, find_space, read_spaces
from pipeline.studies.study import FOLDER, REPORTS, Say, end_orphans, one_at_a_time, prepare_data
from pipeline.studies.verdict import NOTE
from pipeline.tasks.registry import find_task
from pipeline.tasks.settings import at_task
from pipeline.tasks.task import Task
from pipeline.tracking.names import OUTCOME, SEARCH, TASK, TRIED, Kind
from pipeline.tracking.query import artifact, search, search_study
from pipeline.tracking.run import Place, TrackedRun, experiment_of, status_of
from pipeline.tracking.store import Store, open_store
from pipeline.tracking.study import open_group, open_study

PURPOSE = "search"  # of its episodes: nothing else draws from this stream
PLAN_FILE = "plan.json"
EPISODES = "search.episodes"  # tag of the search's run; set after its plan is stored
GONE = "the search's process was gone"


@dataclass(frozen=True)
class Made:
    """What a search left."""

    run_id: str
    url: str
    searched: Searched
    files: tuple[Path, ...]
    presets: tuple[Path, ...]
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What a search is to be, checked."""

    task: Task
    settings: SearchSettings
    experiment: str
    groups: Mapping[str, Group]  # by method: the settings around those that are searched
    spaces: Mapping[str, Space]
    terms: Mapping[str, Any]  # what a search keeps from its first call to its last, as JSON has it

    @property
    def study(self) -> str:
        """The tag `study` of its runs. No study has such a name."""
        return f"search:{self.settings.search}"

    @property
    def trial(self) -> Trial:
        """How everything is evaluated."""
        settings = self.settings
        return Trial(settings.task, Protocol(settings.episodes, settings.seed, purpose=PURPOSE), settings.pairs)

    @property
    def seeds(self) -> range:
        """The training seeds of every trial."""
        return range(self.settings.base_seed, self.settings.base_seed + self.settings.seeds_per_trial)

    def settings_of(self, method: str, params: Params) -> Group:
        """Return the group of a trial's models, without its name; raises `SettingsError` if they cannot be."""
        group = self.groups[method]
        return replace(group, settings=make(type(group.settings), group.settings.model_dump() | params))


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

    def finished(self) -> Tried:
        """What came of it."""
        state = FAILED if self.reason else PRUNED if self.hopeless else COMPLETE
        scores = () if self.reason else tuple(self.scores)
        return Tried(self.method, self.number, self.params, state, scores, tuple(self.seconds), self.reason)


Finished = dict[str, dict[int, Tried]]
"""The finished trials by method and number."""


def run_search(settings: SearchSettings, say: Say, watch: Watch) -> Made:
    """Do what is missing of a search, and report on all of it.

    Bad input raises a `UserError` before any work. A trial whose training diverges has failed, and is not tried again.
    If a training fails otherwise, the others of its round go on, and then `RunError` is raised: the same command
    continues.
    """
    started = time.monotonic()
    store = open_store()
    plan = plan_search(settings, experiment_of(store, settings.experiment), say)
    with one_at_a_time(plan.study, Kind.SEARCH):
        known = known_terms(store, plan)
        require_same_terms(plan, known)
        run = open_study(store, plan.study, plan.experiment, Kind.SEARCH)
        runs = Runs(plan.study, plan.task.name, run, {})
        try:
            describe(store, plan, known, runs)
            finished = run_rounds(store, plan, runs, watch, say)
            searched = report_of(plan, finished)
            files, presets = publish(plan, runs, searched)
        except BaseException as error:
            end_all(runs, status_of(error))
            if isinstance(error, StoreError):
                text = f"search '{settings.search}': {one_line(error)} The same command continues it."
                raise RunError(text) from error
            raise
        end_all(runs, "FINISHED")
    return Made(run.run_id, run.url, searched, files, presets, time.monotonic() - started)


def plan_search(settings: SearchSettings, experiment: str, say: Say) -> Plan:
    """Check what is asked for, make missing data, and return the plan; raises `UserError` kinds."""
    task = find_task(settings.task)
    settings = at_task(settings, task)
    limits = settings.limits  # raises
    groups = {
        group.name: replace(group, settings=at_task(group.settings, task)) for group in plan_groups(settings.study)
    }
    path = find_space(settings.space)
    around = [(group.method, group.settings) for group in groups.values()]
    spaces = read_spaces(path, around, settings.budget == "equal")
    for method, space in spaces.items():
        fixed = {word.partition("=")[0].removeprefix(f"{method}.") for word in settings.set} & space.keys()
        if fixed:
            raise SettingsError(f"set: expected settings that are not searched, found {method}.{min(fixed)}.")
        points = prod(len(entry.grid()) for entry in space.values())
        if settings.sampler == "grid" and points < settings.trials:
            raise SettingsError(f"trials: expected at most {points}, the grid of {method}, found {settings.trials}.")
    assert limits.keys() == spaces.keys(), "a limit or none for every method"
    prepared = prepare_data(task, settings.study, list(groups.values()), say)
    for method, space in spaces.items():
        check_buildable(path, groups[method].method, groups[method].settings, space, prepared[method])
    kept = ("sampler", "pruning", "parallel", "seeds_per_trial", "seed", "base_seed", "episodes")
    terms: dict[str, Any] = {name: getattr(settings, name) for name in kept}
    terms |= {TASK: task.name, "score": task.primary}
    for method, group in groups.items():
        terms[f"space of {method}"] = as_values(spaces[method])
        terms[f"recipe of {method}"] = group.recipe(prepared[method])
    return Plan(task, settings, experiment, groups, spaces, json.loads(json.dumps(terms)))


def known_terms(store: Store, plan: Plan) -> dict[str, Any]:
    """The terms of the search of this name; none if it is new."""
    earlier = search(store, plan.experiment, study=plan.study, kind=Kind.SEARCH)
    if not earlier or EPISODES not in earlier[-1].tags:  # or it was killed before it had begun
        return {}
    with artifact(store, earlier[-1].run_id, PLAN_FILE) as path:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def require_same_terms(plan: Plan, known: Mapping[str, Any]) -> None:
    """Raise `SettingsError` if the search of this name was begun on other terms."""
    for name, value in plan.terms.items():
        had = known.get(name, value)
        if had == value:
            continue
        if isinstance(value, dict) and isinstance(had, dict):  # which of many
            part = next(key for key in (value | had) if value.get(key) != had.get(key))
            name, had, value = f"{name}: {part}", had.get(part), value.get(part)
        raise SettingsError(
            f"search: '{plan.settings.search}' has {name} {had}, and {value} is asked for. Name another with --search, "
            "or use the same settings and data."
        )


def describe(store: Store, plan: Plan, known: Mapping[str, Any], runs: Runs) -> None:
    """Log what the search is, before any trial, and open a run for each method."""
    runs.study.json(PLAN_FILE, {**known, **plan.terms})
    settings = plan.settings.model_dump(
        mode="json", include={"sampler", "pruning", "parallel", "seeds_per_trial", "seed"}
    )
    runs.study.params(settings)
    seeds = f"{plan.seeds[0]} to {plan.seeds[-1]}"
    runs.study.tags(
        {
            TASK: plan.task.name,
            SEARCH: plan.settings.search,
            "search.score": plan.task.primary,
            EPISODES: str(plan.trial.protocol),
            "search.seeds": seeds,
        }
    )
    for method, group in plan.groups.items():
        run = open_group(
            store, runs.study, runs.place(runs.study, Kind.GROUP, group=method, search=plan.settings.search)
        )
        runs.groups[method] = run
        run.tags({"method": method})
        run.params(
            {
                name: value
                for name, value in plan.terms[f"recipe of {method}"].items()
                if name not in plan.spaces[method]
            }
        )
        assert group.name == method, "a group of a search is a method"


def run_rounds(store: Store, plan: Plan, runs: Runs, watch: Watch, say: Say) -> Finished:
    """Run what is missing of each round, all methods beside each other; returns all finished trials."""
    settings = plan.settings
    end_orphans(store, plan.study, plan.experiment, GONE)
    finished = find_finished(store, plan)
    for first in range(0, settings.trials, settings.parallel):
        numbers = range(first, min(first + settings.parallel, settings.trials))
        tries = open_tries(store, plan, runs, finished, numbers)
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


def find_finished(store: Store, plan: Plan) -> Finished:
    """The finished trials of earlier calls."""
    finished: Finished = {method: {} for method in plan.groups}
    for run in search_study(store, plan.study, plan.experiment):
        if run.tags.get("kind") == Kind.TRIAL and OUTCOME in run.tags and run.tags["method"] in finished:
            method, number = run.tags["method"], int(run.tags["trial"])
            told = json.loads(run.tags[OUTCOME])
            finished[method][number] = Tried(
                method, number, json.loads(run.tags[TRIED]), told["state"], tuple(told["scores"]),
                tuple(told["seconds"]), told["reason"],
            )  # fmt: skip
    return finished


def open_tries(store: Store, plan: Plan, runs: Runs, finished: Finished, numbers: range) -> list[Try]:
    """The trials of a round that are not finished, each with its run; what it tries is there before it is trained."""
    tries = []
    for method in plan.groups:
        before = [finished[method][number] for number in range(numbers[0])]
        beside: list[Params] = []
        for number in numbers:
            done = finished[method].get(number)
            if done is not None:
                beside.append(dict(done.params))
                continue
            seed = derive(plan.settings.seed, "search", method)
            params = suggest(plan.spaces[method], plan.settings.sampler, seed, number, before, beside)
            beside.append(params)
            tries.append(_open(store, plan, runs, method, number, params))
    return tries


def _open(store: Store, plan: Plan, runs: Runs, method: str, number: int, params: Params) -> Try:
    name = f"{method} trial {number}"
    tags = {"group": name, "method": method, "trial": str(number), SEARCH: plan.settings.search}
    run = open_group(store, runs.groups[method], runs.place(runs.groups[method], Kind.TRIAL, **tags))
    run.params(params)
    run.tags({TRIED: json.dumps(params)})
    try:
        group = replace(plan.settings_of(method, params), name=name, trained=name)
        members = [group.member(seed) for seed in plan.seeds]
    except SettingsError as error:
        return Try(method, number, params, run, [], one_line(error))
    return Try(method, number, params, run, members)


def train_seeds(store: Store, plan: Plan, runs: Runs, tries: Sequence[Try], seeds: range, watch: Watch) -> None:
    """Train and evaluate the models of these seeds that are missing; raises `RunError` if one fails unforeseen."""
    wanted = [(each, member) for each in tries for member in each.members if member.settings.seed in seeds]
    earlier = _earlier(store, plan)
    jobs: list[Job[str]] = []
    owners: list[Try] = []
    for each, member in wanted:
        made = earlier.model(member.name)
        if made is not None and earlier.is_judged(made):
            continue
        work: Callable[[Report], str] = (
            partial(judge_again, made.run_id, plan.trial)
            if made
            else partial(make_member, member, _place(plan, runs, each, member), plan.trial, runs.study.experiment_id)
        )
        jobs.append(Job(member.name, each.method, partial(attempt, work)))
        owners.append(each)

    def failed(job: Job[str], reason: str) -> None:
        with contextlib.suppress(StoreError):  # it is away: the next call, or doctor, ends the run
            end_orphans(store, plan.study, plan.experiment, reason, job.name)

    outcome = run_all(jobs, watch, plan.settings.executor, plan.settings.workers, failed)
    if outcome.failures:
        raise RunError(
            f"search '{plan.settings.search}': {len(outcome.failures)} trainings failed, the first: "
            f"{outcome.failures[0]}. Run the same command again to go on."
        )
    for each, reason in zip(owners, outcome.results, strict=True):
        each.reason = each.reason or reason
    earlier = _earlier(store, plan)
    for each, member in wanted:
        made = earlier.model(member.name)
        if made is not None and earlier.is_judged(made):
            each.scores.append(made.metrics[f"{plan.task.primary}/{MEAN}"])
            each.seconds.append(made.metrics["train_seconds"])


def _earlier(store: Store, plan: Plan) -> Earlier:
    found = search_study(store, plan.study, plan.experiment)
    return Earlier([run for run in found if run.status == "FINISHED"], plan.trial)


def _place(plan: Plan, runs: Runs, each: Try, member: Member) -> Place:
    tags = {"group": member.group, "method": member.method, "seed": str(member.settings.seed)}
    return runs.place(each.run, Kind.MODEL, member.name, **tags, trial=str(each.number), search=plan.settings.search)


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
    score = plan.task.scores[plan.task.primary]
    words = {
        COMPLETE: f"{score.short} {score.text(made.value)}, {made.cost:.1f} s of training",
        PRUNED: f"given up after its first seed, {score.short} {score.text(made.value)}",
        FAILED: f"failed: {made.reason}",
    }
    say(f"{each.method} trial {each.number}: {words[made.state]}")
    return made


def report_of(plan: Plan, finished: Finished) -> Searched:
    """What the finished trials tell."""
    settings, limits = plan.settings, plan.settings.limits
    found = []
    for method, by_number in finished.items():
        tried = tuple(by_number[number] for number in sorted(by_number))
        found.append(Found(method, tried, importances(plan.spaces[method], tried), limits[method]))
    sizes = " or ".join(dict.fromkeys(str(len(space)) for space in plan.spaces.values()))
    terms = (
        f"Each method: {settings.trials} trials by {settings.sampler}, {sizes} searched settings, "
        f"{settings.seeds_per_trial} seeds from {settings.base_seed}, rounds of {settings.parallel}, pruning "
        f"{settings.pruning}; {plan.trial.protocol}."
    )
    return Searched(settings.search, plan.task.name, plan.task.scores[plan.task.primary], terms, tuple(found))


def publish(plan: Plan, runs: Runs, searched: Searched) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Write report, figures and presets into the mirror and the search's run; returns reports, and presets."""
    folder = REPORTS / plan.settings.search
    texts = {"search.md": search_markdown(searched), "trials.csv": search_csv(searched)}
    for name, text in texts.items():
        with whole_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    drawn = draw_searched(searched)
    for name, figure in drawn.items():
        save(figure, folder / f"{name}.png")
    files = (*(folder / name for name in texts), *(folder / f"{name}.png" for name in drawn))
    presets = []
    for each in searched.found:
        path = folder / f"{each.method}.yaml"
        if each.winner is None:
            path.unlink(missing_ok=True)  # of an earlier call, with another limit
            continue
        write_preset(path, preset_for_winner(plan, runs, each, each.winner))
        presets.append(path)
        runs.groups[each.method].metrics({"best_score": each.winner.value, "best_trial": float(each.winner.number)})
        runs.groups[each.method].flush()
    for path in (*files, *presets):
        runs.study.file(path, FOLDER)
    notes = "\n".join(f"- {line}" for line in failures(searched))
    tables = [winners_table(searched).markdown(), best_table(searched).markdown()]
    runs.study.tags(
        {NOTE: "\n\n".join([f"**Search {searched.name}**", *tables, notes]), "failures": notes[:5000] or NONE}
    )
    return files, tuple(presets)


def preset_for_winner(plan: Plan, runs: Runs, each: Found, won: Tried) -> Preset:
    """The preset of a method's winner, with the trials that it came from."""
    rows = [[one.number, dict(one.params), one.state, one.scores] for one in each.tried]
    states = [one.state for one in each.tried]
    found = {
        "search": plan.settings.search,
        "run_id": runs.study.run_id,
        "task": plan.task.name,
        "trial": won.number,
        "searched": [*won.params],
        "score": plan.task.primary,
        "mean": won.value,
        "scores": [*won.scores],
        "seeds": [*plan.seeds],
        "train_seconds": round(won.cost, 2),
        "episodes": str(plan.trial.protocol),
        "trials": {state: states.count(state) for state in (COMPLETE, PRUNED, FAILED)},
        "trials_sha256": sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest(),
    }
    group = plan.settings_of(each.method, dict(won.params))
    return preset_of(group.method, group.settings, found)


def end_all(runs: Runs, status: str) -> None:
    """End the runs of the search and of its methods."""
    with contextlib.ExitStack() as stack:  # one that fails does not keep the others from their end
        for run in (*runs.groups.values(), runs.study):
            stack.callback(partial(run.end, status))
