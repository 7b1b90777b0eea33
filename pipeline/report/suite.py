"""A report across tasks: methods by their primary scores, which are each task's own and lie in [0, 1]."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from pipeline.report.comparison import Comparison, Group
from pipeline.report.comparison_tables import mean_text
from pipeline.report.statistics import Summary
from pipeline.report.tables import Table
from pipeline.report.verdicts import Verdict
from pipeline.report.words import NO_CONTROL, listed, verdict_words

Suite = Mapping[str, Comparison]
"""Comparisons by the names of their tasks. A method is a group of the same name in each."""

FORMAT = "tinypi-suite-1"
UNIT = (
    "Each task's primary score, on average over its conditions: mean ± standard deviation over models. Groups of a "
    "task that share a letter are not shown to differ by more than the margin. Scores of two tasks do not compare."
)


def methods_of(suite: Suite) -> list[str]:
    """Return the names of all groups of models, in the order in which they first come."""
    names = (group.name for comparison in suite.values() for group in comparison.of_kind("model"))
    return list(dict.fromkeys(names))


def primary_of(comparison: Comparison, group: Group) -> Summary | None:
    """Return a group's primary score over all conditions; None if it was not evaluated."""
    return group.scores.get(comparison.design.primary, {}).get(None)


def best_of(comparison: Comparison) -> set[str]:
    """Return the groups of models that no other is shown to be better than; none if no difference is shown."""
    return set(leaders_of(comparison)) if _shown(comparison) else set()


def leaders_of(comparison: Comparison) -> list[str]:
    """Return the groups of models that no other is shown to be better than, the one with the best mean first."""
    judged = {
        group.name: found.mean for group in comparison.of_kind("model") if (found := primary_of(comparison, group))
    }
    beaten = {loser for _, loser in _shown(comparison)}
    return sorted(judged.keys() - beaten, key=lambda name: (-comparison.primary.better * judged[name], name))


def verdicts_of(comparison: Comparison) -> list[Verdict]:
    """Return the verdicts by the primary score, of every two groups."""
    return [each.verdict for each in comparison.contrasts if each.verdict is not None]


def _shown(comparison: Comparison) -> set[tuple[str, str]]:
    """Return the better and the worse group of every difference that is shown."""
    return {
        (each.better, each.second if each.better == each.first else each.first)
        for each in verdicts_of(comparison)
        if each.better is not None
    }


def verdict_of(comparison: Comparison) -> str:
    """Return a task's verdict in words: who is best, and what is known of those that no other is better than.

    Letters tell the rest.
    """
    told, leaders, shown = verdicts_of(comparison), leaders_of(comparison), _shown(comparison)
    if len(told) < 2:
        return verdict_words(told[0]) if told else "nothing to compare"
    if len(leaders) == 1:
        (best,) = leaders
        losers = {loser for winner, loser in shown if winner == best}
        others = [
            each.first if each.second == best else each.second for each in told if best in (each.first, each.second)
        ]
        close = [name for name in others if name not in losers]
        return f"{best} leads, not shown to be better than {listed(close)}" if close else f"{best} is best"
    among = [each for each in told if {each.first, each.second} <= set(leaders)]
    equal = [each for each in among if each.word == "equivalent"]
    lead = f"{listed(leaders)} lead" if shown else "no difference shown"
    if len(equal) == len(among):
        return f"{lead}, equivalent within {comparison.design.margin:g}"
    pairs = "; ".join(verdict_words(each) for each in equal)
    return f"{lead}; {pairs}" if equal else f"{lead}, undecided among them" if shown else "undecided between any two"


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
    found = primary_of(comparison, group) if group else None
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
        if (summary := primary_of(comparison, group)) is not None
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
                for each in verdicts_of(comparison)
            ],
            "notes": _notes(comparison),
        }
        for name, comparison in suite.items()
    ]
    return {"format": FORMAT, "unit": UNIT, "tasks": tasks, "scores": suite_rows(suite)}
