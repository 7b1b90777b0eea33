"""An episode as one picture: the task's scene at several times, the last one darkest."""

from pathlib import Path

from pipeline.report.animation import Record, cut
from pipeline.report.plotting import Figure, plain, save
from pipeline.report.scenes import Painter, ghosts_of
from pipeline.tasks.task import Task

GHOSTS = 7
WIDTH, HIGHEST, AXIS, DPI = 6.4, 4.8, 0.5, 120  # inches, pixels per inch


@plain()
def draw_still(path: Path, task: Task, record: Record) -> None:
    """Write a PNG of an episode atomically to `path`, up to its end; raises `ValueError` for a task without a scene."""
    scene = cut(task, record, after=0).scene
    if scene is None:
        raise ValueError(f"{task.name}: expected a task with a scene, found none.")
    foot = AXIS if scene.label else 0.0
    box = min(HIGHEST, WIDTH * (scene.top - scene.bottom) / (scene.right - scene.left))
    figure = Figure(figsize=(WIDTH, box + foot), dpi=DPI)
    axes = figure.add_axes((0.01, foot / (box + foot), 0.98, box / (box + foot)))
    steps = max(len(shape.points) for shape in scene.shapes) - 1
    Painter(axes, scene).superpose(ghosts_of(GHOSTS, steps))
    save(figure, path, DPI)
