"""A few demonstrations of a task, and its yardsticks, without the pipeline around them."""

from pipeline.evaluation.control import draw_episodes
from pipeline.evaluation.yardsticks import evaluate_yardstick
from pipeline.streams import numpy_stream
from pipeline.tasks.task import Array, Task


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


def primary_of_yardsticks(task: Task, condition: int, episodes: int) -> dict[str, float]:
    """The mean primary score of each yardstick in a condition."""
    drawn = draw_episodes(task, task.conditions[condition : condition + 1], episodes, 0, "test")
    return {name: float(evaluate_yardstick(name, drawn, 1).columns[task.primary].mean()) for name in task.yardsticks}
