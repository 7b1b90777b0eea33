"""Full records of single episodes, for drawings.

Shapes: T control steps, S state, A action, K plans, H horizon.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.env.pendulum import Array, simulate
from pipeline.evaluation.control import ChunkExecutor, Episodes, Ints, Planner


@dataclass(frozen=True)
class Record:
    """One episode of a planner. Plan k begins at step `asked[k]`, and its actions are executed from `taken[k]` on."""

    states: Array  # (T+1, S), the last one after the last action
    actions: Array  # (T, A), as planned, without the noise; zero after a fall
    noise: Array  # (T, A), added to the actions
    chunks: NDArray[np.float32]  # (K, H, A)
    asked: Ints  # (K,) steps whose states the plans are for
    taken: Ints  # (K,) first steps that execute the plans: later than `asked` if the answer was late


def record_planner(planner: Planner, episodes: Episodes, numbers: Sequence[int], threads: int = 0) -> list[Record]:
    """Run a planner on all episodes, as `evaluate_planner` does, and return the records of those with these numbers.

    The episodes equal those that `evaluate_planner` scores, bit for bit. An episode's number is its index in the
    columns of an `Evaluation`, and so its row in a run's `evaluation/episodes.csv`.
    """
    kept: dict[int, list[tuple[int, NDArray[np.float32]]]] = {number: [] for number in numbers}

    def keep(step: int, due: Ints, chunks: NDArray[np.float32]) -> None:
        for place in np.flatnonzero(np.isin(due, list(kept))):
            kept[int(due[place])].append((step, chunks[place]))

    executor = ChunkExecutor(planner, episodes.replan, keep)
    states, actions = simulate(executor, episodes.starts, episodes.noise, threads)
    records = []
    for number in numbers:
        steps = np.array([step for step, _ in kept[number]], dtype=np.int64)
        chunks = np.stack([chunk for _, chunk in kept[number]])
        records.append(Record(states[number], actions[number], episodes.noise[number], chunks, steps, steps))
    return records
