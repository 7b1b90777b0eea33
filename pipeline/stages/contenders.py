"""Policies that take part in a comparison, and their episodes.

A policy is a model file, an MLflow run, a registered model, a policy server or a function of the user's. All meet the
same blocks of episodes: a block is one start in every condition. Shapes: C conditions, b blocks.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Thread
from types import MappingProxyType

import numpy as np
import torch

from pipeline.config import NONE
from pipeline.errors import SettingsError, StoreError
from pipeline.evaluation.control import Episodes, Ints, Planner, draw_episodes, evaluate_planner, policy_planner
from pipeline.files import file_digest
from pipeline.methods.method import Plans
from pipeline.own_code import split_reference
from pipeline.policies.exported import ExportedPolicy
from pipeline.policies.open import open_policy
from pipeline.stages.changed import changed_data
from pipeline.stages.foreign import ADDRESS, open_foreign
from pipeline.stages.models import check_policy, require_finished
from pipeline.stages.say import Say, silent
from pipeline.stages.settings import AsksPolicies
from pipeline.tasks.task import Array, Columns, Task
from pipeline.tracking.query import fetch, model_artifact
from pipeline.tracking.registry import MODELS, model_file, named_version
from pipeline.tracking.store import open_store

BATCH = 40  # blocks that are played side by side
RUN_ID = re.compile(r"[0-9a-f]{32}")

Acts = Mapping[str, str]
"""What a command chooses anew of how a model acts: values by the names of `Acting`."""
AS_TRAINED: Acts = MappingProxyType({})

PlannerFor = Callable[..., Planner]
"""`planner_for(episodes, seed, *purpose) -> planner`, as `evaluation.control.policy_planner`."""


@dataclass(frozen=True)
class Contender:
    """A policy that takes part: its name, and a digest of its file or, of somebody else's policy, of what names it."""

    name: str
    digest: str
    planner_for: PlannerFor
    faults: Mapping[str, int] = field(default_factory=dict)  # of somebody else's policy: answers without a plan so far


def open_contender(
    task: Task, place: str, asks: AsksPolicies, tokenizer: str = NONE, say: Say = silent, act: Acts = AS_TRAINED
) -> Contender:
    """Open what `place` names, a model of ours to act by `act`; `say` is told if a run's data has changed.

    Raises `UserError` kinds where there is no such policy, or not for the task.
    """
    if ADDRESS in place:
        return from_elsewhere(task, place, asks, act)
    if place.startswith(MODELS):
        store = open_store()
        version = named_version(store, place)
        with suppress(StoreError):  # the run may be gone, its version stays
            for line in changed_data([fetch(store, version.run_id)]):
                say(f"warning: {line}")
        with model_file(store, version) as path:
            return from_file(task, path, tokenizer, act)
    if not Path(place).exists() and RUN_ID.fullmatch(place):
        store = open_store()
        run = fetch(store, place)
        require_finished(run, acting=True)
        for line in changed_data([run]):
            say(f"warning: {line}")
        with model_artifact(store, run) as path:
            return from_file(task, path, tokenizer, act)
    if not Path(place).exists():
        if split_reference(place):
            return from_elsewhere(task, place, asks, act)
        raise SettingsError(
            "policy: expected a model file, a run's id, models:/NAME@ALIAS, models:/NAME/NUMBER, a server's address, "
            f"module:function or path/to/file.py:function, found '{place}'. See --help."
        )
    return from_file(task, Path(place), tokenizer, act)


def from_file(task: Task, path: Path, tokenizer: str = NONE, act: Acts = AS_TRAINED) -> Contender:
    """Open a model file, `.pth` or `.onnx`, to act by `act`; raises `CheckpointError`, `SettingsError`."""
    policy = open_policy(path, None if tokenizer == NONE else tokenizer, act)
    check_policy(task, path, policy)
    if isinstance(policy, ExportedPolicy):
        return Contender(policy.name, file_digest(path), act_planner(task, policy.act))
    words = [f"{name}={value}" for name, value in act.items()]
    digest = sha256(" ".join([file_digest(path), *words]).encode()).hexdigest() if act else file_digest(path)
    return Contender(" ".join([policy.name, *words]), digest, partial(policy_planner, policy))


def from_elsewhere(task: Task, place: str, settings: AsksPolicies, act: Acts = AS_TRAINED) -> Contender:
    """Ask somebody else's policy for plans; raises `UserError` kinds as `open_foreign` does, and if it is to `act`."""
    if act:
        raise SettingsError(f"act: expected a model of ours as B, found '{place}', which acts by its own rule.")
    policy = open_foreign(task, place, settings)
    digest = sha256(place.encode()).hexdigest()
    return Contender(policy.name, digest, lambda _episodes, _seed, *_purpose: policy.plan, policy.faults)


def act_planner(task: Task, act: Callable[[Array], np.ndarray]) -> PlannerFor:
    """Make planners of a policy that only acts: what it draws, if anything, it draws by itself."""

    def plan(states: Array, _episodes: Ints, _step: int) -> Plans:
        return Plans(act(task.simulator.observe(states)))

    return lambda _episodes, _seed, *_purpose: plan


def play_blocks(
    task: Task, contenders: Sequence[Contender], blocks: int, seed: int, purpose: str
) -> Iterator[list[Columns]]:
    """Let all contenders meet the same blocks, batch after batch; yields their scores, columns `(C, b)` by name.

    The episodes are drawn for these policies and this purpose alone, by a stream named after the policies' digests.
    Each contender plays in a thread of its own.
    """
    torch.set_num_threads(1)
    stream = "-".join(sorted(contender.digest for contender in contenders))
    for begin in range(0, blocks, BATCH):
        words = purpose, stream, str(begin)
        episodes = draw_episodes(task, task.conditions, min(BATCH, blocks - begin), seed, *words)
        yield side_by_side([partial(_play, contender, episodes, seed, words) for contender in contenders])


def side_by_side(works: Sequence[Callable[[], Columns]]) -> list[Columns]:
    """Run all works in threads of their own to their ends, and return the results; raises what the first one raised.

    The threads are daemons: a function of a user that never returns does not outlive Ctrl-C.
    """
    futures: list[Future[Columns]] = [Future() for _ in works]

    def run(work: Callable[[], Columns], future: Future[Columns]) -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    for work, future in zip(works, futures, strict=True):
        Thread(target=run, args=(work, future), daemon=True).start()
    wait(futures)
    return [future.result() for future in futures]


def _play(contender: Contender, episodes: Episodes, seed: int, words: tuple[str, ...]) -> Columns:
    planner = contender.planner_for(episodes, seed, *words)
    return evaluate_planner(planner, episodes, threads=1).by_condition()
