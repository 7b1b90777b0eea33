"""The figures of a search: history, importance of settings, parallel coordinates. A panel is a method."""

import math
from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np

from pipeline.report.plotting import Axes, Figure, MaxNLocator, look, plain
from pipeline.report.search import COMPLETE, FAILED, PRUNED, Found, Searched, shown

PANEL_HEIGHT = 2.9  # inches
FEW = 5  # distinct values of a setting: each has its label


def draw_searched(searched: Searched) -> dict[str, Figure]:
    """Return the figures by name: history, importance, parallel coordinates."""
    return {
        "history": draw_history(searched),
        "importance": draw_importance(searched),
        "parallel": draw_parallel(searched),
    }


@plain()
def draw_history(searched: Searched) -> Figure:
    """Draw the scores of each method's trials by number, and the best so far."""
    panels = searched.found
    figure = Figure(figsize=(1.2 + 3.0 * len(panels), 3.6), layout="constrained")
    for number, (axes, each) in enumerate(zip(_row(figure, len(panels)), panels, strict=True)):
        style = look(number)
        complete = [one for one in each.tried if one.state == COMPLETE]
        pruned = [one for one in each.tried if one.state == PRUNED]
        failed = [one for one in each.tried if one.state == FAILED]
        for one in complete:
            axes.plot([one.number] * len(one.scores), one.scores, color=style["color"], linewidth=0.8, alpha=0.5)
        for one in complete:
            filled = "white" if each.is_slow(one) else style["color"]
            axes.plot(
                one.number, one.value, style["marker"], color=style["color"], markerfacecolor=filled, markersize=5
            )
        if each.winner is not None:
            at = each.winner.number, each.winner.value
            axes.plot(*at, "o", color="k", markerfacecolor="none", markersize=10, label="winner")
        if pruned:
            values = [one.value for one in pruned]
            axes.plot([one.number for one in pruned], values, "x", color="0.5", markersize=5, label="given up")
        if failed:
            axes.plot(
                [one.number for one in failed], [0.0] * len(failed), "|", color="k", label="failed", clip_on=False
            )
        if fast := [one for one in complete if not each.is_slow(one)]:
            best = [*np.maximum.accumulate([one.value for one in fast]), max(one.value for one in fast)]
            places = [*(one.number for one in fast), each.tried[-1].number]
            axes.step(places, best, where="post", color="k", linewidth=1, label="best so far")
        axes.set_title(each.method, loc="left")
        axes.set_xlabel("trial")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(-0.5, len(each.tried) - 0.5)
        axes.grid(alpha=0.3)
        if number == 0:
            axes.set_ylabel(searched.score.short)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best", fontsize="small")
    title = f"Search {searched.name}: means, a line joins the seeds of a trial; hollow: too slow; cross: given up"
    figure.suptitle(fill(title, 50 * len(panels)), x=0.01, ha="left", fontsize="medium")
    return figure


def _row(figure: Figure, count: int) -> list[Axes]:
    axes = figure.subplots(1, count, sharey=True, squeeze=False)
    return list(axes[0])


@plain()
def draw_importance(searched: Searched) -> Figure:
    """Draw how much of the score's variance each setting explains, a panel per method."""
    panels = searched.found
    figure = Figure(figsize=(1.2 + 3.0 * len(panels), 3.2), layout="constrained")
    axes_of = figure.subplots(1, len(panels), squeeze=False)[0]
    for number, (axes, each) in enumerate(zip(axes_of, panels, strict=True)):
        ranked = sorted(each.importance.items(), key=lambda item: item[1])
        axes.barh([name for name, _ in ranked], [share for _, share in ranked], color=look(number)["color"])
        axes.set_title(each.method, loc="left")
        axes.set_xlim(0, 1)
        if not ranked:
            axes.set_yticks([])
            axes.text(0.5, 0.5, "too few trials that differ", ha="center", transform=axes.transAxes)
        axes.set_xlabel("share of the variance")
        axes.grid(axis="x", alpha=0.3)
    title = "What explains the differences in score (fANOVA); with few trials a hint only"
    figure.suptitle(fill(title, 50 * len(panels)), x=0.01, ha="left", fontsize="medium")
    return figure


@plain()
def draw_parallel(searched: Searched) -> Figure:
    """Draw each trial as a line over its settings, a panel per method; the higher its score, the darker it is."""
    panels = searched.found
    figure = Figure(figsize=(11, PANEL_HEIGHT * len(panels) + 0.4), layout="constrained")
    axes_of = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for number, (axes, each) in enumerate(zip(axes_of, panels, strict=True)):
        _draw_lines(axes, each, look(number)["color"], searched.score.short)
    figure.suptitle(
        "A line is a trial, the darker the better; dashed: given up after one seed; black: the winner",
        x=0.01, ha="left", fontsize="medium",
    )  # fmt: skip
    return figure


def _draw_lines(axes: Axes, each: Found, color: str, score: str) -> None:
    drawn = sorted((one for one in each.tried if one.scores), key=lambda one: one.value)
    names = list(each.tried[0].params) if each.tried else []
    scales = [_scale([one.params[name] for one in drawn], name in each.log) for name in names]
    scales.append(_scale([one.value for one in drawn], log=False))
    for rank, one in enumerate(drawn):
        heights = [scale[0][value] for scale, value in zip(scales, [*one.params.values(), one.value], strict=True)]
        won = each.winner is not None and one.number == each.winner.number
        axes.plot(
            range(len(heights)), heights, "--" if one.state == PRUNED else "-", color="k" if won else color,
            linewidth=2 if won else 1, zorder=3 if won else 2, alpha=1 if won else 0.15 + 0.7 * (rank + 1) / len(drawn),
        )  # fmt: skip
    for place, (_, ticks) in enumerate(scales):
        axes.axvline(place, color="0.6", linewidth=0.8, zorder=0)
        for height, text in ticks:
            axes.annotate(
                text, (place, height), xytext=(3, 0), textcoords="offset points", fontsize=7, va="center",
                bbox={"color": "white", "alpha": 0.7, "pad": 0.5, "linewidth": 0},
            )  # fmt: skip
    axes.set_xticks(range(len(names) + 1), [*names, score])
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(names) + 0.2)
    axes.set_ylim(-0.08, 1.08)
    axes.set_title(each.method, loc="left")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _scale(values: Sequence[Any], log: bool) -> tuple[dict[Any, float], list[tuple[float, str]]]:
    """Return the height of each value in [0, 1], and the labels: of few values their rank, of many their size."""
    distinct = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    if not distinct:
        return {}, []
    if len(distinct) <= FEW or isinstance(distinct[0], str):
        heights = {value: (place + 0.5) / len(distinct) for place, value in enumerate(distinct)}
        return heights, [(height, shown(value)) for value, height in heights.items()]
    low, high = distinct[0], distinct[-1]
    size = [math.log(value) if log else value for value in distinct]
    heights = {value: (at - size[0]) / (size[-1] - size[0]) for value, at in zip(distinct, size, strict=True)}
    middle = math.sqrt(low * high) if log else (low + high) / 2
    return heights, [(height, f"{value:.3g}") for height, value in ((0.0, low), (0.5, middle), (1.0, high))]
