"""A report across tasks: methods by their primary scores, which are each task's own and lie in [0, 1]."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from pipeline.report.comparison import Comparison, Group
from pipeline.report.comparison_tables import mean_text
from pipeline.report.leaders import best_of, primary_summary, verdict_of, verdicts_of
from pipeline.report.statistics import Summary
from pipeline.report.tables import Table
from pipeline.report.words import NO_CONTROL, letters_note

Suite = Mapping[str, Comparison]
"""Comparisons by the names of their tasks. A method is a group of the same name in each."""

FORMAT = "tinypi-suite-1"
UNIT = (
    "Each task's primary score, on average over its conditions: mean ± standard deviation over models. "
    f"{letters_note('Groups of a task', 'the margin')} Scores of two tasks do not compare."
)


def methods_of(suite: Suite) -> list[str]:
    """Return the names of all groups of models, in the order in which they first come."""
    names = (group.name for comparison in suite.values() for group in comparison.of_kind("model"))
    return list(dict.fromkeys(names))


def suite_table(suite: Suite, bold: bool = False) -> Table:
    """Return a row per task and a column per method; with `bold`, the best ones are so, as in Markdown."""
    methods = methods_of(suite)
    rows = []
    for name, comparison in suite.items():
        best, groups = best_of(comparison), {group.name: group for group in comparison.of_kind("model")}
        cells = [suite_cell(comparison, groups.get(method)) for method in methods]
        marks = ["**" if bold and method in best else "" for method in methods]
        shown = [f"{mark}{text}{mark}" for mark, text in zip(marks, cells, strict=True)]
        rows.append((name, comparison.primary.short, *shown, verdict_of(comparison)))
    return Table("All tasks", ("task", "score", *methods, "verdict"), rows, UNIT)


def suite_cell(comparison: Comparison, group: Group | None) -> str:
    """Return a group's primary score as text: mean, deviation over models, letters; "-" if it was not evaluated."""
    found = primary_summary(comparison, group) if group else None
    if group is None or found is None:
        return "-"
    letters = comparison.letters.get(group.name)
    return mean_text(found, comparison.primary) + (f" {letters}" if letters else "")


def yardstick_table(suite: Suite) -> Table | None:
    """Return each task's yardsticks, the best first; None if there are none."""
    rows = [
        (name, group.name, comparison.primary.text(found.mean))
        for name, comparison in suite.items()
        for group, found in yardsticks_of(comparison)
    ]
    return (
        Table("Yardsticks: controllers that need no training", ("task", "yardstick", "score"), rows) if rows else None
    )


def yardsticks_of(comparison: Comparison) -> list[tuple[Group, Summary]]:
    """Return the yardsticks with their primary scores, the best first."""
    found = [
        (group, summary)
        for group in comparison.of_kind("yardstick")
        if (summary := primary_summary(comparison, group)) is not None
    ]
    return sorted(found, key=lambda each: -comparison.primary.better * each[1].mean)


def planners_of(comparison: Comparison) -> list[tuple[Group, Summary]]:
    """Return the yardsticks that plan chunks as a policy does, in the true simulator, the best first."""
    planned = {name for name, yardstick in comparison.task.yardsticks.items() if yardstick.planned}
    return [each for each in yardsticks_of(comparison) if each[0].name in planned]


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
        if (found := primary_summary(comparison, group)) is not None
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
                for each in verdicts_of(comparison)
            ],
            "notes": _notes(comparison),
        }
        for name, comparison in suite.items()
    ]
    return {"format": FORMAT, "unit": UNIT, "tasks": tasks, "scores": suite_rows(suite)}
