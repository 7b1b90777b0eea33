"""The figures of plans: beside the chunks of the expert, and their errors along the chunk. H horizon, A action."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.group_styles import Style, lines_of
from pipeline.report.plotting import Axes, Figure, plain
from pipeline.report.statistics import Floats
from pipeline.tasks.task import Channel

MOST_ACTIONS = 3  # dimensions that are shown
BESIDE = (1.0, 1.0)  # a legend's place: it must not hide a plan
NAME_WIDTH = 24  # letters of a group's name in a line of the legend


@dataclass(frozen=True)
class Plans:
    """Plans of a group's models from the same states as the expert's chunks."""

    expert: Floats  # (EXAMPLES, H, A)
    planned: Floats  # (models, EXAMPLES, H, A)
    mae_by_step: Floats  # (models, H)
    mae_by: Floats | None = None  # (models, H, A)
    rebuilt_mae_by: Floats | None = None  # (models, H, A), of the tokenizer alone


@plain()
def draw_plans(
    title: str,
    plans: Mapping[str, Plans],
    errors: Mapping[str, str],
    labels: Sequence[str],
    seconds: float,
    styles: Mapping[str, Style],
) -> Figure:
    """Plans of every model with the expert's chunks, a row per action dimension, and the error along the chunk.

    `errors` is a text with each group's MAE and MSE; without it, where actions have no common unit, the error is not
    drawn. `labels` name the A actions, of which MOST_ACTIONS are shown; `seconds` is the length of a step.
    """
    first = next(iter(plans.values()))
    examples, horizon = first.expert.shape[:2]
    more = f", actions 1 to {MOST_ACTIONS} of {len(labels)}" if len(labels) > MOST_ACTIONS else ""
    labels = labels[:MOST_ACTIONS]
    height = 3.2 * len(labels) ** 0.7 + (3.2 if errors else 0.6)
    figure = Figure(figsize=(3.4 * examples + 2.0, height), layout="constrained")
    grid = figure.add_gridspec(len(labels) + bool(errors), examples)
    time = np.arange(horizon) * seconds
    for action, label in enumerate(labels):
        shared: Axes | None = None
        for example in range(examples):
            axes = figure.add_subplot(grid[action, example], sharey=shared)
            shared = shared or axes
            for group, found in plans.items():
                style = lines_of(styles[group])
                planned = found.planned[:, example, :, action]
                for model in planned:
                    axes.plot(time, model, **style, linewidth=0.5, alpha=0.5)
                axes.plot(time, planned.mean(0), **style, linewidth=1.8, label=textwrap.fill(group, NAME_WIDTH))
            expert = first.expert[example, :, action]
            axes.plot(time, expert, color="black", linewidth=1.6, dashes=(1, 1), label="expert")
            axes.grid(alpha=0.25)
            if action == 0:
                axes.set_title(f"test chunk {example + 1}")
            if action == len(labels) - 1:
                axes.set_xlabel("time, s")
            if example == 0:
                axes.set_ylabel(label)
            if example == examples - 1 and action == 0:
                axes.legend(loc="upper left", bbox_to_anchor=BESIDE)
    if errors:
        axes = figure.add_subplot(grid[-1, :])
        for group, found in plans.items():
            style = lines_of(styles[group])
            for model in found.mae_by_step:
                axes.plot(time, model, **style, linewidth=0.5, alpha=0.5)
            axes.plot(time, found.mae_by_step.mean(0), **style, linewidth=2.2, label=f"{group}:\n{errors[group]}")
        axes.set(xlabel="time within the chunk, s", ylabel="MAE, action units")
        axes.grid(alpha=0.25)
        axes.legend(loc="upper left", bbox_to_anchor=BESIDE)
    figure.suptitle(f"Plans of {title} against the expert's chunks of the test split{more}: thin lines are models")
    return figure


@plain()
def draw_errors(
    title: str, plans: Mapping[str, Plans], action: Sequence[Channel], seconds: float, styles: Mapping[str, Style]
) -> Figure:
    """The error of plans along the chunk, a panel per action, in its own unit; `seconds` is that of a step."""
    columns = min(len(action), 3)
    rows = -(-len(action) // columns)
    figure = Figure(figsize=(max(7.5, 4.4 * columns), 3.0 * rows + 0.8), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel().tolist()
    for dimension, (channel, axes) in enumerate(zip(action, panels, strict=False)):
        for group, found in plans.items():
            if found.mae_by is None:
                continue
            style = lines_of(styles[group])
            time = np.arange(found.mae_by.shape[1]) * seconds
            errors = found.mae_by[..., dimension]
            for model in errors:
                axes.plot(time, model, **style, linewidth=0.5, alpha=0.5)
            axes.plot(time, errors.mean(0), **style, linewidth=2.2, label=group)
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
