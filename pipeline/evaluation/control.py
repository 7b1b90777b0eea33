"""Closed-loop control: all controllers meet the same episodes of a task, and every episode is scored.

Shapes: E episodes of all conditions side by side, T control steps, P state of the simulator, S observation, H horizon,
A action, D decisions of a task with several ways.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import DivergedError
from pipeline.methods.method import Plans, joined, rows_of
from pipeline.names import WEIGHTS_SHA256
from pipeline.policies.policy import Policy
from pipeline.streams import numpy_stream, torch_stream
from pipeline.tasks.score import SUCCESS, Scores, shares_of
from pipeline.tasks.task import Array, Columns, Condition, Controller, Task
from pipeline.tasks.ways import count_switches, entropy_terms

Ints = NDArray[np.int64]
Planner = Callable[[Array, Ints, int], Plans]
"""`planner(states (B, P), episodes (B,), step) -> plans` of B chunks, for these episodes at this step.

Actions beyond the replan interval are discarded.
"""
ControllerFor = Callable[[slice], Controller]
"""`controller_for(rows) -> controller` of the episodes with these numbers."""
Report = Callable[[float], None]
"""`report(fraction)` is called with the fraction of the work that is done."""


Keep = Callable[[int, Ints, NDArray[np.float32]], None]

LARGEST_BLOCK = 512  # states planned for at once: what the networks compute stays in a core's cache
SMALLEST_BLOCK = 16  # blocks are filled to multiples: of odd or few rows a matrix product may add up in another order


def unwatched(_fraction: float) -> None:
    pass


def _unkept(_step: int, _due: Ints, _chunks: NDArray[np.float32]) -> None:
    pass


@dataclass(frozen=True)
class Episodes:
    """The E episodes that every controller meets, ordered by condition."""

    task: Task
    conditions: tuple[Condition, ...]
    starts: Array  # (E, Q)
    noise: Array  # (E, T, A), added to the actions
    replan: Ints  # (E,)
    first: int = 0  # the number of the first episode of each condition


def draw_episodes(
    task: Task, conditions: Sequence[Condition], count: int, seed: int, *purpose: str, first: int = 0
) -> Episodes:
    """Draw `count` episodes of a task per condition, from the one with the number `first` on.

    Starts depend only on `seed` and `purpose`: episode i has the same one in all conditions, so that conditions compare
    with less noise. The noise depends on the condition as well. An episode depends on its number,
    not on how many are drawn, nor from where on. Data collection and each purpose have separate streams, so equal seeds
    do not make them share draws.
    """
    starts = task.simulator.draw_starts(numpy_stream(seed, "episodes", *purpose, "starts"), first + count)[first:]
    noise, shape = [], (count, task.episode_steps, task.action_dim)
    for condition in conditions:
        stream = numpy_stream(seed, "episodes", *purpose, str(condition), "noise")
        assert isinstance(stream.bit_generator, np.random.PCG64), "it can skip: one step for each number"
        stream.bit_generator.advance(first * task.episode_steps * task.action_dim)
        noise.append(condition.action_noise * stream.uniform(-1, 1, shape))
    replan = np.repeat([condition.replan for condition in conditions], count)
    tiled = np.tile(starts, (len(conditions), 1))
    return Episodes(task, tuple(conditions), tiled, np.concatenate(noise), replan, first)


def policy_planner(policy: Policy, episodes: Episodes, seed: int, *purpose: str) -> Planner:
    """Make a policy's planner for these episodes.

    Noise, if the policy draws any, has a stream for each model, episode and step. So an episode depends neither
    on how many are drawn nor on which have ended.
    """
    model, count = model_word(policy), len(episodes.starts) // len(episodes.conditions)

    def plan(states: Array, due: Ints, step: int) -> Plans:
        def stream(number: int) -> torch.Generator:
            condition = str(episodes.conditions[number // count])
            episode = episodes.first + number % count
            generator: torch.Generator = torch_stream(seed, "plans", *purpose, model, condition, episode, step)
            return generator

        return plan_in_blocks(policy, episodes.task.simulator.observe(states), due, stream)

    return plan


def model_word(policy: Policy) -> str:
    """Return what stands for a policy in the names of streams."""
    return str(policy.provenance.get(WEIGHTS_SHA256, policy.name)).replace("/", "-")


def plan_in_blocks(
    policy: Policy, observed: NDArray[Any], numbers: Ints, stream: Callable[[int], torch.Generator]
) -> Plans:
    """Plan for `observed (B, S)` in blocks in which a plan has the same bits in any company.

    `stream(number)` gives the noise of the state with that one of `numbers (B,)`. A policy that draws again, as the
    members of an average do, draws on.
    """

    def plan_block(rows: Ints) -> Plans:
        @cache
        def streams() -> list[torch.Generator]:
            return [stream(each) for each in numbers[rows].tolist()]

        def noise(shape: tuple[int, ...]) -> Tensor:
            return torch.stack([torch.randn(shape[1:], generator=each) for each in streams()])

        return policy.plan(observed[rows], noise)

    filled = np.resize(np.arange(len(numbers)), (-(-len(numbers) // SMALLEST_BLOCK), SMALLEST_BLOCK))
    blocks = np.array_split(filled, -(-filled.size // LARGEST_BLOCK))
    return joined([plan_block(rows.ravel()) for rows in blocks], len(numbers))


class ChunkExecutor:
    """A controller that executes a planner's chunks open-loop and requests new ones when they are due.

    Episodes that have ended get no more plans. It counts the plans of every episode, of methods with tokens the tokens
    and the undecodable plans, and in tasks with several ways how often a new plan leads another way than the last.
    `keep(step, due (B,), chunks (B, H, A))` is called with each new chunk and its episode indices.
    Where a plan is missing, the episode is given up: it gets no action and no plan any more.
    Raises `DivergedError` for a plan that is not finite: a simulator would treat it as no action.
    """

    def __init__(self, task: Task, planner: Planner, replan: Ints, keep: Keep = _unkept) -> None:
        self._task, self._planner, self._replan, self._keep = task, planner, replan, keep
        count = len(replan)
        self._chunks = np.zeros((count, int(replan.max()), task.action_dim))
        self._running = np.ones(count, dtype=bool)
        self._plans, self._tokens, self._undecodable, self._switches = (np.zeros(count, np.int64) for _ in range(4))
        self._ways = np.full((count, len(task.ways.decisions)), -1) if task.ways else None
        self._has_tokens = False
        self._given_up: NDArray[np.bool_] | None = None  # of a policy whose plans may be missing

    def __call__(self, step: int, states: Array) -> Array:
        self._running &= ~self._task.simulator.ended(states)
        due = np.flatnonzero(self._running & (step % self._replan == 0))
        if len(due):
            plans = self._planner(states[due], due, step)
            if not np.isfinite(plans.actions).all():
                found = "expected finite actions, found NaN or infinity. Train it again."
                raise DivergedError(f"plans at step {step}: {found}")
            self._plans[due] += 1
            if plans.missing is not None:
                self._given_up = np.zeros(len(states), dtype=bool) if self._given_up is None else self._given_up
                self._given_up[due[plans.missing]] = True
                self._running &= ~self._given_up
                due, plans = due[~plans.missing], rows_of(plans, ~plans.missing)
            self._keep(step, due, plans.actions)
            self._chunks[due] = plans.actions[:, : self._chunks.shape[1]]
            if plans.tokens is not None:
                self._has_tokens = True
                self._tokens[due] += plans.tokens
                self._undecodable[due] += 0 if plans.undecodable is None else plans.undecodable
            if self._task.ways and self._ways is not None and len(due):
                ways = self._task.ways.planned(states[due], plans.actions.astype(np.float64))
                self._switches[due] += count_switches(self._ways[due], ways)
                self._ways[due] = np.where(ways >= 0, ways, self._ways[due])
        actions: Array = self._chunks[np.arange(len(states)), step % self._replan]
        return np.where(self._running[:, None], actions, 0)

    def scores(self) -> Columns:
        """Return what describes the plans of every episode, `(E,)` each; of tokens the means over its plans.

        No episode is without a plan: none begins at its end.
        """
        found: Columns = {} if self._ways is None else {"switches": self._switches}
        if self._has_tokens:
            found |= {"tokens_per_plan": self._tokens / self._plans, "undecodable": self._undecodable / self._plans}
        if self._given_up is not None:
            found["no_plan"] = self._given_up
        return found


@dataclass(frozen=True)
class Evaluation:
    """Every episode's scores, those of the task's that a method has, as columns `(E,)`; and what was seen of ways.

    It goes from process to process, which a task with its functions cannot.
    """

    scores: Scores  # all of the task's
    conditions: tuple[Condition, ...]
    columns: Columns
    paths: NDArray[np.float32] | None = None  # (E, T+1, 2), NaN after an early end without success; None: one way

    def by_condition(self) -> Columns:
        """Return the columns as arrays `(C, S)`: C conditions in order, S starts, which are the same in all of them."""
        return {name: column.reshape(len(self.conditions), -1) for name, column in self.columns.items()}


def evaluate_controller(
    controller_for: ControllerFor, episodes: Episodes, threads: int = 0, report: Report = unwatched
) -> Evaluation:
    """Run controllers on all episodes and score them; `threads` 0 means all cores, with equal results.

    All episodes are simulated at once, or in blocks where the task's world takes no more: the results are equal.
    """
    task, count = episodes.task, len(episodes.starts)
    columns: list[Columns] = []
    taken: list[Ints] = []
    paths: list[NDArray[np.float32]] = []
    for rows in task.simulator.blocks(count):
        controller = controller_for(rows)

        def watched(step: int, states: Array, controller: Controller = controller, first: int = rows.start) -> Array:
            report((first + len(states) * step / task.episode_steps) / count)
            return controller(step, states)

        states, actions = task.simulator.simulate(watched, episodes.starts[rows], episodes.noise[rows], threads)
        columns.append(task.score(states, actions))
        if task.ways:
            taken.append(task.ways.taken(states))
            over = np.logical_or.accumulate(task.simulator.ended(states), axis=1)
            if (well := columns[-1].get(SUCCESS)) is not None:
                over &= ~well.astype(bool)[:, None]  # what comes after a success is not told
            paths.append(np.where(over[..., None], np.nan, task.ways.path(states)).astype(np.float32))
    whole = joined_columns(columns)
    if not task.ways:
        return Evaluation(task.scores, episodes.conditions, whole)
    by_condition = np.split(np.concatenate(taken), len(episodes.conditions))
    terms = np.concatenate([entropy_terms(each, task.ways.entropy) for each in by_condition])
    whole |= {"ways": terms, "switches": np.zeros(count, np.int64)}
    return Evaluation(task.scores, episodes.conditions, whole, np.concatenate(paths))


def joined_columns(blocks: Sequence[Columns]) -> Columns:
    """Return the columns of all blocks of episodes."""
    return {name: np.concatenate([each[name] for each in blocks]) for name in blocks[0]}


def evaluate_planner(planner: Planner, episodes: Episodes, threads: int = 0, report: Report = unwatched) -> Evaluation:
    """Run a planner on all episodes, executing its chunks, and score them.

    An episode that is given up for want of a plan is none that went well: its shares, see `shares_of`, are 0. Its other
    scores are of what happened, without an action from there on.
    """
    executors: list[ChunkExecutor] = []

    def executor(rows: slice) -> Controller:
        def plan(states: Array, due: Ints, step: int) -> Plans:
            return planner(states, rows.start + due, step)

        executors.append(ChunkExecutor(episodes.task, plan, episodes.replan[rows]))
        return executors[-1]

    scored = evaluate_controller(executor, episodes, threads, report)
    of_plans = joined_columns([each.scores() for each in executors])
    columns = scored.columns | of_plans
    if "no_plan" in of_plans:
        columns |= {name: columns[name] * ~of_plans["no_plan"] for name in shares_of(episodes.task.scores)}
    return replace(scored, columns=columns)


def mean_scores(evaluation: Evaluation) -> list[dict[str, float]]:
    """Return a model's scores per condition: means over all its episodes, by the names and in the order of the task."""
    columns = evaluation.by_condition()
    return [
        {name: float(columns[name][number].mean()) for name in evaluation.scores if name in columns}
        for number in range(len(evaluation.conditions))
    ]
