"""Plans judged without control: against what was demonstrated, from states of episodes that no model was trained on.

Shapes: N states of E episodes, H horizon, A action, S state, C conditions.

A policy plans `p (H, A)` from a state after which `a (H, A)` was demonstrated; `s (A,)` are the standard deviations of
the training split's actions, and e = |p - a| / s. Of an episode, over its states, the first so many actions that the
condition says, and all dimensions:

agreement       the mean of 1 - min(1, e): the share of planned numbers that lie within t standard deviations of the
                demonstrated ones, on average over all t from 0 to 1
plan_error      the mean of e
reconstruction  the mean of e where p is what the policy's tokenizer makes of `a` itself

A plan that goes another good way than the demonstrator counts as wrong, and small errors need not mean good control.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.normalisation import Normalisation
from pipeline.data.pairs import ActionPairs, load_action_pairs
from pipeline.data.split import Split, split_pairs
from pipeline.errors import DataError
from pipeline.evaluation.control import (
    LARGEST_BLOCK,
    Evaluation,
    Ints,
    Report,
    joined_columns,
    model_word,
    plan_in_blocks,
    unwatched,
)
from pipeline.evaluation.expert import ChunkErrors, chunk_errors, evenly_spaced
from pipeline.methods.method import Plans, joined
from pipeline.policies.policy import Policy
from pipeline.streams import torch_stream
from pipeline.tasks.facts import require_fit
from pipeline.tasks.task import Array, Columns, Task

Floats = NDArray[np.float32]
PLANS = 25  # of an episode at most, evenly spaced over its pairs: as many as the project's own tasks have


@dataclass(frozen=True)
class HeldOut:
    """Episodes of the test split of a task's action pairs."""

    task: Task
    states: Floats  # (N, S)
    chunks: Floats  # (N, H, A), demonstrated
    episode: Ints  # (N,), 0 to E-1, ascending
    row: Ints  # (N,), of the file
    std: Array  # (A,)


def count_held_out(path: Path, pairs: ActionPairs) -> int:
    """Return how many episodes the test split of the action pairs of a file has; raises `DataError`."""
    return len(_episodes(path, pairs, split_pairs(pairs.trajectory, len(pairs.state))))


def hold_out(task: Task, path: Path, episodes: int) -> HeldOut:
    """Return so many episodes of the test split, evenly spaced over it, or all if there are fewer.

    Raises `DataError`, also where it is not known which episode a pair is of.
    """
    pairs = load_action_pairs(path)
    sizes = pairs.state.shape[1], pairs.action_chunk.shape[2]
    require_fit(str(path), pairs.task, sizes, task, DataError, "Name the task's own by --pairs, or import them again.")
    split = split_pairs(pairs.trajectory, len(pairs.state))
    known = _episodes(path, pairs, split)
    rows = [evenly_spaced(known[number], PLANS) for number in evenly_spaced(np.arange(len(known)), episodes)]
    row = np.concatenate(rows)
    std = Normalisation.of(pairs.action_chunk[split.train]).std.astype(np.float64)
    episode = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    return HeldOut(task, pairs.state[row], pairs.action_chunk[row], episode, row, std)


def _episodes(path: Path, pairs: ActionPairs, split: Split) -> list[Ints]:
    """Return the rows of each episode of the test split, ascending."""
    if pairs.trajectory is None:
        raise DataError(f"{path}: has no key 'trajectory', so no episodes can be held out. Import the data again.")
    of_row = pairs.trajectory[split.test]
    order = np.argsort(of_row, kind="stable")
    return np.split(split.test[order], np.flatnonzero(np.diff(of_row[order])) + 1)


def evaluate_plans(
    policy: Policy, held_out: HeldOut, seed: int, report: Report = unwatched
) -> tuple[Evaluation, ChunkErrors]:
    """Let a policy plan from every held-out state, and score each episode; its noise has a stream for each state."""
    task, count, model = held_out.task, len(held_out.states), model_word(policy)
    parts = []
    for first in range(0, count, LARGEST_BLOCK):
        report(first / count)
        due = np.arange(first, min(first + LARGEST_BLOCK, count))
        rows = held_out.row[due]
        parts.append(
            plan_in_blocks(
                policy, held_out.states[due], rows, lambda row: torch_stream(seed, "plans", "held out", model, row)
            )
        )
    plans = joined(parts, count)
    rebuilt = policy.rebuild(held_out.chunks) if policy.rebuild else None
    columns = [_scores(held_out, plans, rebuilt, condition.replan) for condition in task.conditions]
    errors = chunk_errors(plans.actions, held_out.states, held_out.chunks, rebuilt)
    return Evaluation(task.scores, task.conditions, joined_columns(columns)), errors


def _scores(held_out: HeldOut, plans: Plans, rebuilt: Floats | None, steps: int) -> Columns:
    """Return the scores `(E,)` of the first so many actions of plans."""
    of_episode = np.bincount(held_out.episode)

    def errors(chunks: Floats) -> Array:
        difference = (chunks[:, :steps] - held_out.chunks[:, :steps]).astype(np.float64)
        found: Array = np.abs(difference) / held_out.std
        return found

    def mean(values: NDArray[Any]) -> Array:
        return np.bincount(held_out.episode, values) / of_episode

    found = errors(plans.actions)
    columns: Columns = {
        "agreement": mean(1 - np.minimum(1, found).mean((1, 2))),
        "plan_error": mean(found.mean((1, 2))),
    }
    if rebuilt is not None:
        columns["reconstruction"] = mean(errors(rebuilt).mean((1, 2)))
    if plans.tokens is not None:
        lost = np.zeros(len(plans.tokens)) if plans.undecodable is None else plans.undecodable
        columns |= {"tokens_per_plan": mean(plans.tokens), "undecodable": mean(lost)}
    return columns
