"""Full records of single episodes, for drawings.

Shapes: T control steps, P state of the simulator, A action, K plans, H horizon.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.control import ChunkExecutor, Episodes, Ints, Planner
from pipeline.methods.method import Plans
from pipeline.tasks.task import Array


@dataclass(frozen=True)
class Record:
    """One episode of a planner. Plan k begins at step `asked[k]`, and its actions are executed from `taken[k]` on."""

    states: Array  # (T+1, P), the last one after the last action
    actions: Array  # (T, A), as planned, without the noise; zero after an early end
    noise: Array  # (T, A), added to the actions
    chunks: NDArray[np.float32]  # (K, H, A)
    asked: Ints  # (K,) steps whose states the plans are for
    taken: Ints  # (K,) first steps that execute the plans: later than `asked` if the answer was late


def record_planner(planner: Planner, episodes: Episodes, numbers: Sequence[int], threads: int = 0) -> list[Record]:
    """Run a planner on the episodes with these numbers alone, and return their records.

    They equal those that `evaluate_planner` scores among all others, bit for bit, if a plan does not depend on what is
    planned beside it. An episode's number is its index in the columns of an `Evaluation`, and so its row in a run's
    `evaluation/episodes.csv`.
    """
    chosen = np.array(numbers, dtype=np.int64)
    kept: list[list[tuple[int, NDArray[np.float32]]]] = [[] for _ in numbers]

    def plan(states: Array, due: Ints, step: int) -> Plans:
        return planner(states, chosen[due], step)

    def keep(step: int, due: Ints, chunks: NDArray[np.float32]) -> None:
        for place, chunk in zip(due.tolist(), chunks, strict=True):
            kept[place].append((step, chunk))

    noise = episodes.noise[chosen]
    executor = ChunkExecutor(episodes.task, plan, episodes.replan[chosen], keep)
    states, actions = episodes.task.simulator.simulate(executor, episodes.starts[chosen], noise, threads)
    records = []
    for place, plans in enumerate(kept):
        steps = np.array([step for step, _ in plans], dtype=np.int64)
        chunks = np.stack([chunk for _, chunk in plans])
        records.append(Record(states[place], actions[place], noise[place], chunks, steps, steps))
    return records
