"""Evaluate models under the conditions of a task: files, MLflow runs, studies, and baseline controllers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from secrets import token_hex

from pipeline.config import NONE
from pipeline.data.pairs import load_action_pairs
from pipeline.errors import RunError, SettingsError
from pipeline.evaluation.protocol import Protocol
from pipeline.executors.jobs import Job, Report
from pipeline.executors.run import Watch, run_all
from pipeline.files import check_file, file_digest
from pipeline.methods.registry import METHODS
from pipeline.names import KIND, METHOD, STUDY, Kind
from pipeline.own_code import files_of
from pipeline.report.design import design_of
from pipeline.stages.changed import changed_data
from pipeline.stages.foreign import opened
from pipeline.stages.held_out import check_held_out, most_episodes, require_pairs, within
from pipeline.stages.judging import EvaluationSpec, Judged, judge_file, judge_foreign, judge_run, judge_yardstick
from pipeline.stages.models import load_for, models_of_study, require_finished, require_task
from pipeline.stages.recorded import write_table
from pipeline.stages.remote import ready_to_run
from pipeline.stages.say import Say, silent
from pipeline.stages.settings import AsksPolicies, EvaluateSettings
from pipeline.tasks.settings import at_task, settle
from pipeline.tasks.task import Task
from pipeline.tracking.query import StoredRun, fetch, group_of, is_average, search, search_study
from pipeline.tracking.store import Store, open_store


def protocol_for(settings: EvaluateSettings, most: int | None) -> Protocol:
    """The protocol to evaluate by: of a study its own, which was fixed before its first evaluation.

    `most` is how many episodes there are, None for any number. Raises `SettingsError` if another one is asked for.
    """
    asked = Protocol(within(most, settings.episodes), settings.seed)
    if settings.study == NONE:
        return asked
    fixed = fixed_protocol(search_study(open_store(), settings.study, settings.experiment))
    if fixed is None:
        return asked
    fields = EvaluateSettings.model_fields
    default = Protocol(within(most, fields["episodes"].default), fields["seed"].default)
    if asked not in (fixed, default):
        raise SettingsError(
            f"study: '{settings.study}' is evaluated by {fixed}, and {asked} is asked for. Leave out --episodes and "
            "--seed, or run the study again on other terms, which makes another verdict."
        )
    return fixed


def fixed_protocol(runs: Sequence[StoredRun]) -> Protocol | None:
    """The protocol that a study has fixed for its models, from its runs; None if it has none."""
    design = next((design_of(run.tags) for run in reversed(runs) if run.tags.get(KIND) == Kind.STUDY), None)
    return None if design is None else Protocol(design.episodes, design.seed)


def judged_otherwise(store: Store, runs: Sequence[StoredRun], protocol: Protocol) -> list[StoredRun]:
    """The runs whose study has fixed another protocol: this evaluation must not replace what the study compares."""

    @cache
    def fixed(study: str, experiment_id: str) -> Protocol | None:
        found = search(store, {STUDY: study, KIND: Kind.STUDY})
        return fixed_protocol([each for each in found if each.experiment_id == experiment_id])

    return [run for run in runs if fixed(run.tags.get(STUDY, ""), run.experiment_id) not in (None, protocol)]


@dataclass(frozen=True)
class Candidate:
    """A model, somebody else's policy or a yardstick that is to be evaluated."""

    name: str
    method: str  # of others and yardsticks the name: each is a method of its own
    judge: Callable[[EvaluationSpec, Report], Judged]


def evaluate(settings: EvaluateSettings, watch: Watch, say: Say = silent) -> list[Judged]:
    """Evaluate all named models in the order given, then policies of others, then the yardsticks.

    `say` is told of runs whose data has changed.

    Bad input raises a `UserError` before any work; `RunError` names the models that could not be evaluated.
    """
    settings, contenders, spec = find_contenders(settings, say)
    if settings.csv != NONE:
        check_file(Path(settings.csv), "csv")
    jobs = [Job(each.name, each.method, partial(each.judge, spec)) for each in contenders]
    executor = settings.executor if len(jobs) > 1 else "serial"  # a process of its own takes longer than one model
    results = run_judging(settings.model_copy(update={"executor": executor}), jobs, watch)
    if settings.csv != NONE:
        rows = zip(contenders, results, strict=True)
        write_table(Path(settings.csv), [(each.method, made.name, made.evaluation) for each, made in rows])
    return results


def run_judging(
    settings: EvaluateSettings,
    jobs: Sequence[Job[Judged]],
    watch: Watch,
    take: Callable[[Job[Judged], Judged], None] | None = None,
) -> list[Judged]:
    """Run jobs of an evaluation as the settings say, see `run_all`; raises `RunError` if some failed."""
    with ready_to_run(settings, in_store=bool(settings.run) or settings.study != NONE):
        jobs = [replace(job, files=files_read(settings)) for job in jobs]
        outcome = run_all(jobs, watch, settings.executor, settings.workers, take=take)
    if outcome.failures:
        failures = "; ".join(outcome.failures)
        raise RunError(f"evaluation: {len(outcome.failures)} of {len(jobs)} failed: {failures}")
    return outcome.results


def files_read(settings: EvaluateSettings) -> tuple[Path, ...]:
    """The files that the jobs of an evaluation read."""
    tokenizer = [] if settings.tokenizer == NONE else [Path(settings.tokenizer)]
    own = [path for reference in (settings.task, *settings.policy) for path in files_of(reference)]
    return (*settings.checkpoint, *tokenizer, settings.pairs, *own)


def row_of(run: StoredRun) -> str:
    """The method of a run in a table of episodes: its group. An average is no further model of it: it stands alone."""
    return run.name if is_average(run) else group_of(run)


def find_contenders(
    settings: EvaluateSettings, say: Say = silent
) -> tuple[EvaluateSettings, list[Candidate], EvaluationSpec]:
    """The settings at their task, what is to be evaluated, and how; raises `UserError` kinds, see `evaluate`."""
    settings, task = settle(settings)
    default = at_task(EvaluateSettings(task=settings.task), task).pairs
    if task.world is None and settings.yardsticks:
        raise task.unsimulated("it has no yardsticks to evaluate. Leave --yardsticks out")
    if task.world is None and settings.policy:
        raise task.unsimulated(
            "what somebody else's policy was trained on is not known, nor which episodes it may know"
        )
    named = settings.pairs.exists() or settings.pairs != default
    pairs = load_action_pairs(settings.pairs) if named or task.world is None else None  # it raises here, in no job
    digest = file_digest(settings.pairs) if task.world is None else ""
    protocol, act = protocol_for(settings, most_episodes(task, settings.pairs, pairs)), settings.acting
    spec = EvaluationSpec(settings.task, protocol, settings.pairs)
    found = find_files(settings, task, digest)
    if settings.run or settings.study != NONE:
        found += find_runs(settings, task, spec, digest, say)
    if act and not found:
        raise SettingsError("act: name models that are to act so: files, --run or --study. See --help.")
    found += find_foreign(settings)
    if settings.yardsticks:
        found += [Candidate(name, name, partial(judge_yardstick, name)) for name in task.yardsticks]
    if not found:
        raise SettingsError("checkpoint: name model files, or --run, --study, --policy or --yardsticks. See --help.")
    return settings, found, spec


def find_files(settings: EvaluateSettings, task: Task, digest: str) -> list[Candidate]:
    """The model files; without a simulator they must know none of the held-out episodes of the pairs with a digest."""
    found = []
    for path in settings.checkpoint:
        policy = load_for(task, path, settings.tokenizer, settings.acting)
        if task.world is None:
            check_held_out(task, str(path), policy, settings.pairs, digest)
        judge = partial(judge_file, path, settings.tokenizer, act=settings.acting)
        found.append(Candidate(policy.name, policy.method, judge))
    return found


def find_runs(settings: EvaluateSettings, task: Task, spec: EvaluationSpec, digest: str, say: Say) -> list[Candidate]:
    """The models of runs that are named, and of a study; without a simulator they must be trained on the pairs."""
    store, act = open_store(), settings.acting
    runs = [fetch(store, run_id) for run_id in dict.fromkeys(settings.run)]
    for run in runs:
        require_finished(run, acting=True)
    if settings.study != NONE:
        known = {run.run_id for run in runs}
        members = models_of_study(store, settings.study, settings.experiment, acting=not act)
        runs += [run for run in members if run.run_id not in known]
    for run in runs:
        require_task(run, task)
        if task.world is None:
            require_pairs(run, settings.pairs, digest)
    for method in dict.fromkeys(run.tags[METHOD] for run in runs) if act else ():
        METHODS[method].check_acting(act)
    for line in changed_data(runs):
        say(f"warning: {line}")
    otherwise = [] if act else judged_otherwise(store, runs, spec.protocol)
    for run in otherwise:
        say(
            f"warning: {run.name} has the evaluation that its study '{run.tags[STUDY]}' compares, by other terms: "
            "this one is not logged"
        )
    unlogged = {run.run_id for run in otherwise}
    return [
        Candidate(run.name, row_of(run), partial(judge_run, run.run_id, act=act, log=run.run_id not in unlogged))
        for run in runs
    ]


def find_foreign(settings: EvaluateSettings) -> list[Candidate]:
    """The policies of others, each opened once, so that it is refused before any evaluation."""
    asks = AsksPolicies(timeout=settings.timeout, batch=settings.batch)
    call = token_hex()
    found = []
    for place in dict.fromkeys(settings.policy):
        name = opened(settings.task, place, asks, call).name
        found.append(Candidate(name, name, partial(judge_foreign, place, asks, call)))
    return found
