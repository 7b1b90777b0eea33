"""A study: train groups of models, each model with its own seed, evaluate them all, report.

What runs of the same study in the store have done already is not done again.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import Timeout

from pipeline.config import NONE
from pipeline.data.pairs import load_action_pairs
from pipeline.errors import DataError, RunError, SettingsError, StoreError, one_line
from pipeline.evaluation.protocol import Protocol
from pipeline.executors.jobs import Job
from pipeline.executors.run import Watch, run_all
from pipeline.locks import file_lock
from pipeline.methods.method import Prepared
from pipeline.own_code import files_of
from pipeline.policies.load import load_policy
from pipeline.registry.register import register_members
from pipeline.report.design import Design, design_of
from pipeline.report.words import verdict_words
from pipeline.results.figures import TRADEOFF_TAG
from pipeline.results.gather import Gathered, gather
from pipeline.results.write import write_files
from pipeline.stages.held_out import episodes_of
from pipeline.stages.judging import Trial
from pipeline.stages.make_data import make_missing_data, require_same_data
from pipeline.stages.remote import ready_to_run
from pipeline.stages.train import prepare
from pipeline.stages.unfinished import end_abandoned
from pipeline.studies.design import design_for, tags_of
from pipeline.studies.jobs import (
    JOB_KINDS,
    Beside,
    Earlier,
    Runs,
    acting_jobs,
    average_jobs,
    job_name,
    judging_jobs,
    missing_jobs,
    together_name,
)
from pipeline.studies.plan import Group, Member, plan_groups, plan_members, together_groups
from pipeline.studies.settings import EnsembleSettings
from pipeline.studies.verdict import group_metrics, study_metrics, verdict_tags
from pipeline.tasks.settings import at_task, settle
from pipeline.tasks.task import Task
from pipeline.tracking.journal import journal_of
from pipeline.tracking.mirror import MIRROR
from pipeline.tracking.names import LOOKED, NAME, TASK, TOGETHER, Kind
from pipeline.tracking.owner import is_ours
from pipeline.tracking.query import StoredRun, fetch, group_of, search, search_study
from pipeline.tracking.run import TrackedRun, experiment_of, status_of, system_metrics
from pipeline.tracking.store import Store, home, open_store
from pipeline.tracking.study import open_group, open_study
from pipeline.training.device import choose_device
from pipeline.training.fit import training_warnings
from pipeline.versions import code_digest

REPORTS = MIRROR / "reports"
FOLDER = "report"  # of the study's artifacts
PUBLISHED = "published"  # tag of a study's run: digest of what its report and its registered models were made from
GROWS = {  # not params: calls differ
    "n_models", "executor", "workers", "ray_address", "together", "episodes", "evaluation_seed", "set", "methods",
    "until", "looks", "margin",
}  # fmt: skip

Say = Callable[[str], None]


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


@dataclass(frozen=True)
class Plan:
    """What a study is to be, checked: its groups with their data, and what is evaluated beside them."""

    task: Task
    settings: EnsembleSettings
    experiment: str
    groups: Sequence[Group]
    members: Sequence[Member]
    recipes: Mapping[str, Mapping[str, str]]  # what all models of each group share
    beside: Beside
    design: Design
    together: frozenset[str]  # the groups whose models are trained together
    files: tuple[Path, ...]  # that its jobs read

    @property
    def trial(self) -> Trial:
        """How everything is evaluated."""
        return Trial(self.settings.task, Protocol(self.design.episodes, self.design.seed), self.settings.pairs)

    @property
    def looks(self) -> tuple[int, ...]:
        """The numbers of models per group at which the study may stop; the last is the planned end."""
        looks = self.design.looks
        return (self.settings.n_models,) if looks == NONE else tuple(map(int, looks.split(",")))


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
    prepared = prepare_data(task, settings, groups, say)
    settings = settings.model_copy(update={"episodes": episodes_of(task, settings.pairs, settings.episodes)})
    tokenizers = [one.interface.tokenizer for one in prepared.values() if one.interface.tokenizer is not None]
    recipes = {group.name: group.recipe(prepared[group.name]) for group in groups}
    beside = Beside(originals, tokenizers[0] if tokenizers else None)
    store = open_store()
    experiment = experiment_of(store, settings.experiment)
    with one_at_a_time(settings.study):
        trained = {group.name: recipes[group.name] for group in groups if group.trained == group.name}
        design = design_for(task, settings, trained, study_tags(store, settings.study, experiment))
        files = files_read(settings, prepared.values(), beside)
        plan = Plan(task, settings, experiment, groups, members, recipes, beside, design, together, files)
        require_same_recipes(store, plan)
        study = open_study(store, settings.study, plan.experiment, suite=suite)
        runs = Runs(settings.study, task.name, study, {})
        try:
            with system_metrics(study):
                describe(store, plan, runs, say)
                tally = run_jobs(store, plan, runs, watch, say)
                gathered, files = publish(store, plan, runs, say)
        except BaseException as error:
            with contextlib.suppress(Exception):  # what cannot be told now, doctor or the next call tells
                end_all(store, runs, status_of(error))
            if isinstance(error, StoreError):
                raise RunError(f"study '{settings.study}': {one_line(error)} The same command continues it.") from error
            raise
        end_all(store, runs, "FAILED" if tally.failures or gathered is None else "FINISHED")
    seconds = time.monotonic() - started
    return Study(study.run_id, study.url, tally.done, tally.reused, tuple(tally.failures), seconds, gathered, files)


def prepare_data(task: Task, settings: EnsembleSettings, groups: Sequence[Group], say: Say) -> dict[str, Prepared]:
    """Make missing default data, and check each group's data before anything is started; raises `UserError` kinds."""
    prepared: dict[str, Prepared] = {}
    warnings: list[str] = []
    for group in groups:
        choose_device(group.settings)
        make_missing_data(group.settings, task, say)
        prepared[group.name] = prepare(group.method, group.settings, task)
        warnings += (*prepared[group.name].warnings, *training_warnings(group.settings, prepared[group.name]))
    for warning in dict.fromkeys(warnings):
        say(f"warning: {warning}")
    load_action_pairs(settings.pairs)  # the expert's chunks, whatever the methods
    if len({one.split.digest for one in prepared.values()}) > 1:
        files = " and ".join(str(one.files["data"]) for one in prepared.values())
        raise DataError(f"{files}: expected the same trajectories, found others: the groups would not compare.")
    for one in prepared.values():
        if one.interface.tokenizer is not None:
            require_same_data(one.files["data"], settings.pairs)
    return prepared


def files_read(settings: EnsembleSettings, prepared: Iterable[Prepared], beside: Beside) -> tuple[Path, ...]:
    """The files that the jobs of a study read."""
    found = [path for one in prepared for path in one.files.values()] + [settings.pairs]
    found += [Path(name) for original in beside.originals for name in original if name != NONE]
    return tuple(dict.fromkeys([*found, *files_of(settings.task)]))


def find_originals(settings: EnsembleSettings) -> list[tuple[Path, str]]:
    """The reference system's weights to evaluate beside ours, each with its tokenizer; raises `UserError` kinds."""
    if settings.originals == NONE:
        return []
    folder = Path(settings.originals)
    tokenizer = next((str(path) for path in sorted(folder.glob("*tokenizer*.json"))), NONE)
    found = [(path, tokenizer) for path in sorted(folder.glob("*.pth"))]
    if not found:
        raise SettingsError(f"originals: expected a folder with .pth files, found none in '{folder}'.")
    for path, _ in found:
        load_policy(path, None if tokenizer == NONE else tokenizer)
    return found


@contextmanager
def one_at_a_time(study: str, kind: Kind = Kind.STUDY) -> Iterator[None]:
    """Hold the lock of a study or suite; raises `SettingsError` if another process has it.

    It stands beside an sqlite store. For a tracking server it stands in this folder: `open_study` keeps others away.
    """
    home().mkdir(parents=True, exist_ok=True)
    try:
        with file_lock(home() / f".study-{study}.lock", blocking=False):
            yield
    except Timeout as error:
        raise SettingsError(
            f"{kind}: '{study}' is running already in another process. Wait, or name another."
        ) from error


def require_same_recipes(store: Store, plan: Plan) -> None:
    """Raise `SettingsError` if a study of this name has trained a group otherwise."""
    study = plan.settings.study
    for name, ours in plan.recipes.items():
        for run in search_study(store, study, plan.experiment):
            trained = run.tags.get("kind") == Kind.MODEL and run.status == "FINISHED"
            if group_of(run) != name or not (trained or run.tags.get("kind") == Kind.GROUP):
                continue
            was, ours_is = ("together" if is_so else "alone" for is_so in (TOGETHER in run.tags, name in plan.together))
            if trained and was != ours_is:
                raise SettingsError(
                    f"study: '{study}' has {name} models trained {was}, and {ours_is} is asked for: their bits differ. "
                    f"Use --together {'yes' if was == 'together' else 'no'}, or name another study with --study."
                )
            known = run.params | run.tags  # the tag device is where it was trained, not "auto"
            for setting, value in ours.items():
                if known.get(setting, value) != value:
                    raise SettingsError(
                        f"study: '{study}' has {name} models with {setting} {known[setting]}, and {value} is asked "
                        "for. Name another study with --study, or use the same settings and data."
                    )


def study_tags(store: Store, study: str, experiment: str) -> dict[str, str]:
    """The tags of a study's run; none if there is no such study yet."""
    found = search(store, experiment, study=study, kind=Kind.STUDY)
    return found[-1].tags if found else {}


def describe(store: Store, plan: Plan, runs: Runs, say: Say) -> None:
    """Log what the study is, before anything is evaluated, and open a run for each group."""
    tags = fetch(store, runs.study.run_id).tags
    if (known := design_of(tags)) is not None and known != plan.design:
        say(f"another verdict of this study, on other terms: {plan.design}. The terms before were {known}")
    runs.study.tags(tags_of(plan.design, tags) | {TASK: plan.task.name})
    settings = plan.settings.model_dump(mode="json")
    runs.study.params({name: value for name, value in settings.items() if name not in GROWS})
    runs.study.json("settings.json", settings)
    seeds = [plan.settings.base_seed, plan.settings.models]
    runs.study.json("plan.json", {"groups": plan.recipes, "seeds": seeds, "design": asdict(plan.design)})
    for group in plan.groups:
        run = open_group(store, runs.study, runs.place(runs.study, Kind.GROUP, group=group.name))
        runs.groups[group.name] = run
        run.tags({"method": group.method.name})
        run.params(plan.recipes[group.name])


def run_jobs(store: Store, plan: Plan, runs: Runs, watch: Watch, say: Say) -> Tally:
    """Run what is missing: members and what is evaluated beside them, other rules of acting, then averages.

    Members are trained up to each look in turn, and no further than the one that decides.
    """
    end_orphans(store, plan.settings.study, plan.experiment, "the study's process was gone")
    tally, before = Tally(), 0
    for look in plan.looks:
        first, last = (plan.settings.base_seed + count for count in (before, look))
        members = [member for member in plan.members if first <= member.settings.seed < last]
        measured = fetch(store, runs.study.run_id).tags.get(TRADEOFF_TAG, "")
        jobs, reused = missing_jobs(members, plan.beside, runs, find_earlier(store, plan), measured, plan.together)
        tally.reused += reused
        _run(store, plan, jobs, watch, tally)
        if plan.together:
            trained = [member for member in members if member.group in plan.together]
            _run(store, plan, judging_jobs(trained, find_earlier(store, plan)), watch, tally)
        _run(store, plan, acting_jobs(members, runs, find_earlier(store, plan)), watch, tally)
        if look != plan.looks[-1] and is_decided(store, plan, look, say):
            break
        before = look
    _run(store, plan, average_jobs(runs, find_earlier(store, plan)), watch, tally)
    runs.study.tags({"failures": "; ".join(tally.failures)[:5000] or NONE})
    return tally


def is_decided(store: Store, plan: Plan, look: int, say: Say) -> bool:
    """Whether the models up to a look decide between every two groups."""
    try:
        comparison = gather(store, plan.settings.study, plan.experiment, plan.settings.task).comparison
    except SettingsError:  # no model is finished
        return False
    verdicts = [each.verdict for each in comparison.contrasts]
    told = [verdict_words(verdict) for verdict in verdicts if verdict is not None]
    say(f"look at {look} models per group: {'; '.join(told) or 'nothing to compare'}")
    return all(verdict is not None and verdict.word != "undecided" for verdict in verdicts)


def _run(store: Store, plan: Plan, jobs: Sequence[Job[str]], watch: Watch, tally: Tally) -> None:
    def failed(job: Job[str], reason: str) -> None:
        with contextlib.suppress(StoreError):  # it is away: the next call, or doctor, ends the run
            end_orphans(store, plan.settings.study, plan.experiment, reason, job.name)

    left = what_was_left(store, plan) if jobs else {}
    jobs = [replace(job, files=plan.files, gpus=gpus_of(job, plan), left=tuple(left.get(job.name, ()))) for job in jobs]
    outcome = run_all(jobs, watch, plan.settings.executor, plan.settings.workers, failed)
    tally.done += len(outcome.results)
    tally.failures += outcome.failures


def gpus_of(job: Job[str], plan: Plan) -> float:
    """How many GPUs a job needs: a member, or all of a group together, as the group's recipe says."""
    kinds = {kind: recipe for group, recipe in plan.recipes.items() for kind in (group, together_name(group))}
    return float(kinds.get(job.kind, {}).get("device") == "cuda")


def what_was_left(store: Store, plan: Plan) -> dict[str, list[Path]]:
    """The journals of runs that broke off, by the names of their jobs: workers on other machines go on from these."""
    found: dict[str, list[Path]] = {}
    for run in search_study(store, plan.settings.study, plan.experiment):
        if run.status != "FINISHED" and run.tags.get("kind") in JOB_KINDS:
            files = filter(Path.is_file, journal_of(run.run_id).folder.rglob("*"))
            left = [Path(os.path.relpath(path)) for path in files]
            for name in (job_name(run), together_name(group_of(run))):
                found.setdefault(name, []).extend(left)
    return found


def end_orphans(store: Store, study: str, experiment: str, reason: str, name: str | None = None) -> None:
    """End runs of a study's jobs, or of the job `name`, whose process is gone."""
    for run in search_study(store, study, experiment):
        names = (None, job_name(run), together_name(group_of(run)))
        if run.status == "RUNNING" and run.tags.get("kind") in JOB_KINDS and name in names:
            end_abandoned(TrackedRun(store, run.run_id), run.tags.get(NAME, run.name), reason)


def find_earlier(store: Store, plan: Plan) -> Earlier:
    """The finished runs of the study's jobs."""
    found = search_study(store, plan.settings.study, plan.experiment)
    done = [run for run in found if run.status == "FINISHED" and run.tags.get("kind") in JOB_KINDS]
    return Earlier(done, plan.trial)


def end_all(store: Store, runs: Runs, status: str) -> None:
    """End the runs of the study and of its groups, unless another machine has taken the study over."""
    ours = is_ours(store, runs.study.run_id)
    with contextlib.ExitStack() as stack:  # one that fails does not keep the others from their end
        for run in (*runs.groups.values(), runs.study):
            stack.callback(partial(run.end, status) if ours else run.leave)


def publish(store: Store, plan: Plan, runs: Runs, say: Say) -> tuple[Gathered | None, tuple[Path, ...]]:
    """Report on the study to its runs, into the mirror and into the registry, unless nothing has changed since."""
    settings = plan.settings
    try:
        gathered = gather(store, settings.study, plan.experiment, settings.task)
    except SettingsError:  # no model is finished
        return None, ()
    folder = REPORTS / settings.study
    digest = _digest(find_earlier(store, plan).runs, settings, plan.design)
    files = tuple(sorted(folder.glob("[!.]*")))
    if files and fetch(store, runs.study.run_id).tags.get(PUBLISHED) == digest:
        say("the report and the registered models are up to date")
        return gathered, files
    say("writing tables and figures")
    written, _missing = write_files(store, gathered, folder, runs.study.run_id)
    for path in written:
        runs.study.file(path, FOLDER)
    for group in gathered.comparison.of_kind("model"):
        if group.name in runs.groups:
            runs.groups[group.name].metrics(group_metrics(group))
            runs.groups[group.name].flush()
    runs.study.metrics(study_metrics(gathered.comparison))
    runs.study.flush()
    registered = register_members(store, settings.study, plan.experiment, say, settings.task)
    looked = fetch(store, runs.study.run_id).tags.get(LOOKED, "")
    told = verdict_tags(gathered.comparison, settings.study, looked)
    runs.study.tags(told | ({PUBLISHED: digest} if registered else {}))
    return gathered, tuple(written)


def _digest(runs: Sequence[StoredRun], settings: EnsembleSettings, design: Design) -> str:
    """sha256 over all that a report is made from: the runs with their weights and evaluations, and our code."""
    parts: list[Any] = sorted(
        (run.run_id, run.tags.get("weights_sha256", ""), run.tags.get("evaluation", "")) for run in runs
    )
    return sha256(repr([parts, settings.study, design, code_digest()]).encode()).hexdigest()
