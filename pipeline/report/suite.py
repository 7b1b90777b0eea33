"""A report across tasks: methods by their primary scores, which are each task's own and lie in [0, 1]."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from pipeline.report.comparison import Comparison, Group
from pipeline.report.plotting import Axes, Figure, look, plain
from pipeline.report.statistics import Interval, Summary
from pipeline.report.tables import Table
from pipeline.report.verdicts import Verdict
from pipeline.report.words import NO_CONTROL, verdict_words

Suite = Mapping[str, Comparison]
"""Comparisons by the names of their tasks. A method is a group of the same name in each."""

FORMAT = "tinypi-suite-1"
UNIT = (
    "Each task's primary score, on average over its conditions: mean ± standard deviation over models. Groups of a "
    "task that share a letter are not shown to differ by more than the margin. Scores of two tasks do not compare."
)
YARDSTICK = "#6e7781"
AXIS = (-0.04, 1.06)
VERDICT_WIDTH, LINE_HEIGHT = 46, 12  # letters in a line of a panel's verdict; points
NAME_WIDTH = 0.042  # of a yardstick's name, upright, on the axis of scores


def methods_of(suite: Suite) -> list[str]:
    """Return the names of all groups of models, in the order in which they first come."""
    names = (group.name for comparison in suite.values() for group in comparison.of_kind("model"))
    return list(dict.fromkeys(names))


def primary_of(comparison: Comparison, group: Group) -> Summary | None:
    """Return a group's primary score over all conditions; None if it was not evaluated."""
    return group.scores.get(comparison.design.primary, {}).get(None)


def best_of(comparison: Comparison) -> set[str]:
    """Return the groups of models that no other is shown to be better than; none if no difference is shown."""
    judged = {group.name for group in comparison.of_kind("model") if primary_of(comparison, group)}
    beaten = {loser for _, loser in _shown(comparison)}
    return judged - beaten if beaten else set()


def _verdicts(comparison: Comparison) -> list[Verdict]:
    return [each.verdict for each in comparison.contrasts if each.verdict is not None]


def _shown(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the better and the worse group of every difference that is shown."""
    return [
        (each.better, each.second if each.better == each.first else each.first)
        for each in _verdicts(comparison)
        if each.better is not None
    ]


def verdict_of(comparison: Comparison) -> str:
    """Return a task's verdict in words: what the best groups are better than; letters tell the rest."""
    words = []
    for name in sorted(best_of(comparison)):
        worse = [loser for winner, loser in _shown(comparison) if winner == name]
        words += [f"{name} is better than {' and '.join(worse)}"] if worse else []
    told = _verdicts(comparison)
    if len(told) > 1 and all(each.word == "undecided" for each in told):
        return "undecided between any two"
    return "; ".join(words or map(verdict_words, _verdicts(comparison))) or "nothing to compare"


def suite_table(suite: Suite, bold: bool = False) -> Table:
    """Return a row per task and a column per method; with `bold`, the best ones are so, as in Markdown."""
    methods = methods_of(suite)
    rows = []
    for name, comparison in suite.items():
        best, groups = best_of(comparison), {group.name: group for group in comparison.of_kind("model")}
        cells = [_cell(comparison, groups.get(method)) for method in methods]
        marks = ["**" if bold and method in best else "" for method in methods]
        shown = [f"{mark}{text}{mark}" for mark, text in zip(marks, cells, strict=True)]
        rows.append((name, comparison.primary.short, *shown, verdict_of(comparison)))
    return Table("All tasks", ("task", "score", *methods, "verdict"), rows, UNIT)


def _cell(comparison: Comparison, group: Group | None) -> str:
    found = primary_of(comparison, group) if group else None
    if group is None or found is None:
        return "-"
    spread = "" if found.std is None else f" ± {comparison.primary.text(found.std)}"
    letters = comparison.letters.get(group.name)
    return f"{comparison.primary.text(found.mean)}{spread}" + (f" {letters}" if letters else "")


def yardstick_table(suite: Suite) -> Table | None:
    """Return each task's yardsticks, the best first; None if there are none."""
    rows = [
        (name, group.name, comparison.primary.text(found.mean))
        for name, comparison in suite.items()
        for group, found in _yardsticks(comparison)
    ]
    return (
        Table("Yardsticks: controllers that need no training", ("task", "yardstick", "score"), rows) if rows else None
    )


def _yardsticks(comparison: Comparison) -> list[tuple[Group, Summary]]:
    found = [
        (group, summary)
        for group in comparison.of_kind("yardstick")
        if (summary := primary_of(comparison, group)) is not None
    ]
    return sorted(found, key=lambda each: -comparison.primary.better * each[1].mean)


def suite_text(suite: Suite) -> str:
    """Return the tables for a terminal."""
    unjudged = [f"{name}: {NO_CONTROL}" for name, comparison in suite.items() if comparison.task.world is None]
    return "\n\n".join([*(table.text() for table in _tables(suite, bold=False)), *unjudged])


def suite_markdown(suite: Suite) -> str:
    """Return the tables as Markdown."""
    notes = [f"Note, {name}: {note}" for name, comparison in suite.items() for note in _notes(comparison)]
    return "\n\n".join([*(table.markdown() for table in _tables(suite, bold=True)), *notes]) + "\n"


def _notes(comparison: Comparison) -> list[str]:
    return [*([] if comparison.task.world else [NO_CONTROL]), *comparison.notes]


def _tables(suite: Suite, bold: bool) -> list[Table]:
    return [suite_table(suite, bold), *([table] if (table := yardstick_table(suite)) else [])]


def suite_rows(suite: Suite) -> list[dict[str, Any]]:
    """Return a row per task and group, models and yardsticks, as plain values."""
    return [
        {
            "task": name,
            "group": group.name,
            "kind": group.kind,
            "score": comparison.design.primary,
            "n": found.n,
            "mean": found.mean,
            "std": found.std,
            "low": found.interval and found.interval.low,
            "high": found.interval and found.interval.high,
            "best": group.name in best_of(comparison),
            "letters": comparison.letters.get(group.name),
        }
        for name, comparison in suite.items()
        for group in comparison.groups
        if (found := primary_of(comparison, group)) is not None
    ]


def suite_csv(suite: Suite) -> str:
    """Return `suite_rows` as comma-separated values."""
    return pd.DataFrame(suite_rows(suite)).to_csv(index=False)


def suite_values(suite: Suite) -> dict[str, Any]:
    """Return everything as plain values, for JSON."""
    tasks = [
        {
            "task": name,
            "title": comparison.title,
            "evaluation": comparison.protocol,
            "design": asdict(comparison.design),
            "verdict": verdict_of(comparison),
            "verdicts": [
                {"first": each.first, "second": each.second, "word": each.word, "difference": each.difference}
                | {"interval": each.interval and asdict(each.interval)}
                for each in _verdicts(comparison)
            ],
            "notes": _notes(comparison),
        }
        for name, comparison in suite.items()
    ]
    return {"format": FORMAT, "unit": UNIT, "tasks": tasks, "scores": suite_rows(suite)}


@plain()
def draw_suite(title: str, suite: Suite) -> Figure:
    """The primary score of every method on every task, a panel per task: mean, 95% interval, and a dot per model.

    A method has the same place, colour and marker in all panels. Grey lines are yardsticks.
    """
    methods = methods_of(suite)
    columns = min(len(suite), 3)
    rows = math.ceil(len(suite) / columns)
    figure = Figure(figsize=(4.1 * columns + 0.8, rows * (1.9 + 0.42 * len(methods)) + 0.7), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel().tolist()
    for number, (axes, (name, comparison)) in enumerate(zip(panels, suite.items(), strict=False)):
        _draw_task(axes, name, comparison, methods)
        if number % columns == 0:
            axes.set_yticks(range(len(methods)), methods, fontsize=11, parse_math=False)
    for axes in panels[len(suite) :]:
        axes.set_visible(False)
    panels[0].set_ylim(len(methods) - 0.5, -1.6)  # above the methods, names of yardsticks
    figure.suptitle(
        f"{title}: primary score of each task, mean with 95% interval or bound, a dot per model; grey: yardsticks"
    )
    return figure


def spread(places: Sequence[float], apart: float, first: float, last: float) -> list[float]:
    """Move sorted places into `first` to `last`, with neighbours at least `apart`; too many reach below `first`."""
    found: list[float] = []
    for place in places:
        found.append(max(place, first))
        first = found[-1] + apart
    for index in reversed(range(len(found))):
        found[index] = min(found[index], last)
        last = found[index] - apart
    return found


def _draw_task(axes: Axes, name: str, comparison: Comparison, methods: list[str]) -> None:
    groups, best = {group.name: group for group in comparison.of_kind("model")}, best_of(comparison)
    yardsticks = sorted(_yardsticks(comparison), key=lambda each: each[1].mean)
    half = NAME_WIDTH / 2
    places = spread([reached.mean - half for _, reached in yardsticks], NAME_WIDTH, AXIS[0] + half, AXIS[1] - half)
    for (yardstick, reached), place in zip(yardsticks, places, strict=True):
        axes.axvline(reached.mean, color=YARDSTICK, linewidth=1, linestyle=":", zorder=0)
        axes.annotate(
            yardstick.name, (place, 1), xycoords=("data", "axes fraction"), xytext=(0, -3),
            textcoords="offset points", rotation=90, ha="center", va="top", fontsize=7, color=YARDSTICK,
            parse_math=False,
        )  # fmt: skip
    for row, method in enumerate(methods):
        group = groups.get(method)
        found = primary_of(comparison, group) if group else None
        if group is None or found is None:
            axes.text(0.5, row, "not evaluated", ha="center", va="center", fontsize=8, color="0.6")
            continue
        style = look(row)
        between: Interval | None = found.interval or found.bound
        if between:
            axes.hlines(row, between.low, between.high, color=style["color"], linewidth=3, alpha=0.5)
        values = [model.scores[comparison.design.primary][None] for model in group.models if model.episodes]
        axes.plot(values, [row + 0.22] * len(values), ".", color=style["color"], markersize=4, alpha=0.6)
        axes.plot(found.mean, row, style["marker"], color=style["color"], markersize=9, zorder=3)
        axes.annotate(
            comparison.primary.text(found.mean), (found.mean, row), xytext=(0, 8), textcoords="offset points",
            ha="center", fontsize=9, fontweight="bold" if method in best else "normal",
        )  # fmt: skip
    verdict = textwrap.wrap(verdict_of(comparison), VERDICT_WIDTH)
    axes.set_title(
        name if comparison.task.world else f"{name}, plans only",
        fontsize=12,
        fontweight="bold",
        loc="left",
        pad=6 + LINE_HEIGHT * len(verdict),
        parse_math=False,
    )
    axes.annotate(
        "\n".join(verdict), (0, 1), xycoords="axes fraction", xytext=(0, 5), textcoords="offset points", fontsize=9,
        parse_math=False,
    )  # fmt: skip
    axes.set_xlim(*AXIS)
    axes.set_xlabel(comparison.primary.short, parse_math=False)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
