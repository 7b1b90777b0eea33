"""Evaluate models under the nine conditions: files, MLflow runs, studies, and yardsticks to hold them against."""

import math
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.config import NONE, EvaluateSettings
from pipeline.data.pairs import load_action_pairs
from pipeline.data.split import split_pairs
from pipeline.env.pendulum import ACTION_DIM, STATE_DIM
from pipeline.errors import CheckpointError, RunError, SettingsError
from pipeline.evaluation.control import (
    CONDITIONS,
    LONGEST_REPLAN,
    Evaluation,
    Planner,
    draw_episodes,
    evaluate_planner,
    mean_scores,
)
from pipeline.evaluation.expert import COMPARED, ChunkErrors, compare_chunks, spread
from pipeline.evaluation.yardsticks import YARDSTICKS
from pipeline.executors.pool import Done, Event, Failed, Job, Report, run_jobs
from pipeline.files import file_digest
from pipeline.policies.load import load_policy
from pipeline.policies.policy import Policy
from pipeline.report.scores import SCORES
from pipeline.report.tables import Table
from pipeline.streams import torch_stream
from pipeline.tracking.query import StoredRun, artifact, fetch, is_ensemble, is_model, search
from pipeline.tracking.run import TrackedRun
from pipeline.tracking.store import open_store

EVALUATION, EPISODES_FILE, PLANS_FILE = "evaluation", "episodes.csv", "plans.npz"
UNFINISHED = "unfinished"  # instead of a protocol, while results are being logged
MEAN = "mean"  # of a score over the conditions
Watch = Callable[[Event], None]


@dataclass(frozen=True)
class Protocol:
    """What all models of a comparison meet."""

    episodes: int  # a condition
    seed: int
    pairs: Path  # where the expert's chunks are, if they are there

    def __str__(self) -> str:
        return f"{self.episodes} episodes a condition, seed {self.seed}"


def parse_protocol(text: str) -> Protocol | None:
    """The protocol that a run's tag names, without the expert's chunks; None if it names none."""
    found = re.fullmatch(r"(\d+) episodes a condition, seed (\d+)", text)
    return Protocol(int(found[1]), int(found[2]), Path(NONE)) if found else None


@dataclass(frozen=True)
class Judged:
    """A model, or a yardstick, with its scores."""

    name: str
    method: str
    evaluation: Evaluation
    chunks: ChunkErrors | None = None  # against the expert, on the test split; None without it


def load_for_pendulum(path: Path, tokenizer: str) -> Policy:
    """Open a model file; raises `CheckpointError`, also if it is not for the pendulum or plans too few steps."""
    policy = load_policy(path, None if tokenizer == NONE else tokenizer)
    check_dimensions(path, policy.state_dim, policy.action_dim)
    if policy.horizon < LONGEST_REPLAN:
        raise CheckpointError(
            f"{path}: expected a model that plans at least {LONGEST_REPLAN} actions, found {policy.horizon}."
        )
    return policy


def check_dimensions(path: Path, state_dim: int, action_dim: int) -> None:
    """Raise `CheckpointError` unless a model file is for the pendulum."""
    if (state_dim, action_dim) != (STATE_DIM, ACTION_DIM):
        raise CheckpointError(
            f"{path}: expected a model of {STATE_DIM} state and {ACTION_DIM} action dimensions, "
            f"found {state_dim} and {action_dim}."
        )


def judge_file(path: Path, tokenizer: str, protocol: Protocol, report: Report) -> Judged:
    """Evaluate a model file on one thread.

    Its plans are compared with the expert's chunks of the test split if it was trained on these pairs, or on none of
    ours, as the reference system's weights.
    """
    torch.set_num_threads(1)
    policy = load_for_pendulum(path, tokenizer)
    episodes = draw_episodes(CONDITIONS, protocol.episodes, protocol.seed)
    evaluation = evaluate_planner(planner_of(policy, protocol), episodes, 1, report)
    chunks = None
    if protocol.pairs.is_file() and is_trained_on(policy, protocol.pairs):
        pairs = load_action_pairs(protocol.pairs)
        rows = spread(split_pairs(pairs.trajectory, len(pairs.state)).test, COMPARED)
        if pairs.action_chunk.shape[1:] == (policy.horizon, policy.action_dim):
            planner = partial(policy.plan, generator=torch_stream(protocol.seed, "chunks", "planner"))
            chunks = compare_chunks(planner, pairs.state[rows], pairs.action_chunk[rows])
    return Judged(policy.name, policy.method, evaluation, chunks)


def planner_of(policy: Policy, protocol: Protocol) -> Planner:
    """How a policy plans in an evaluation: what it draws at random, if anything, comes from the protocol's seed."""
    return partial(policy.plan, generator=torch_stream(protocol.seed, "episodes", "planner"))


def is_trained_on(policy: Policy, pairs: Path) -> bool:
    """Whether the test split of `pairs` is the model's own; models without provenance are none of ours."""
    return not policy.provenance or policy.provenance.get("pairs_sha256") == file_digest(pairs)


def judge_run(run_id: str, protocol: Protocol, report: Report) -> Judged:
    """Evaluate the model of an MLflow run, and log the scores to the run."""
    client = open_store()
    stored = fetch(client, run_id)
    with artifact(client, run_id, f"{stored.tags['name']}.pth") as path:
        judged = judge_file(path, NONE, protocol, report)
    log_judged(TrackedRun(client, run_id), judged, protocol)
    return judged


def judge_yardstick(name: str, protocol: Protocol, report: Report) -> Judged:
    """Evaluate a yardstick on one thread."""
    episodes = draw_episodes(CONDITIONS, protocol.episodes, protocol.seed)
    return Judged(name, "yardstick", YARDSTICKS[name](episodes, 1))


def log_judged(run: TrackedRun, judged: Judged, protocol: Protocol) -> None:
    """Log mean scores as metrics `SCORE/CONDITION`, `SCORE/mean`; every episode as a file.

    The tag `evaluation`, set last, completes it. Scores of an earlier evaluation that this one has not become NaN.
    """
    run.tags({"evaluation": UNFINISHED})
    rows = mean_scores(judged.evaluation)
    metrics = {
        f"{name}/{condition}": value
        for condition, row in zip(judged.evaluation.conditions, rows, strict=True)
        for name, value in row.items()
    }
    everywhere = set[str].intersection(*map(set, rows))
    metrics |= {f"{name}/{MEAN}": float(np.mean([row[name] for row in rows])) for name in sorted(everywhere)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        episode_table(judged.evaluation).to_csv(folder / EPISODES_FILE, index=False)
        run.file(folder / EPISODES_FILE, EVALUATION)
        if (chunks := judged.chunks) is not None:
            metrics |= {"chunk_mae": chunks.mae, "chunk_mse": chunks.mse}
            shown = {key: getattr(chunks, key) for key in ("mae_by_step", "states", "expert", "planned")}
            np.savez(folder / PLANS_FILE, **shown)
            run.file(folder / PLANS_FILE, EVALUATION)
    earlier = fetch(open_store(), run.run_id).metrics
    stale = {name for name in earlier if name.partition("/")[0] in SCORES or name in ("chunk_mae", "chunk_mse")}
    run.metrics(metrics | dict.fromkeys(stale - metrics.keys(), math.nan))
    run.flush()
    run.tags({"evaluation": str(protocol)})


def episode_table(evaluation: Evaluation) -> pd.DataFrame:
    """One row an episode: its condition, its number in it, and its scores."""
    parts = []
    for number, condition in enumerate(evaluation.conditions):
        columns = evaluation.of_condition(number)
        where = {"action_noise": condition.action_noise, "replan": condition.replan}
        parts.append(pd.DataFrame(where | {"episode": np.arange(len(columns["success"]))} | columns))
    return pd.concat(parts)


def models_of_study(study: str) -> list[StoredRun]:
    """The finished models of a study and their averaged ensembles; raises `SettingsError` if there are no models."""
    found = [run for run in search(open_store(), study=study) if run.status == "FINISHED"]
    runs = [run for run in found if is_model(run)] + [run for run in found if is_ensemble(run)]
    if not runs:
        raise SettingsError(f"study: expected one with finished models, found none called '{study}'. See 'make ui'.")
    return runs


def require_finished(run: StoredRun) -> None:
    """Raise `SettingsError` unless a run has left a model."""
    if run.status != "FINISHED" or not (is_model(run) or is_ensemble(run)):
        raise SettingsError(f"run: expected a finished training run, found '{run.name}' ({run.run_id}). See 'make ui'.")


def evaluate(settings: EvaluateSettings, watch: Watch) -> list[Judged]:
    """Evaluate all that is named, on a pool of processes, in the order named; yardsticks last.

    Bad input raises a `UserError` before any work; `RunError` tells of models that could not be evaluated.
    """
    protocol = Protocol(settings.episodes, settings.seed, settings.pairs)
    jobs: list[Job[Judged]] = []
    for path in settings.checkpoint:
        policy = load_for_pendulum(path, settings.tokenizer)
        work = partial(judge_file, path, settings.tokenizer, protocol)
        jobs.append(Job(policy.name, "file", work))
    if settings.pairs.exists() or settings.pairs != EvaluateSettings.model_fields["pairs"].default:
        load_action_pairs(settings.pairs)  # raises here, not in every process
    runs = [fetch(open_store(), run_id) for run_id in dict.fromkeys(settings.run)]
    for run in runs:
        require_finished(run)
    if settings.ensemble != NONE:
        runs += [run for run in models_of_study(settings.ensemble) if run.run_id not in settings.run]
    jobs += [Job(run.name, run.tags["method"], partial(judge_run, run.run_id, protocol)) for run in runs]
    if settings.yardsticks:
        jobs += [Job(name, "yardstick", partial(judge_yardstick, name, protocol)) for name in YARDSTICKS]
    if not jobs:
        raise SettingsError("checkpoint: name model files, or --run, --ensemble or --yardsticks. See --help.")

    results, failures = dict[int, Judged](), list[str]()
    with closing(run_jobs(jobs, settings.workers)) as events:
        for event in events:
            watch(event)
            if isinstance(event, Done):
                results[event.number] = event.result
            elif isinstance(event, Failed) and event.final:
                failures.append(f"{jobs[event.number].name}: {event.reason}")
    if failures:
        raise RunError(f"evaluation: {len(failures)} of {len(jobs)} failed: {'; '.join(failures)}")
    return [results[number] for number in sorted(results)]


def score_tables(judged: Sequence[Judged]) -> list[Table]:
    """One table a model: its mean scores, a row a condition."""
    tables = []
    for model in judged:
        rows = mean_scores(model.evaluation)
        names = [name for name in SCORES if any(name in row for row in rows)]
        cells = [
            (
                f"{condition.action_noise:g}, {condition.replan}",
                *(SCORES[name].text(row[name]) if name in row else "-" for name in names),
            )
            for condition, row in zip(model.evaluation.conditions, rows, strict=True)
        ]
        note = f"Plan against expert: MAE {model.chunks.mae:.4f}, MSE {model.chunks.mse:.5f}." if model.chunks else ""
        tables.append(Table(model.name, ("noise, replan", *(SCORES[name].short for name in names)), cells, note))
    return tables


def describe(settings: EvaluateSettings, judged: Sequence[Judged]) -> dict[str, Any]:
    """All of it as plain values, every episode's scores included."""
    models = []
    for model in judged:
        conditions = [
            {
                "action_noise": condition.action_noise,
                "replan": condition.replan,
                "scores": scores,
                "episodes": {name: column.tolist() for name, column in model.evaluation.of_condition(number).items()},
            }
            for number, (condition, scores) in enumerate(
                zip(model.evaluation.conditions, mean_scores(model.evaluation), strict=True)
            )
        ]
        chunks = {"mae": model.chunks.mae, "mse": model.chunks.mse} if model.chunks else None
        models.append(
            {"name": model.name, "method": model.method, "conditions": conditions, "plan_against_expert": chunks}
        )
    return {"format": "tinypi-evaluation-1", "episodes": settings.episodes, "seed": settings.seed, "models": models}
