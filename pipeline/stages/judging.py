"""Judge one model, somebody else's policy or a yardstick in the episodes of a protocol, and log what came out."""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.config import NONE
from pipeline.data.pairs import load_action_pairs
from pipeline.data.split import split_pairs
from pipeline.evaluation.control import (
    Episodes,
    Evaluation,
    draw_episodes,
    evaluate_planner,
    mean_scores,
    policy_planner,
)
from pipeline.evaluation.expert import COMPARED, ChunkErrors, compare_chunks, evenly_spaced
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
    clearest,
    protocol_tags,
    scores_table,
    write_episodes,
)
from pipeline.evaluation.yardsticks import evaluate_yardstick
from pipeline.executors.jobs import Report
from pipeline.files import file_digest
from pipeline.names import CHUNK_MAE, CHUNK_MSE, EVALUATION
from pipeline.policies.policy import noise_of
from pipeline.stages.foreign import opened
from pipeline.stages.held_out import (
    check_held_out,
    errors_by_dimension,
    is_trained_on,
)
from pipeline.stages.models import load_for
from pipeline.stages.settings import AsksPolicies
from pipeline.streams import torch_stream
from pipeline.tasks.registry import find_task
from pipeline.tasks.score import PLANNED, REBUILT
from pipeline.tasks.task import Channel, Task
from pipeline.tracking.query import fetch, model_artifact
from pipeline.tracking.run import TrackedRun
from pipeline.tracking.store import open_store

MEAN = "mean"  # a score's mean over the conditions


@dataclass(frozen=True)
class Block:
    """Some of the episodes of one condition, by their numbers."""

    condition: int
    first: int
    count: int


@dataclass(frozen=True)
class EvaluationSpec:
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


def judge_file(
    path: Path, tokenizer: str, spec: EvaluationSpec, report: Report, act: Mapping[str, Any] | None = None
) -> Judged:
    """Evaluate a model file on one thread, acting by `act`. Without a simulator only its plans can be judged.

    Its plans are compared with the expert's chunks in the test split of the pairs, if it was trained on these or has no
    provenance, as the reference system's weights.
    """
    torch.set_num_threads(1)
    task, protocol, pairs = find_task(spec.task), spec.protocol, spec.pairs
    policy = load_for(task, path, tokenizer, act)
    name = " ".join([policy.name, *(f"{name}={value}" for name, value in (act or {}).items())])
    if task.world is None:
        check_held_out(task, str(path), policy, pairs, file_digest(pairs))
        held_out = hold_out(task, pairs, protocol.episodes)
        return Judged(name, policy.method, *evaluate_plans(policy, held_out, protocol.seed, report), task.action)
    episodes = spec.episodes(task)
    planner = policy_planner(policy, episodes, protocol.seed, *protocol.stream)
    evaluation = evaluate_planner(planner, episodes, 1, report)
    chunks = None
    if spec.block is None and pairs.is_file() and is_trained_on(policy, file_digest(pairs)):
        expert = load_action_pairs(pairs)
        rows = evenly_spaced(split_pairs(expert.trajectory, len(expert.state)).test, COMPARED)
        if expert.action_chunk.shape[1:] == (policy.horizon, policy.action_dim):
            plan = partial(policy.plan, noise=noise_of(torch_stream(protocol.seed, "chunks", "planner")))
            chunks = compare_chunks(plan, expert.state[rows], expert.action_chunk[rows])
    return Judged(name, policy.method, evaluation, chunks)


def judge_run(
    run_id: str, spec: EvaluationSpec, report: Report, act: Mapping[str, Any] | None = None, log: bool = True
) -> Judged:
    """Evaluate the model of a run; the scores of all episodes are logged to it, unless `act` chooses how it acts."""
    client = open_store()
    stored = fetch(client, run_id)
    with model_artifact(client, stored) as path:
        judged = judge_file(path, NONE, spec, report, act)
    if log and not act and spec.block is None:
        log_judged(TrackedRun(client, run_id), judged, spec.protocol)
    return judged


def judge_foreign(place: str, asks: AsksPolicies, call: str, spec: EvaluationSpec, report: Report) -> Judged:
    """Evaluate somebody else's policy; its plans are not compared with the expert's: it may have seen them.

    It is opened once in a process for each `call` of a command.
    """
    policy = opened(spec.task, place, asks, call)
    before = policy.faults.copy()
    evaluation = evaluate_planner(policy.plan, spec.episodes(policy.task), 1, report)
    return Judged(policy.name, "foreign", evaluation, faults=dict(policy.faults - before))


def judge_yardstick(name: str, spec: EvaluationSpec, report: Report) -> Judged:
    """Evaluate a yardstick on one thread."""
    return Judged(name, "yardstick", evaluate_yardstick(name, spec.episodes(find_task(spec.task)), 1))


def log_judged(run: TrackedRun, judged: Judged, protocol: Protocol) -> None:
    """Log each score's mean over the conditions as the metric `SCORE/mean`, and all scores as files of the run.

    The protocol's tags are set last and mark it complete. Means that only an earlier evaluation has become NaN.
    """
    run.tags({EVALUATION: UNFINISHED})
    rows = mean_scores(judged.evaluation)
    metrics = {f"{name}/{MEAN}": float(np.mean([row[name] for row in rows])) for name in rows[0]}
    run.table(f"{FOLDER}/{SCORES_FILE}", scores_table(judged.evaluation.conditions, rows))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_episodes(folder / EPISODES_FILE, judged.evaluation, judged.evaluation.by_condition())
        run.file(folder / EPISODES_FILE, FOLDER)
        if (chunks := judged.chunks) is not None:
            pooled = {CHUNK_MAE: chunks.mae, CHUNK_MSE: chunks.mse}
            metrics |= errors_by_dimension(chunks, judged.action) if judged.action else pooled
            keys = ("mae_by_step", "mae_by", "rebuilt_mae_by", "states", "expert", "planned")
            shown = {key: value for key in keys if (value := getattr(chunks, key)) is not None}
            np.savez(folder / PLANS_FILE, **shown)
            run.file(folder / PLANS_FILE, FOLDER)
        if (paths := judged.evaluation.paths) is not None:
            condition = clearest(judged.evaluation.conditions)
            first = judged.evaluation.conditions.index(condition) * protocol.episodes
            kept = paths[first : first + min(protocol.episodes, MOST_PATHS)]
            np.savez(folder / PATHS_FILE, paths=kept, condition=(condition.action_noise, condition.replan))
            run.file(folder / PATHS_FILE, FOLDER)
    earlier = fetch(run.client, run.run_id).metrics
    kinds = (CHUNK_MAE, CHUNK_MSE, f"{PLANNED}/", f"{REBUILT}/")
    stale = {name for name in earlier if name.endswith(f"/{MEAN}") or name.startswith(kinds)}
    run.metrics({name: value for name, value in metrics.items() if math.isfinite(value)}, model_id=run.model_id)
    run.metrics({name: value for name, value in metrics.items() if not math.isfinite(value)})
    run.metrics(dict.fromkeys(stale - metrics.keys(), math.nan))
    run.flush()
    run.tags(protocol_tags(protocol))
