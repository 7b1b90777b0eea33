"""Closed-loop control: all controllers meet the same episodes of the pendulum, and every episode is scored.

Shapes: E episodes of all conditions side by side, T control steps, S state, H horizon, A action.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.env.pendulum import ACTION_DIM, EPISODE_STEPS, Array, Controller, draw_starts, fallen, simulate
from pipeline.env.score_table import SCORES
from pipeline.env.scores import Columns, score
from pipeline.errors import RunError
from pipeline.evaluation.protocol import Condition
from pipeline.methods.method import Plans, joined
from pipeline.policies.policy import Policy
from pipeline.streams import numpy_stream, torch_stream

Ints = NDArray[np.int64]
Planner = Callable[[Array, Ints, int], Plans]
"""`planner(states (B, S), episodes (B,), step) -> plans` of B chunks, for these episodes at this step.

Actions beyond the replan interval are discarded.
"""
Report = Callable[[float], None]
"""`report(fraction)` is called with the fraction of the work that is done."""


Keep = Callable[[int, Ints, NDArray[np.float32]], None]

LARGEST_BLOCK = 512  # states planned for at once: what the networks compute stays in a core's cache
SMALLEST_BLOCK = 16  # for fewer rows a matrix product may add up in another order; a block is filled with repeats


def _unwatched(_fraction: float) -> None:
    pass


def _unkept(_step: int, _due: Ints, _chunks: NDArray[np.float32]) -> None:
    pass


@dataclass(frozen=True)
class Episodes:
    """The E episodes that every controller meets, ordered by condition."""

    conditions: tuple[Condition, ...]
    starts: Array  # (E, S)
    noise: Array  # (E, T, A), added to the actions
    replan: Ints  # (E,)


def draw_episodes(conditions: Sequence[Condition], count: int, seed: int, *purpose: str) -> Episodes:
    """Draw `count` episodes per condition.

    Starts depend only on `seed` and `purpose`: episode i has the same one in all conditions, so that conditions compare
    with less noise. The noise depends on the condition as well. The first n episodes do not depend on the count. Data
    collection and each purpose have separate streams, so equal seeds do not make them share draws.
    """
    starts = draw_starts(numpy_stream(seed, "episodes", *purpose, "starts"), count)
    noise = []
    for condition in conditions:
        unit = numpy_stream(seed, "episodes", *purpose, str(condition), "noise").uniform(
            -1, 1, (count, EPISODE_STEPS, ACTION_DIM)
        )
        noise.append(condition.action_noise * unit)
    replan = np.repeat([condition.replan for condition in conditions], count)
    return Episodes(tuple(conditions), np.tile(starts, (len(conditions), 1)), np.concatenate(noise), replan)


def policy_planner(policy: Policy, episodes: Episodes, seed: int, *purpose: str) -> Planner:
    """Make a policy's planner for these episodes.

    Noise, if the policy draws any, has a stream for each model, episode and step, and states are planned for in blocks
    in which a plan has the same bits in any company. So the first n episodes depend neither on the count nor on which
    episodes have ended.
    """
    model = str(policy.provenance.get("weights_sha256", policy.name)).replace("/", "-")
    count = len(episodes.starts) // len(episodes.conditions)

    def plan_block(states: Array, due: Ints, step: int) -> Plans:
        def noise(shape: tuple[int, ...]) -> Tensor:
            rows = [
                torch_stream(
                    seed, "plans", *purpose, model, str(episodes.conditions[number // count]), number % count, step
                )
                for number in due.tolist()
            ]
            return torch.stack([torch.randn(shape[1:], generator=each) for each in rows])

        return policy.plan(states, noise)

    def plan(states: Array, due: Ints, step: int) -> Plans:
        filled = np.resize(np.arange(len(due)), max(len(due), SMALLEST_BLOCK))
        blocks = np.array_split(filled, -(-len(filled) // LARGEST_BLOCK))
        return joined([plan_block(states[rows], due[rows], step) for rows in blocks], len(due))

    return plan


class ChunkExecutor:
    """A controller that executes a planner's chunks open-loop and requests new ones when they are due.

    Fallen episodes get no more plans. It counts the plans, and of methods with tokens the tokens and the undecodable
    plans, of every episode.
    `keep(step, due (B,), chunks (B, H, A))` is called with each new chunk and its episode indices.
    Raises `RunError` for a plan that is not finite: MuJoCo would treat it as no action.
    """

    def __init__(self, planner: Planner, replan: Ints, keep: Keep = _unkept) -> None:
        self._planner, self._replan, self._keep = planner, replan, keep
        self._chunks = np.zeros((len(replan), int(replan.max()), ACTION_DIM))
        self._running = np.ones(len(replan), dtype=bool)
        self._plans, self._tokens, self._undecodable = (np.zeros(len(replan), dtype=np.int64) for _ in range(3))
        self._has_tokens = False

    def __call__(self, step: int, states: Array) -> Array:
        self._running &= ~fallen(states)
        due = np.flatnonzero(self._running & (step % self._replan == 0))
        if len(due):
            plans = self._planner(states[due], due, step)
            if not np.isfinite(plans.actions).all():
                raise RunError(f"plans at step {step}: expected finite actions, found NaN or infinity. Train it again.")
            self._keep(step, due, plans.actions)
            self._chunks[due] = plans.actions[:, : self._chunks.shape[1]]
            self._plans[due] += 1
            if plans.tokens is not None:
                self._has_tokens = True
                self._tokens[due] += plans.tokens
                self._undecodable[due] += 0 if plans.undecodable is None else plans.undecodable
        actions: Array = self._chunks[np.arange(len(states)), step % self._replan]
        return np.where(self._running[:, None], actions, 0)

    def scores(self) -> Columns:
        """Return what describes the plans of every episode, for methods with tokens: means over its plans, `(E,)` each.

        No episode is without a plan: none begins with a fallen pole.
        """
        if not self._has_tokens:
            return {}
        return {"tokens_per_plan": self._tokens / self._plans, "undecodable": self._undecodable / self._plans}


@dataclass(frozen=True)
class Evaluation:
    """Every episode's scores, the `SCORES` that the method has, as columns `(E,)`."""

    conditions: tuple[Condition, ...]
    columns: Columns

    def by_condition(self) -> Columns:
        """Return the columns as arrays `(C, S)`: C conditions in order, S starts, which are the same in all of them."""
        return {name: column.reshape(len(self.conditions), -1) for name, column in self.columns.items()}


def evaluate_controller(
    controller: Controller, episodes: Episodes, threads: int = 0, report: Report = _unwatched
) -> Evaluation:
    """Run a controller on all episodes at once and score them; `threads` 0 means all cores, with equal results."""

    def watched(step: int, states: Array) -> Array:
        report(step / EPISODE_STEPS)
        return controller(step, states)

    states, actions = simulate(watched, episodes.starts, episodes.noise, threads)
    return Evaluation(episodes.conditions, score(states, actions))


def evaluate_planner(planner: Planner, episodes: Episodes, threads: int = 0, report: Report = _unwatched) -> Evaluation:
    """Run a planner on all episodes, executing its chunks, and score them."""
    executor = ChunkExecutor(planner, episodes.replan)
    scored = evaluate_controller(executor, episodes, threads, report)
    return Evaluation(scored.conditions, scored.columns | executor.scores())


def mean_scores(evaluation: Evaluation) -> list[dict[str, float]]:
    """Return a model's scores per condition: means over all its episodes, by the names and in the order of `SCORES`."""
    columns = evaluation.by_condition()
    return [
        {name: float(columns[name][number].mean()) for name in SCORES if name in columns}
        for number in range(len(evaluation.conditions))
    ]
