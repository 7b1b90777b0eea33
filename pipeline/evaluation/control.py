"""Closed-loop control: all controllers meet the same episodes of the pendulum, and every episode is scored.

Shapes: E episodes of all conditions side by side, T control steps, S state, H horizon, A action.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.env.pendulum import ACTION_DIM, EPISODE_STEPS, Array, Controller, draw_starts, fallen, simulate
from pipeline.env.scores import score
from pipeline.errors import RunError
from pipeline.evaluation.protocol import Condition
from pipeline.methods.method import Plans
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

    Starts and noise depend only on the condition, `seed` and `purpose`. The first n episodes do not depend on the
    count. Data collection and each purpose have separate streams, so equal seeds do not make them share draws.
    """
    starts, noise = [], []
    for condition in conditions:
        draws = [numpy_stream(seed, "episodes", *purpose, str(condition), what) for what in ("starts", "noise")]
        starts.append(draw_starts(draws[0], count))
        unit = draws[1].uniform(-1, 1, (count, EPISODE_STEPS, ACTION_DIM))
        noise.append(condition.action_noise * unit)
    replan = np.repeat([condition.replan for condition in conditions], count)
    return Episodes(tuple(conditions), np.concatenate(starts), np.concatenate(noise), replan)


def policy_planner(policy: Policy, episodes: Episodes, seed: int, *purpose: str) -> Planner:
    """Make a policy's planner for these episodes.

    Noise, if the policy draws any, has a stream for each model, episode and step. So the first n episodes depend
    neither on the count nor on which episodes have ended.
    """
    model = str(policy.provenance.get("weights_sha256", policy.name)).replace("/", "-")
    count = len(episodes.starts) // len(episodes.conditions)

    def plan(states: Array, due: Ints, step: int) -> Plans:
        def noise(shape: tuple[int, ...]) -> Tensor:
            rows = [
                torch_stream(
                    seed, "plans", *purpose, model, str(episodes.conditions[number // count]), number % count, step
                )
                for number in due.tolist()
            ]
            return torch.stack([torch.randn(shape[1:], generator=each) for each in rows])

        return policy.plan(states, noise)

    return plan


class ChunkExecutor:
    """A controller that executes a planner's chunks open-loop and requests new ones when they are due.

    Fallen episodes get no more plans. It counts plans, tokens and undecodable plans, `(E,)` each; `tokens` stays 0 for
    methods without tokens.
    `keep(step, due (B,), chunks (B, H, A))` is called with each new chunk and its episode indices.
    Raises `RunError` for a plan that is not finite: MuJoCo would treat it as no action.
    """

    def __init__(self, planner: Planner, replan: Ints, keep: Keep = _unkept) -> None:
        self._planner, self._replan, self._keep = planner, replan, keep
        self._chunks = np.zeros((len(replan), int(replan.max()), ACTION_DIM))
        self._running = np.ones(len(replan), dtype=bool)
        self.plans, self.tokens, self.undecodable = (np.zeros(len(replan), dtype=np.int64) for _ in range(3))

    def __call__(self, step: int, states: Array) -> Array:
        self._running &= ~fallen(states)
        due = np.flatnonzero(self._running & (step % self._replan == 0))
        if len(due):
            plans = self._planner(states[due], due, step)
            if not np.isfinite(plans.actions).all():
                raise RunError(f"plans at step {step}: expected finite actions, found NaN or infinity. Train it again.")
            self._keep(step, due, plans.actions)
            self._chunks[due] = plans.actions[:, : self._chunks.shape[1]]
            self.plans[due] += 1
            self.tokens[due] += 0 if plans.tokens is None else plans.tokens
            self.undecodable[due] += 0 if plans.undecodable is None else plans.undecodable
        actions: Array = self._chunks[np.arange(len(states)), step % self._replan]
        return np.where(self._running[:, None], actions, 0)


@dataclass(frozen=True)
class Evaluation:
    """Every episode's scores as columns `(E,)`: those of `env.scores`, and `plans`, `tokens`, `undecodable`."""

    conditions: tuple[Condition, ...]
    columns: dict[str, NDArray[Any]]

    def of_condition(self, number: int) -> dict[str, NDArray[Any]]:
        """Return the columns of one condition's episodes."""
        count = len(self.columns["success"]) // len(self.conditions)
        return {name: column[number * count : (number + 1) * count] for name, column in self.columns.items()}


def evaluate_controller(
    controller: Controller, episodes: Episodes, threads: int = 0, report: Report = _unwatched
) -> Evaluation:
    """Run a controller on all episodes at once and score them; `threads` 0 means all cores, with equal results."""

    def watched(step: int, states: Array) -> Array:
        report(step / EPISODE_STEPS)
        return controller(step, states)

    states, actions = simulate(watched, episodes.starts, episodes.noise, threads)
    return Evaluation(episodes.conditions, dict(vars(score(states, actions))))


def evaluate_planner(planner: Planner, episodes: Episodes, threads: int = 0, report: Report = _unwatched) -> Evaluation:
    """Run a planner on all episodes, executing its chunks, and score them."""
    executor = ChunkExecutor(planner, episodes.replan)
    scored = evaluate_controller(executor, episodes, threads, report)
    counts = {"plans": executor.plans, "tokens": executor.tokens, "undecodable": executor.undecodable}
    return Evaluation(scored.conditions, scored.columns | counts)


def mean_scores(evaluation: Evaluation) -> list[dict[str, float]]:
    """Return a model's scores per condition: means over its episodes, fallen ones included.

    `converge` is over all episodes, `converge_of_successful` over those without a fall, `converge_step` over those that
    succeed and converge. Scores without any such episode are left out.
    """
    rows = []
    for number in range(len(evaluation.conditions)):
        columns = evaluation.of_condition(number)
        success, converged = columns["success"], columns["converged"]
        both = success & converged
        row = {"success": success.mean(), "converge": converged.mean()}
        if success.any():
            row["converge_of_successful"] = converged[success].mean()
        if both.any():
            row["converge_step"] = columns["converge_step"][both].mean()
        row |= {name: column.mean() for name, column in columns.items() if column.dtype.kind == "f"}
        row["return"] = columns["steps_upright"].mean()
        if "tokens" in columns and columns["tokens"].any():
            row["tokens_per_plan"] = columns["tokens"].sum() / columns["plans"].sum()
            row["undecodable"] = columns["undecodable"].sum() / columns["plans"].sum()
        rows.append({name: float(value) for name, value in row.items()})
    return rows
