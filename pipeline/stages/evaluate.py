"""Evaluate models under the conditions of a task: files, MLflow runs, studies, and baseline controllers."""

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.config import ALL, NONE
from pipeline.data.pairs import load_action_pairs
from pipeline.data.split import split_pairs
from pipeline.errors import CheckpointError, RunError, SettingsError
from pipeline.evaluation.control import (
    Episodes,
    Evaluation,
    draw_episodes,
    evaluate_planner,
    mean_scores,
    policy_planner,
)
from pipeline.evaluation.expert import COMPARED, ChunkErrors, compare_chunks, spread
from pipeline.evaluation.held_out import evaluate_plans, hold_out
from pipeline.evaluation.protocol import Protocol
from pipeline.evaluation.stored import (
    EPISODES_FILE,
    FOLDER,
    MOST_PATHS,
    PATHS_FILE,
    PLANS_FILE,
    SCORES_FILE,
    UNFINISHED,
    protocol_tags,
    scores_table,
    write_episodes,
)
from pipeline.evaluation.yardsticks import evaluate_yardstick
from pipeline.executors.jobs import Job, Report
from pipeline.executors.run import Watch, run_all
from pipeline.methods.registry import METHODS
from pipeline.own_code import files_of
from pipeline.policies.exported import ExportedPolicy
from pipeline.policies.load import load_policy
from pipeline.policies.policy import Policy, noise_of
from pipeline.report.design import design_of
from pipeline.stages.changed import changed_data, silent
from pipeline.stages.foreign import open_foreign
from pipeline.stages.held_out import (
    check_held_out,
    episodes_of,
    errors_by_dimension,
    is_trained_on,
    require_pairs,
)
from pipeline.stages.recorded import check_table, write_table
from pipeline.stages.remote import ready_to_run
from pipeline.stages.settings import AsksPolicies, EvaluateSettings
from pipeline.streams import torch_stream
from pipeline.tasks.facts import require_fit
from pipeline.tasks.registry import find_task
from pipeline.tasks.score import PLANNED, REBUILT
from pipeline.tasks.settings import at_task, settle
from pipeline.tasks.task import Channel, Task
from pipeline.tracking.names import Kind
from pipeline.tracking.query import StoredRun, artifact, fetch, is_acting, is_average, is_model, search_study, task_of
from pipeline.tracking.run import TrackedRun
from pipeline.tracking.store import Store, open_store, ui_command

MEAN = "mean"  # a score's mean over the conditions


@dataclass(frozen=True)
class Block:
    """Some of the episodes of one condition, by their numbers."""

    condition: int
    first: int
    count: int


@dataclass(frozen=True)
class Trial:
    """How models are evaluated."""

    task: str  # as it is named on the command line: each process finds it
    protocol: Protocol
    pairs: Path  # with the expert's chunks
    block: Block | None = None  # only these episodes, without the expert

    def episodes(self, task: Task) -> Episodes:
        """The episodes that models meet; those of a block have the same bits as among all others."""
        if self.block is None:
            return draw_episodes(
                task, task.conditions, self.protocol.episodes, self.protocol.seed, *self.protocol.stream
            )
        where = (task.conditions[self.block.condition],)
        return draw_episodes(
            task, where, self.block.count, self.protocol.seed, *self.protocol.stream, first=self.block.first
        )


@dataclass(frozen=True)
class Judged:
    """A model, or a yardstick, with its scores."""

    name: str
    method: str
    evaluation: Evaluation
    chunks: ChunkErrors | None = None  # against the expert, on the test split; None without it
    action: tuple[Channel, ...] = ()  # of a task without a simulator, whose errors are told each in its own unit
    faults: Mapping[str, int] = field(default_factory=dict)  # of somebody else's policy: answers without a plan


def load_for(task: Task, path: Path, tokenizer: str, act: Mapping[str, Any] | None = None) -> Policy:
    """Open a model file, to act by `act`, see `load_policy`.

    Raises `CheckpointError`, also if it is not for the task or its horizon is too short; `SettingsError`.
    """
    policy = load_policy(path, None if tokenizer == NONE else tokenizer, act)
    check_policy(task, path, policy)
    return policy


def check_policy(task: Task, path: Path, policy: Policy | ExportedPolicy) -> None:
    """Raise `CheckpointError` unless a model is for the task and plans far enough for all conditions."""
    check_task(task, path, policy)
    if policy.horizon < task.longest_replan:
        raise CheckpointError(
            f"{path}: expected a model that plans at least {task.longest_replan} actions, found {policy.horizon}."
        )


def check_task(task: Task, path: Path, policy: Policy | ExportedPolicy) -> None:
    """Raise `CheckpointError` unless a model is for the task."""
    sizes = policy.state_dim, policy.action_dim
    require_fit(str(path), policy.task, sizes, task, CheckpointError, "Name its task by --task, or another model.")


def judge_file(
    path: Path, tokenizer: str, trial: Trial, report: Report, act: Mapping[str, Any] | None = None
) -> Judged:
    """Evaluate a model file on one thread, acting by `act`. Without a simulator only its plans can be judged.

    Its plans are compared with the expert's chunks in the test split of the trial's pairs, if it was trained on these
    pairs or has no provenance, as the reference system's weights.
    """
    torch.set_num_threads(1)
    task, protocol, pairs = find_task(trial.task), trial.protocol, trial.pairs
    policy = load_for(task, path, tokenizer, act)
    name = " ".join([policy.name, *(f"{name}={value}" for name, value in (act or {}).items())])
    if task.world is None:
        check_held_out(task, str(path), policy, pairs)
        held_out = hold_out(task, pairs, protocol.episodes)
        return Judged(name, policy.method, *evaluate_plans(policy, held_out, protocol.seed, report), task.action)
    episodes = trial.episodes(task)
    planner = policy_planner(policy, episodes, protocol.seed, *protocol.stream)
    evaluation = evaluate_planner(planner, episodes, 1, report)
    chunks = None
    if trial.block is None and pairs.is_file() and is_trained_on(policy, pairs):
        expert = load_action_pairs(pairs)
        rows = spread(split_pairs(expert.trajectory, len(expert.state)).test, COMPARED)
        if expert.action_chunk.shape[1:] == (policy.horizon, policy.action_dim):
            plan = partial(policy.plan, noise=noise_of(torch_stream(protocol.seed, "chunks", "planner")))
            chunks = compare_chunks(plan, expert.state[rows], expert.action_chunk[rows])
    return Judged(name, policy.method, evaluation, chunks)


def judge_run(run_id: str, trial: Trial, report: Report, act: Mapping[str, Any] | None = None) -> Judged:
    """Evaluate the model of a run; the scores of all episodes are logged to it, unless `act` chooses how it acts."""
    client = open_store()
    stored = fetch(client, run_id)
    with artifact(client, run_id, f"{stored.tags['name']}.pth") as path:
        judged = judge_file(path, NONE, trial, report, act)
    if not act and trial.block is None:
        log_judged(TrackedRun(client, run_id), judged, trial.protocol)
    return judged


def judge_foreign(place: str, asks: AsksPolicies, trial: Trial, report: Report) -> Judged:
    """Evaluate somebody else's policy; its plans are not compared with the expert's: it may have seen them."""
    task = find_task(trial.task)
    policy = open_foreign(task, place, asks)
    evaluation = evaluate_planner(policy.plan, trial.episodes(task), 1, report)
    return Judged(policy.name, "foreign", evaluation, faults=dict(policy.faults))


def judge_yardstick(name: str, trial: Trial, report: Report) -> Judged:
    """Evaluate a yardstick on one thread."""
    return Judged(name, "yardstick", evaluate_yardstick(name, trial.episodes(find_task(trial.task)), 1))


def log_judged(run: TrackedRun, judged: Judged, protocol: Protocol) -> None:
    """Log each score's mean over the conditions as the metric `SCORE/mean`, and all scores as files of the run.

    The protocol's tags are set last and mark it complete. Means that only an earlier evaluation has become NaN.
    """
    run.tags({"evaluation": UNFINISHED})
    rows = mean_scores(judged.evaluation)
    metrics = {f"{name}/{MEAN}": float(np.mean([row[name] for row in rows])) for name in rows[0]}
    run.table(f"{FOLDER}/{SCORES_FILE}", scores_table(judged.evaluation.conditions, rows))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_episodes(folder / EPISODES_FILE, judged.evaluation, judged.evaluation.by_condition())
        run.file(folder / EPISODES_FILE, FOLDER)
        if (chunks := judged.chunks) is not None:
            pooled = {"chunk_mae": chunks.mae, "chunk_mse": chunks.mse}
            metrics |= errors_by_dimension(chunks, judged.action) if judged.action else pooled
            keys = ("mae_by_step", "mae_by", "rebuilt_mae_by", "states", "expert", "planned")
            shown = {key: value for key in keys if (value := getattr(chunks, key)) is not None}
            np.savez(folder / PLANS_FILE, **shown)
            run.file(folder / PLANS_FILE, FOLDER)
        if (paths := judged.evaluation.paths) is not None:
            hardest = paths[-protocol.episodes :][:MOST_PATHS]
            np.savez(folder / PATHS_FILE, paths=hardest)
            run.file(folder / PATHS_FILE, FOLDER)
    earlier = fetch(open_store(), run.run_id).metrics
    kinds = ("chunk_mae", "chunk_mse", f"{PLANNED}/", f"{REBUILT}/")
    stale = {name for name in earlier if name.endswith(f"/{MEAN}") or name.startswith(kinds)}
    run.metrics({name: value for name, value in metrics.items() if math.isfinite(value)}, model_id=run.model_id)
    run.metrics({name: value for name, value in metrics.items() if not math.isfinite(value)})
    run.metrics(dict.fromkeys(stale - metrics.keys(), math.nan))
    run.flush()
    run.tags(protocol_tags(protocol))


def models_of_study(store: Store, study: str, experiment: str = ALL, acting: bool = False) -> list[StoredRun]:
    """Return a study's finished models and averaged policies; raises `SettingsError` if there are no models.

    With `acting`, also models that act by another rule.
    """
    found = [run for run in search_study(store, study, experiment) if run.status == "FINISHED"]
    runs = [run for run in found if is_model(run)]
    runs += [run for run in found if acting and is_acting(run)] + [run for run in found if is_average(run)]
    if not runs:
        raise SettingsError(
            f"study: expected one with finished models, found none called '{study}'. See {ui_command()}"
        )
    return runs


def require_finished(run: StoredRun, acting: bool = False) -> None:
    """Raise `SettingsError` unless a run has a model, with `acting` maybe another run's, and is not deleted."""
    if run.deleted:
        raise SettingsError(
            f"run: expected a finished training run, found that '{run.name}' ({run.run_id}) is deleted. "
            "Restore it in MLflow, or name another."
        )
    if run.status != "FINISHED" or not (is_model(run) or is_average(run) or (acting and is_acting(run))):
        raise SettingsError(
            f"run: expected a finished training run, found '{run.name}' ({run.run_id}). See {ui_command()}"
        )


def require_task(run: StoredRun, task: Task) -> None:
    """Raise `SettingsError` unless a run is of the task."""
    if (found := task_of(run)) != task.name:
        raise SettingsError(
            f"run: expected one of the task '{task.name}', found that '{run.name}' ({run.run_id}) is of '{found}'. "
            "Name its task by --task."
        )


def protocol_for(settings: EvaluateSettings, task: Task) -> Protocol:
    """The protocol to evaluate by: of a study its own, which was fixed before its first evaluation.

    Raises `SettingsError` if another is asked for.
    """
    asked = Protocol(episodes_of(task, settings.pairs, settings.episodes), settings.seed)
    if settings.study == NONE:
        return asked
    found = search_study(open_store(), settings.study, settings.experiment)
    design = next((design_of(run.tags) for run in reversed(found) if run.tags.get("kind") == Kind.STUDY), None)
    if design is None:
        return asked
    fixed = Protocol(design.episodes, design.seed)
    fields = EvaluateSettings.model_fields
    default = Protocol(episodes_of(task, settings.pairs, fields["episodes"].default), fields["seed"].default)
    if asked not in (fixed, default):
        raise SettingsError(
            f"study: '{settings.study}' is evaluated by {fixed}, and {asked} is asked for. Leave out --episodes and "
            "--seed, or run the study again on other terms, which makes another verdict."
        )
    return fixed


@dataclass(frozen=True)
class Contender:
    """A model, somebody else's policy or a yardstick that is to be evaluated."""

    name: str
    method: str  # of others and yardsticks the name: each is a method of its own
    judge: Callable[[Trial, Report], Judged]


def evaluate(settings: EvaluateSettings, watch: Watch, say: Callable[[str], None] = silent) -> list[Judged]:
    """Evaluate all named models in the order given, then policies of others, then the yardsticks.

    `say` is told of runs whose data has changed.

    Bad input raises a `UserError` before any work; `RunError` names the models that could not be evaluated.
    """
    settings, contenders, trial = find_contenders(settings, say)
    if settings.csv != NONE:
        check_table(Path(settings.csv))
    jobs = [Job(each.name, each.method, partial(each.judge, trial)) for each in contenders]
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


def find_contenders(
    settings: EvaluateSettings, say: Callable[[str], None] = silent
) -> tuple[EvaluateSettings, list[Contender], Trial]:
    """The settings at their task, what is to be evaluated, and how; raises `UserError` kinds, see `evaluate`."""
    settings, task = settle(settings)
    default = at_task(EvaluateSettings(task=settings.task), task).pairs
    if task.world is None and settings.yardsticks:
        raise task.unsimulated("it has no yardsticks to evaluate. Leave --yardsticks out")
    if task.world is None and settings.policy:
        raise task.unsimulated(
            "what somebody else's policy was trained on is not known, nor which episodes it may know"
        )
    protocol, act = protocol_for(settings, task), settings.acting
    trial = Trial(settings.task, protocol, settings.pairs)
    found: list[Contender] = []
    for path in settings.checkpoint:
        policy = load_for(task, path, settings.tokenizer, act)
        if task.world is None:
            check_held_out(task, str(path), policy, settings.pairs)
        found.append(Contender(policy.name, policy.method, partial(judge_file, path, settings.tokenizer, act=act)))
    if settings.pairs.exists() or settings.pairs != default:
        load_action_pairs(settings.pairs)  # raises here, not in every process
    if settings.run or settings.study != NONE:
        store = open_store()
        runs = [fetch(store, run_id) for run_id in dict.fromkeys(settings.run)]
        for run in runs:
            require_finished(run, acting=True)
            require_task(run, task)
        if settings.study != NONE:
            known = {run.run_id for run in runs}
            members = models_of_study(store, settings.study, settings.experiment, acting=not act)
            for run in members:
                require_task(run, task)
            runs += [run for run in members if run.run_id not in known]
        for line in changed_data(runs):
            say(f"warning: {line}")
        for run in runs:
            require_pairs(run, task, settings.pairs)
        if act:
            for method in dict.fromkeys(run.tags["method"] for run in runs):
                METHODS[method].check_acting(act)
        found += [Contender(run.name, run.tags["method"], partial(judge_run, run.run_id, act=act)) for run in runs]
    if act and not found:
        raise SettingsError("act: name models that are to act so: files, --run or --study. See --help.")
    asks = AsksPolicies(timeout=settings.timeout, batch=settings.batch)
    for place in dict.fromkeys(settings.policy):
        name = open_foreign(task, place, asks).name  # refused before any evaluation
        found.append(Contender(name, name, partial(judge_foreign, place, asks)))
    if settings.yardsticks:
        found += [Contender(name, name, partial(judge_yardstick, name)) for name in task.yardsticks]
    if not found:
        raise SettingsError("checkpoint: name model files, or --run, --study, --policy or --yardsticks. See --help.")
    return settings, found, trial
