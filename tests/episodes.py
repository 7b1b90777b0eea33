"""Demonstrations and yardsticks of a task, without the pipeline around it."""

import numpy as np

from pipeline.streams import numpy_stream
from pipeline.tasks.task import Array, Columns, Condition, Task


def demonstrate(task: Task, count: int, threads: int = 1, keep: int | None = None) -> tuple[Array, Array, Array]:
    """Variation `(B, G)`, states `(B, T, P)` and actions `(B, T, A)` of the first `keep` of `count` demonstrations."""
    demonstrator = task.demonstrator
    assert demonstrator is not None
    starts = task.world.draw_starts(numpy_stream(7, "starts"), count)[:keep]
    variation = demonstrator.draw_variation(numpy_stream(7, "variation"), count)[:keep]
    size = (count, task.demonstration_steps, task.action_dim)
    noise = demonstrator.action_noise * numpy_stream(7, "noise").uniform(-1, 1, size)[:keep]
    states, actions = task.world.simulate(demonstrator.controller(variation, starts), starts, noise, threads)
    return variation, states[:, :-1], actions


def run_yardstick(task: Task, name: str, condition: Condition, count: int) -> Columns:
    raise NotImplementedError
