"""The figures of a comparison. The colour-blind can distinguish the colours; markers and line styles differ as well.

Shapes: H horizon, A action.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.files import whole_file
from pipeline.report.comparison import Comparison, Group
from pipeline.report.loss_curves import is_wide
from pipeline.report.plotting import Axes, Figure, FixedLocator, MaxNLocator, NullLocator, logarithmic, plain
from pipeline.report.scenes import draw_back
from pipeline.report.words import verdict_label
from pipeline.tasks.scene import Scene
from pipeline.tasks.task import Channel

Floats = NDArray[np.float64]

# Okabe and Ito's colours, ordered so that the lightness of neighbours differs clearly.
LOOKS: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    {"color": "#009E73", "marker": "^", "linestyle": "-."},
    {"color": "#CC79A7", "marker": "D", "linestyle": ":"},
    {"color": "#56B4E9", "marker": "v", "linestyle": "-"},
    {"color": "#E69F00", "marker": "P", "linestyle": "--"},
    {"color": "#000000", "marker": "X", "linestyle": "-."},
)
MOST_ACTIONS = 3  # dimensions that are shown
YARDSTICK_LINES = ("-", "--", ":", "-.")
CURVES = {"train": ":", "val": "-", "test": "--"}


@dataclass(frozen=True)
class Plans:
    """Plans of a group's models from the same states as the expert's chunks."""

    expert: Floats  # (EXAMPLES, H, A)
    planned: Floats  # (models, EXAMPLES, H, A)
    mae_by_step: Floats  # (models, H)
    mae_by: Floats | None = None  # (models, H, A)
    rebuilt_mae_by: Floats | None = None  # (models, H, A), of the tokenizer alone


def look(number: int) -> dict[str, Any]:
    """Return colour, marker and line of a group."""
    return LOOKS[number % len(LOOKS)]


@plain()
def save(figure: Figure, path: Path) -> None:
    """Write the picture atomically."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120)


@plain()
def as_svg(figure: Figure) -> bytes:
    """Return the picture as SVG, with letters as shapes. The same picture gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


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
    averages = comparison.of_kind("average")
    for row, name in enumerate(names):
        for column, noise in enumerate(noises):
            axes = panels[row, column]
            for number, group in enumerate(yardsticks):
                _yardstick_line(axes, group, name, noise, replans, YARDSTICK_LINES[number % len(YARDSTICK_LINES)])
            for number, group in enumerate(groups):
                _score_line(axes, group, name, noise, replans, number, len(groups))
            for average in averages:
                _average_marks(axes, average, name, noise, replans, _members(average, groups), len(groups))
            axes.xaxis.set_major_locator(FixedLocator(replans))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.grid(alpha=0.25)
        bottom = _bottom(groups, name)
        panels[row, 0].set_ylim(bottom, _top(groups, name) + 0.04 * (1 - bottom))
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
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    what = "Control" if comparison.task.world else "Plans"
    figure.suptitle(f"{what} of {comparison.title}: mean over models, 95% interval, one dot per model")
    return figure


@plain()
def draw_verdicts(comparison: Comparison) -> Figure:
    """The difference of the primary score of every two groups, with its 95% interval, and the margin as a band."""
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
    axes.set_xlabel(f"difference in {comparison.design.primary}; grey: within ±{margin:g}")
    figure.suptitle(f"Verdict of {comparison.title}: 95% intervals over models and episodes")
    return figure


def _bottom(groups: Sequence[Group], name: str) -> float:
    """Return a lower limit of the axis that shows every model, with a margin."""
    values = [value for group in groups for model in group.models for value in model.scores.get(name, {}).values()]
    return max(-0.04, math.floor(10 * min(values, default=0)) / 10 - 0.1)


def _top(groups: Sequence[Group], name: str) -> float:
    """Return an upper limit of the axis: 1, or more where a score exceeds it."""
    values = [value for group in groups for model in group.models for value in model.scores.get(name, {}).values()]
    return max(1.0, *values) if values else 1.0


def _unit(replans: Sequence[int]) -> float:
    """Return half of the smallest distance of two replan intervals."""
    return float(np.diff(replans).min()) / 2 if len(replans) > 1 else 1.0


def _score_line(
    axes: Axes, group: Group, name: str, noise: float, replans: Sequence[int], number: int, groups: int
) -> None:
    summaries = [group.scores.get(name, {}).get((noise, replan)) for replan in replans]
    unit = _unit(replans)
    shift = 0.28 * unit * (number - (groups - 1) / 2)  # side by side, so that intervals do not overlap
    found = [(replan + shift, summary) for replan, summary in zip(replans, summaries, strict=True) if summary]
    if not found:
        return
    style, ours = look(number), group.kind == "model"
    places, means = [x for x, _ in found], [summary.mean for _, summary in found]
    label = f"{group.name} ({len(group.models)} model{'s' if len(group.models) > 1 else ''})"
    face = style["color"] if ours else "white"
    axes.plot(places, means, **style, label=label, markersize=6, linewidth=1.6, markerfacecolor=face, zorder=3)
    for x, summary in found:
        if summary.interval:
            axes.vlines(x, summary.interval.low, summary.interval.high, color=style["color"], linewidth=2.5, alpha=0.7)
    for replan in replans:
        values = [model.scores.get(name, {}).get((noise, replan)) for model in group.models]
        dots = [value for value in values if value is not None]
        axes.plot([replan + shift + 0.12 * unit] * len(dots), dots, ".", color=style["color"], markersize=3, alpha=0.6)


def _members(average: Group, groups: Sequence[Group]) -> int | None:
    """Return the number of an averaged policy's group: the one in its name, or the only one of its method."""
    method, named = average.name.partition(" ")[0], average.name.partition(" average of ")[0]
    of_method = [number for number, group in enumerate(groups) if group.name.partition(" ")[0] == method]
    found = [number for number in of_method if groups[number].name == named] or of_method
    return found[0] if len(found) == 1 else None


def _average_marks(
    axes: Axes, average: Group, name: str, noise: float, replans: Sequence[int], number: int | None, groups: int
) -> None:
    """Draw a star for an averaged policy, beside its group's models; grey in the middle if its group is unknown."""
    found = [(replan, s.mean) for replan in replans if (s := average.scores.get(name, {}).get((noise, replan)))]
    unit = _unit(replans)
    shift = 0.0 if number is None else unit * (0.28 * (number - (groups - 1) / 2) - 0.14)
    places, means = [replan + shift for replan, _ in found], [mean for _, mean in found]
    colour = "0.6" if number is None else look(number)["color"]
    axes.plot(
        places, means, "*", color=colour, markeredgecolor="black", markeredgewidth=0.6, markersize=10,
        label=average.name, zorder=4,
    )  # fmt: skip


def _yardstick_line(axes: Axes, group: Group, name: str, noise: float, replans: Sequence[int], line: str) -> None:
    found = [(replan, s.mean) for replan in replans if (s := group.scores.get(name, {}).get((noise, replan)))]
    if found:
        axes.plot(*zip(*found, strict=True), color="0.45", linestyle=line, linewidth=1.1, label=group.name, zorder=1)


@plain()
def draw_losses(title: str, curves: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> Figure:
    """Loss curves of all models, thin, and their mean, thick: `curves[group]["val"]` has one list per model."""
    figure = Figure(figsize=(5.4 * len(curves), 4.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(curves)))
    for number, (axes, (group, parts)) in enumerate(zip(panels, curves.items(), strict=True)):
        for part, line in CURVES.items():
            members = [values for values in parts.get(part, ()) if len(values)]
            for values in members:
                epochs = range(1, len(values) + 1)
                axes.plot(epochs, values, line, color=look(number)["color"], linewidth=0.6, alpha=0.5)
            if members:
                longest = max(map(len, members))
                table = np.array([[*values, *[np.nan] * (longest - len(values))] for values in members])
                mean = np.nanmean(table, axis=0)
                marker = {"train": "^", "val": "o", "test": "s"}[part]
                axes.plot(
                    range(1, longest + 1), mean, line, color=look(number)["color"], linewidth=2.2, marker=marker,
                    markersize=5, label=f"{part}, mean of {len(members)}",
                )  # fmt: skip
        every = [value for members in parts.values() for values in members for value in values]
        if is_wide(every):
            axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set(title=group, xlabel="epoch", ylabel="loss (units differ between methods)")
        axes.grid(alpha=0.25)
        axes.legend()
    figure.suptitle(f"Losses of {title}: thin lines are models")
    return figure


@plain()
def draw_converge_steps(
    title: str, conditions: Sequence[tuple[float, int]], steps: Mapping[str, Floats], horizon: int
) -> Figure:
    """Share of all episodes that have converged by each step.

    `steps[group]`, `(models, C, S)`, holds the converge step of each episode in the C `conditions`, noise and replan
    interval; `horizon` for those that do not converge.
    """
    noises, replans = sorted({noise for noise, _ in conditions}), sorted({replan for _, replan in conditions})
    figure = Figure(figsize=(3.4 * len(replans) + 0.6, 2.5 * len(noises) + 0.8), layout="constrained")
    panels = figure.subplots(len(noises), len(replans), sharex=True, sharey=True, squeeze=False)
    at = np.arange(horizon)
    for (row, noise), (column, replan) in ((a, b) for a in enumerate(noises) for b in enumerate(replans)):
        axes = panels[row, column]
        if (noise, replan) not in conditions:
            axes.set_visible(False)
            continue
        for number, (group, by_condition) in enumerate(steps.items()):
            style = {key: look(number)[key] for key in ("color", "linestyle")}
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
    panels[0, 0].legend(loc="lower right")
    figure.suptitle(f"Converged by each step, and not ended early, in {title}: thin lines are models, thick their mean")
    return figure


@plain()
def draw_plans(
    title: str, plans: Mapping[str, Plans], errors: Mapping[str, str], labels: Sequence[str], seconds: float
) -> Figure:
    """Plans of every model with the expert's chunks, a row per action dimension, and the error along the chunk.

    `errors` is a text with each group's MAE and MSE; without it, where actions have no common unit, the error is not
    drawn. `labels` name the A actions, of which MOST_ACTIONS are shown; `seconds` is the length of a step.
    """
    first = next(iter(plans.values()))
    examples, horizon = first.expert.shape[:2]
    labels = labels[:MOST_ACTIONS]
    height = 3.2 * len(labels) ** 0.7 + (3.2 if errors else 0.6)
    figure = Figure(figsize=(3.4 * examples, height), layout="constrained")
    grid = figure.add_gridspec(len(labels) + bool(errors), examples)
    time = np.arange(horizon) * seconds
    for action, label in enumerate(labels):
        shared: Axes | None = None
        for example in range(examples):
            axes = figure.add_subplot(grid[action, example], sharey=shared)
            shared = shared or axes
            for number, (group, found) in enumerate(plans.items()):
                style = {key: look(number)[key] for key in ("color", "linestyle")}
                planned = found.planned[:, example, :, action]
                for model in planned:
                    axes.plot(time, model, **style, linewidth=0.5, alpha=0.5)
                axes.plot(time, planned.mean(0), **style, linewidth=1.8, label=group)
            expert = first.expert[example, :, action]
            axes.plot(time, expert, color="black", linewidth=1.6, dashes=(1, 1), label="expert")
            axes.grid(alpha=0.25)
            if action == 0:
                axes.set_title(f"test chunk {example + 1}")
            if action == len(labels) - 1:
                axes.set_xlabel("time, s")
            if example == 0:
                axes.set_ylabel(label)
            if example == 0 and action == 0:
                axes.legend()
    if errors:
        axes = figure.add_subplot(grid[-1, :])
        for number, (group, found) in enumerate(plans.items()):
            style = {key: look(number)[key] for key in ("color", "linestyle")}
            for model in found.mae_by_step:
                axes.plot(time, model, **style, linewidth=0.5, alpha=0.5)
            axes.plot(time, found.mae_by_step.mean(0), **style, linewidth=2.2, label=f"{group}: {errors[group]}")
        axes.set(xlabel="time within the chunk, s", ylabel="MAE, action units")
        axes.grid(alpha=0.25)
        axes.legend()
    figure.suptitle(f"Plans of {title} against the expert's chunks of the test split: thin lines are models")
    return figure


@plain()
def draw_errors(title: str, plans: Mapping[str, Plans], action: Sequence[Channel], seconds: float) -> Figure:
    """The error of plans along the chunk, a panel per action, in its own unit; `seconds` is that of a step."""
    columns = min(len(action), 3)
    rows = -(-len(action) // columns)
    figure = Figure(figsize=(max(7.5, 4.4 * columns), 3.0 * rows + 0.8), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel().tolist()
    for dimension, (channel, axes) in enumerate(zip(action, panels, strict=False)):
        for number, (group, found) in enumerate(plans.items()):
            if found.mae_by is None:
                continue
            style = look(number)
            time = np.arange(found.mae_by.shape[1]) * seconds
            errors = found.mae_by[..., dimension]
            for model in errors:
                axes.plot(time, model, color=style["color"], linestyle=style["linestyle"], linewidth=0.5, alpha=0.5)
            line = {"color": style["color"], "linestyle": style["linestyle"], "linewidth": 2.2}
            axes.plot(time, errors.mean(0), **line, label=group)
            if found.rebuilt_mae_by is not None:
                floor = found.rebuilt_mae_by[..., dimension].mean(0)
                axes.plot(time, floor, ":", color=style["color"], linewidth=1.6, label=f"{group}: tokenizer alone")
        axes.set_title(channel.label, fontsize=10, parse_math=False)
        axes.set_ylabel(f"|error|, {channel.unit}" if channel.unit else "|error|", parse_math=False)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
    for axes in panels[len(action) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(action) - columns) : len(action)]:
        axes.set_xlabel("time within the plan, s")
        axes.tick_params(labelbottom=True)
    panels[0].legend(fontsize=8)
    figure.suptitle(f"Errors of plans of {title} on held-out episodes, by step and action: thin lines are models")
    return figure


@plain()
def draw_paths(
    title: str,
    paths: Mapping[str, Floats],
    notes: Mapping[str, str],
    demonstrated: Floats | None = None,
    scene: Scene | None = None,
) -> Figure:
    """The paths of episodes `(N, T+1, 2)` of each group over those of demonstrators, a panel per group.

    Paths are NaN after an early end, which a cross marks. `notes` stand in the panels' titles. What never moves in the
    scene is drawn beneath.
    """
    aspect, columns = 1.0, min(len(paths), 4)
    if scene is not None:
        aspect = (scene.top - scene.bottom) / (scene.right - scene.left)
    rows = -(-len(paths) // columns)
    figure = Figure(
        figsize=(max(9.0, 3.3 * columns), rows * (3.1 * min(aspect, 1.6) + 0.6) + 0.5), layout="constrained"
    )
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel().tolist()
    for number, ((group, found), axes) in enumerate(zip(paths.items(), panels, strict=False)):
        if scene is not None:
            axes.set(xlim=(scene.left, scene.right), ylim=(scene.bottom, scene.top))
        if demonstrated is not None:
            axes.plot(*demonstrated.transpose(2, 1, 0), color="0.8", linewidth=0.5, zorder=-2)
        axes.plot(*found.transpose(2, 1, 0), color=look(number)["color"], linewidth=0.7, alpha=0.45, zorder=-1)
        ended = np.isnan(found[:, -1, 0])
        last = np.where(np.isfinite(found[ended, :, 0]), np.arange(found.shape[1]), 0).max(1)
        axes.plot(*found[ended, last].T, "x", color="black", markersize=4, zorder=100)
        axes.set_aspect("equal")
        axes.set_title("\n".join(filter(None, (group, notes.get(group)))), fontsize=10)
        axes.tick_params(labelsize=8)
    for axes in panels[len(paths) :]:
        axes.remove()
    del panels[len(paths) :]
    beneath = " over the demonstrators' (grey)" if demonstrated is not None else ""
    figure.suptitle(f"Ways taken in {title}: paths of episodes{beneath}")
    figure.draw_without_rendering()  # the layout must be known, so that lines of the scene have their width
    if scene is not None:
        for axes in panels:
            draw_back(axes, scene)
    return figure


@plain()
def draw_tokenizer_tradeoff(rows: Sequence[Mapping[str, float]], chosen: str) -> Figure:
    """FAST with one scale: reconstruction error, alphabet and tokens per chunk against it, one line per vocabulary.

    `chosen` describes the study's tokenizer, if it has one.
    """
    figure = Figure(figsize=(12, 4), layout="constrained")
    error, alphabet, tokens = figure.subplots(1, 3)
    scales = sorted({row["scale"] for row in rows})
    by_scale = [next(row for row in rows if row["scale"] == scale) for scale in scales]
    error.plot(scales, [row["error_mean"] for row in by_scale], **LOOKS[0], label="mean")
    error.plot(scales, [row["error_p99"] for row in by_scale], **LOOKS[1], label="99th percentile")
    error.set(title="reconstruction error", ylabel="|decoded - original|, standard units")
    logarithmic(error)
    error.legend()
    alphabet.plot(scales, [row["alphabet"] for row in by_scale], **LOOKS[0])
    alphabet.set(title="alphabet", ylabel="integers of the training range")
    for number, vocabulary in enumerate(sorted({row["vocabulary"] for row in rows})):
        found = sorted((row["scale"], row["tokens_mean"]) for row in rows if row["vocabulary"] == vocabulary)
        tokens.plot(*zip(*found, strict=True), **look(number), label=f"vocabulary {vocabulary:g}")
    tokens.set(title="tokens per chunk", ylabel="tokens, mean")
    tokens.set_ylim(bottom=0)
    tokens.legend()
    for axes in (error, alphabet, tokens):
        axes.set_xlabel("scale, steps per standard unit")
        axes.grid(alpha=0.25)
    about = f"; this study: {chosen}" if chosen else ""
    figure.suptitle(f"Trade-off of FAST with one scale for all frequencies{about}")
    return figure
