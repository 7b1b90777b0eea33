"""The figures of scores: in every condition, as verdicts, and of the step at which something comes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.comparison import Comparison, Group
from pipeline.report.group_styles import Style, lines_of, styles_in
from pipeline.report.plotting import Axes, Figure, FixedLocator, NullLocator, look, plain
from pipeline.report.statistics import Floats, Summary
from pipeline.report.words import interval_name, verdict_label

LETTER = 0.085  # the width of a letter in a legend, inches
YARDSTICK_LINES = ("-", "--", ":", "-.")
WIDEST = 1.5  # units from the first group to the last one, of two between neighbouring replan intervals


@dataclass(frozen=True)
class Panel:
    """A panel for one score under one action noise, over the replan intervals."""

    axes: Axes
    score: str
    noise: float
    replans: Sequence[int]

    @property
    def unit(self) -> float:
        """Half of the smallest distance of two replan intervals."""
        return float(np.diff(self.replans).min()) / 2 if len(self.replans) > 1 else 1.0

    def beside(self, number: float, groups: int) -> float:
        """How far a group is drawn from its replan interval: side by side, so that intervals do not overlap."""
        return self.unit * min(0.28, WIDEST / max(groups - 1, 1)) * (number - (groups - 1) / 2)

    def summaries(self, group: Group) -> list[tuple[int, Summary]]:
        """The replan intervals that a group has a score for, each with its summary."""
        by = group.scores.get(self.score, {})
        return [(replan, summary) for replan in self.replans if (summary := by.get((self.noise, replan)))]


@plain()
def draw_scores(comparison: Comparison) -> Figure:
    """Main scores against the replan interval, one column per noise: mean with interval, one dot per model."""
    noises = sorted({noise for noise, _ in comparison.conditions})
    replans = sorted({replan for _, replan in comparison.conditions})
    names = [name for name in comparison.main if any(name in group.scores for group in comparison.groups)]
    names = names or [comparison.design.primary]
    width = max(9.0, 3.6 * len(noises) + 0.6)  # for the title, where there is one column
    figure = Figure(figsize=(width, 3 * len(names) + 0.6), layout="constrained")
    panels = figure.subplots(len(names), len(noises), sharex=True, sharey="row", squeeze=False)
    groups, yardsticks = comparison.of_kind("model", "original"), comparison.of_kind("yardstick")
    styles = styles_in(comparison)
    for row, name in enumerate(names):
        for column, noise in enumerate(noises):
            axes = panels[row, column]
            panel = Panel(axes, name, noise, replans)
            for number, group in enumerate(yardsticks):
                _yardstick_line(panel, group, YARDSTICK_LINES[number % len(YARDSTICK_LINES)])
            for number, group in enumerate(groups):
                _score_line(panel, group, styles[group.name], panel.beside(number, len(groups)))
            axes.xaxis.set_major_locator(FixedLocator(replans))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.grid(alpha=0.25)
        bottom, top = _limits(groups, name)
        room = 0.04 * (top - max(bottom, 0))  # for the markers
        panels[row, 0].set_ylim(-room if bottom < 0 else bottom, top + room)
        panels[row, 0].set_ylabel(comparison.scores[name].short)
        hidden = [
            group.name for group in yardsticks if all(s.mean < bottom for s in group.scores.get(name, {}).values())
        ]
        if hidden:
            corner = panels[row, 0].transAxes
            panels[row, 0].text(0.02, 0.03, f"below: {', '.join(hidden)}", transform=corner, color="0.4")
    for column, noise in enumerate(noises):
        if comparison.task.world:
            panels[0, column].set_title(f"action noise ±{noise:g}")
        panels[-1, column].set_xlabel("replan interval, steps" if comparison.task.world else "first actions of a plan")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    columns = int(width / (LETTER * max(map(len, labels), default=0) + 0.7))
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, max(1, columns)), frameon=False)
    what = "Control" if comparison.task.world else "Plans"
    figure.suptitle(f"{what} of {comparison.title}: mean over models, 95% interval, one dot per model")
    return figure


@plain()
def draw_verdicts(comparison: Comparison) -> Figure:
    """The difference of the primary score of every two groups, with its interval, and the margin as a band."""
    found = [each.verdict for each in comparison.contrasts if each.verdict is not None]
    figure = Figure(figsize=(11, 1.9 + 0.4 * len(found)), layout="constrained")
    axes = figure.subplots()
    margin = comparison.design.margin
    axes.axvspan(-margin, margin, color="0.9", zorder=0)
    axes.axvline(0, color="0.5", linewidth=1)
    for row, verdict in enumerate(found):
        style = look(0 if verdict.better is None else 1)
        if verdict.interval:
            axes.hlines(row, verdict.interval.low, verdict.interval.high, color=style["color"], linewidth=2.5)
        axes.plot(verdict.difference, row, style["marker"], color=style["color"], markersize=8)
    words = axes.twinx()
    names = [f"{verdict.first} minus {verdict.second}" for verdict in found]
    for side, texts in ((axes, names), (words, list(map(verdict_label, found)))):
        side.set_ylim(len(found) - 0.5, -0.5)
        side.set_yticks(range(len(found)), texts, parse_math=False)
        side.tick_params(axis="y", length=0)
        side.spines[["left", "right", "top"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
    axes.set_xlabel(f"difference in {comparison.primary.short}; grey: within ±{margin:g}")
    figure.suptitle(f"Verdict of {comparison.title}: {interval_name(found)}, over models and episodes")
    return figure


def _limits(groups: Sequence[Group], name: str) -> tuple[float, float]:
    """Return limits of the axis that show every model: below the lowest, and 1 or more where a score exceeds it."""
    values = [value for group in groups for model in group.models for value in model.scores.get(name, {}).values()]
    return max(-0.04, math.floor(10 * min(values, default=0)) / 10 - 0.1), max([1.0, *values])


def _score_line(panel: Panel, group: Group, style: Style, shift: float) -> None:
    """Draw a group's means with intervals, and its models as dots, `shift` from their replan intervals."""
    axes, unit = panel.axes, panel.unit
    found = [(replan + shift, summary) for replan, summary in panel.summaries(group)]
    if not found:
        return
    places, means = [x for x, _ in found], [summary.mean for _, summary in found]
    label = f"{group.name} ({len(group.models)} model{'s' if len(group.models) > 1 else ''})"
    axes.plot(places, means, **style, label=label, markersize=6, linewidth=1.6, zorder=3)
    for x, summary in found:
        if summary.interval:
            axes.vlines(x, summary.interval.low, summary.interval.high, color=style["color"], linewidth=2.5, alpha=0.7)
    for replan in panel.replans:
        values = [model.scores.get(panel.score, {}).get((panel.noise, replan)) for model in group.models]
        dots = [value for value in values if value is not None]
        axes.plot([replan + shift + 0.12 * unit] * len(dots), dots, ".", color=style["color"], markersize=3, alpha=0.6)


def _yardstick_line(panel: Panel, group: Group, line: str) -> None:
    found = [(replan, summary.mean) for replan, summary in panel.summaries(group)]
    if found:
        places, means = zip(*found, strict=True)
        panel.axes.plot(places, means, color="0.45", linestyle=line, linewidth=1.1, label=group.name, zorder=1)


@plain()
def draw_steps(
    title: str,
    event: str,
    conditions: Sequence[tuple[float, int]],
    steps: Mapping[str, Floats],
    episode_steps: int,
    styles: Mapping[str, Style],
) -> Figure:
    """Share of all episodes in which an event, such as "converged", has come by each step.

    `steps[group]`, `(models, C, S)`, holds its step in each episode of the C `conditions`, noise and replan interval;
    `episode_steps` where it never comes.
    """
    noises, replans = sorted({noise for noise, _ in conditions}), sorted({replan for _, replan in conditions})
    figure = Figure(figsize=(3.4 * len(replans) + 0.6, 2.5 * len(noises) + 1.1), layout="constrained")
    panels = figure.subplots(len(noises), len(replans), sharex=True, sharey=True, squeeze=False)
    at = np.arange(episode_steps)
    for (row, noise), (column, replan) in ((a, b) for a in enumerate(noises) for b in enumerate(replans)):
        axes = panels[row, column]
        if (noise, replan) not in conditions:
            axes.set_visible(False)
            continue
        for group, by_condition in steps.items():
            style = lines_of(styles[group])
            found = by_condition[:, conditions.index((noise, replan)), :, None]  # (models, S, 1)
            shares = (found <= at).mean(1)
            for share in shares:
                axes.plot(at, share, **style, linewidth=0.5, alpha=0.45)
            axes.plot(at, shares.mean(0), **style, linewidth=2.2, label=group)
        axes.set_title(f"noise ±{noise:g}, replan {replan}", fontsize=10)
        axes.grid(alpha=0.25)
        axes.set_ylim(-0.02, 1.02)
    for axes in panels[:, 0]:
        axes.set_ylabel("share of all episodes")
    for axes in panels[-1]:
        axes.set_xlabel("step")
    drawn = [axes.get_legend_handles_labels() for axes in panels.flat if axes.get_visible()]
    figure.legend(*drawn[0], loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(
        f"{event.capitalize()} by each step, and not ended early, in {title}: thin lines are models, thick their mean"
    )
    return figure
