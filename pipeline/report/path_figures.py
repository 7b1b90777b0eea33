"""The figure of a task with several ways: the paths of episodes."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.group_styles import Style
from pipeline.report.plotting import Axes, Figure, plain
from pipeline.report.scenes import draw_back
from pipeline.report.statistics import Floats
from pipeline.tasks.scene import Scene

MOST_COLUMNS = 4
TITLE_WIDTH = 36  # letters of a group's name in a line of its panel's title
ROOM = 0.15  # around the demonstrators' paths, as a share of their width and height
INK, LEAST = 160, 0.08  # so many paths at full strength are as dark as all of a group; fainter ones lose their hue


@dataclass(frozen=True)
class Beneath:
    """What a task's paths are drawn over."""

    demonstrated: Floats | None = None  # (N, T+1, 2)
    scene: Scene | None = None  # for what never moves in it
    axes: tuple[str, str] | None = None  # what the numbers are, if they are not places in the scene


@plain()
def draw_paths(
    title: str, paths: Mapping[str, Floats], notes: Mapping[str, str], styles: Mapping[str, Style], beneath: Beneath
) -> Figure:
    """The paths of episodes `(N, T+1, 2)` of each group over those of demonstrators, a panel per group.

    Paths are NaN after an early end, which a cross marks. `notes` stand in the panels' titles.
    """
    scene = beneath.scene
    aspect, rows = 1.0, -(-len(paths) // MOST_COLUMNS)
    if scene is not None:
        aspect = (scene.top - scene.bottom) / (scene.right - scene.left)
    columns = -(-len(paths) // rows)  # five panels are three and two, not four and one
    figure = Figure(
        figsize=(max(9.0, 3.3 * columns), rows * (3.1 * min(aspect, 1.6) + 0.6) + 0.8), layout="constrained"
    )
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel().tolist()
    for (group, found), axes in zip(paths.items(), panels, strict=False):
        if scene is not None:
            axes.set(xlim=(scene.left, scene.right), ylim=(scene.bottom, scene.top))
            axes.set_aspect("equal")
        if (demonstrated := beneath.demonstrated) is not None:
            axes.plot(*demonstrated.transpose(2, 1, 0), color="0.8", linewidth=0.5, zorder=-2)
            if scene is None:
                axes.set(**limits(demonstrated))
        draw_lines(
            axes, found, color=styles[group]["color"], linewidth=0.7, alpha=min(0.5, max(LEAST, INK / len(found)))
        )
        name = textwrap.fill(group, TITLE_WIDTH)
        axes.set_title("\n".join(filter(None, (name, notes.get(group)))), fontsize=10)
        axes.tick_params(labelsize=8)
    for axes in panels[max(0, len(paths) - columns) : len(paths)]:
        axes.tick_params(labelbottom=True)  # also where there is none below
    for axes in panels[len(paths) :]:
        axes.remove()
    del panels[len(paths) :]
    if beneath.axes is not None:
        figure.supxlabel(beneath.axes[0], fontsize=10)
        figure.supylabel(beneath.axes[1], fontsize=10)
    counts = " or ".join(f"{count:,}" for count in sorted({len(found) for found in paths.values()}))
    over = "; grey: the demonstrators'" if beneath.demonstrated is not None else ""
    figure.suptitle(f"Ways taken in {title}: paths of {counts} episodes each{over}")
    figure.draw_without_rendering()  # the layout must be known, so that lines of the scene have their width
    if scene is not None:
        for axes in panels:
            draw_back(axes, scene)
    return figure


def limits(paths: Floats) -> dict[str, tuple[float, float]]:
    """Return limits of the axes with room around what is finite of paths `(N, T+1, 2)`; none if nothing is."""
    shown = paths[np.isfinite(paths).all(2)]
    if not len(shown):
        return {}
    low, high = shown.min(0), shown.max(0)
    room = ROOM * (high - low)
    (left, bottom), (right, top) = low - room, high + room
    return {"xlim": (float(left), float(right)), "ylim": (float(bottom), float(top))}


def draw_lines(axes: Axes, paths: Floats, **style: Any) -> None:
    """Draw paths `(N, T+1, 2)` on axes; they are NaN after an early end, which a cross marks."""
    axes.plot(*paths.transpose(2, 1, 0), **style, zorder=-1)
    ended = np.isnan(paths[:, -1, 0])
    last = np.where(np.isfinite(paths[ended, :, 0]), np.arange(paths.shape[1]), 0).max(1)
    axes.plot(*paths[ended, last].T, "x", color="black", markersize=4, zorder=100)
