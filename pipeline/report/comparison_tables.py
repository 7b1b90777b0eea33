"""The tables of a comparison."""

from pipeline.report.comparison import Comparison, Contrast, Group, Where
from pipeline.report.scores import COSTS
from pipeline.report.statistics import Bound, Interval, Summary
from pipeline.report.tables import Table
from pipeline.report.words import (
    as_sentence,
    interval_name,
    interval_note,
    interval_text,
    letters_note,
    p_name,
    p_text,
    verdict_label,
)
from pipeline.tasks.score import PLANNED, REBUILT, Score, error_metrics
from pipeline.tasks.task import Task


def where_heading(task: Task) -> str:
    """Return what conditions are, as a heading."""
    return "noise, replan" if task.world else "first actions"


def where_text(where: Where, task: Task) -> str:
    """Return a condition as "0.03, 13", or without a simulator as "10"."""
    if where is None:
        return "mean"
    return f"{where[0]:g}, {where[1]}" if task.world else str(where[1])


def verdict_table(comparison: Comparison) -> Table:
    """The primary score of every two groups, on average over the conditions."""
    digits = comparison.primary.digits
    told = [found for contrast in comparison.contrasts if (found := contrast.verdict) is not None]
    looks = any(found.planned for found in told)
    rows = [
        (
            f"{found.first} and {found.second}",
            *(f"{mean:.{digits}f}" for mean in found.means),
            f"{found.difference:+.{digits}f}",
            between_text(found.interval, found.bound, digits),
            interval_text(found.inner, digits),
            *([] if looks else [p_text(found.p_holm)]),
            p_text(found.p),
            verdict_label(found),
        )
        for found in told
    ]
    inner = told[0].inner_percent if told else 90
    columns = ("", "first", "second", "difference", interval_name(told), f"{inner:.3g}% interval")
    columns += (*(() if looks else (p_name(told),)), "p, permutation", "verdict")
    notes = ["Permutation test: over models, for these episodes."]
    if any(found.paired for found in told):
        notes.append("Groups with the same weights are compared model by model.")
    note = " ".join(filter(None, [*notes, interval_note(told)]))
    if comparison.letters:
        shared = "; ".join(f"{name} {letter}" for name, letter in comparison.letters.items())
        note += f" {letters_note('Groups', f'{comparison.design.margin:g}')} Letters: {shared}."
    return Table(f"Verdict by {comparison.primary}", columns, rows, note)


def averages_table(comparison: Comparison) -> Table:
    """Each group's main scores, on average over the conditions: mean and standard deviation over models."""
    table = {name: comparison.scores[name] for name in comparison.main}

    def cell(group: Group, name: str) -> str:
        found = group.scores.get(name, {}).get(None)
        return "-" if found is None else mean_text(found, table[name])

    rows = [(group.name, str(len(group.models)), *(cell(group, name) for name in table)) for group in comparison.groups]
    columns = ("group", "models", *(score.short for score in table.values()))
    note = f"{'; '.join(map(str, table.values()))}."
    title = "On average over the conditions: mean ± standard deviation over models"
    return Table(title, columns, rows, as_sentence(note))


def condition_table(comparison: Comparison, name: str) -> Table:
    """The means of one score, a row per group and a column per condition."""
    places, score = (*comparison.conditions, None), comparison.scores[name]
    rows = [
        (group.name, *(score.text(found[where].mean) if where in found else "-" for where in places))
        for group in comparison.groups
        if (found := group.scores.get(name))
    ]
    task = comparison.task
    by = "action noise and replan interval" if task.world else "number of first actions"
    columns = (where_heading(task), *(where_text(where, task) for where in places))
    return Table(f"{as_sentence(str(score))}, by {by}: means over models", columns, rows)


SUMMARY_COLUMNS = ("models of", "n", "mean", "std", "by episodes", "95% interval", "best", "worst")


def score_table(comparison: Comparison, name: str) -> Table:
    """Summaries of one score, a row per condition and group."""
    task = comparison.task
    rows = [
        (where_text(where, task), group.name, *_summary_cells(group.scores[name][where], comparison.scores[name]))
        for where in (*comparison.conditions, None)
        for group in comparison.of_kind("model", "average", "original")
        if where in group.scores.get(name, {})
    ]
    return Table(as_sentence(str(comparison.scores[name])), (where_heading(task), *SUMMARY_COLUMNS), rows)


def cost_table(comparison: Comparison) -> Table:
    """Losses, errors against the expert and costs, a row per quantity and group."""
    rows = [
        (str(cost), group.name, *_summary_cells(group.costs[name], cost))
        for name, cost in COSTS.items()
        for group in comparison.of_kind("model", "average", "original")
        if name in group.costs
    ]
    note = "Losses of different methods have different units and are not comparable."
    return Table("Losses and costs", ("", *SUMMARY_COLUMNS), rows, note)


def dimension_table(comparison: Comparison) -> Table | None:
    """Mean |error| of plans in every action dimension, without a simulator; a row per dimension and group."""
    action, plain = comparison.task.action, Score("", "", "", 4, -1)
    planned, rebuilt = (error_metrics(what, [channel.name for channel in action]) for what in (PLANNED, REBUILT))
    rows = [
        (str(channel), group.name, what, *_summary_cells(group.errors[name], plain))
        for number, channel in enumerate(action)
        for group in comparison.of_kind("model", "average", "original")
        for what, name in (("plans", planned[number]), ("tokenizer alone", rebuilt[number]))
        if name in group.errors
    ]
    note = (
        "Mean |error| over whole chunks of held-out episodes, in each action's own unit. 'Tokenizer alone': the "
        "demonstrated chunks, encoded and decoded."
    )
    return (
        Table("Errors by action", ("action", "group", "error of", *SUMMARY_COLUMNS[1:]), rows, note) if rows else None
    )


def contrast_table(comparison: Comparison, contrast: Contrast, name: str) -> Table:
    """The differences of one score, called `name`, a row per condition."""
    task, score = comparison.task, comparison.scores[name]
    digits = score.digits
    rows = [
        (
            where_text(where, task),
            f"{found.value:+.{digits}f}",
            between_text(found.interval, found.bound, digits),
            p_text(found.p),
            found.better or "-",
        )
        for where, found in contrast.scores[name].items()
    ]
    columns = (where_heading(task), "difference", "interval", "p, Holm", "better")
    return Table(f"{as_sentence(str(score))}: {contrast.first} minus {contrast.second}", columns, rows)


def cost_contrast_table(contrast: Contrast) -> Table:
    """The differences of costs, a row per quantity, each by itself."""
    rows = [
        (
            str(COSTS[name]),
            f"{found.value:+.{COSTS[name].digits}f}",
            interval_text(found.estimate.interval() if found.estimate else None, COSTS[name].digits),
        )
        for name, found in contrast.costs.items()
    ]
    title = f"Losses and costs: {contrast.first} minus {contrast.second}"
    return Table(title, ("", "difference", "95% interval"), rows, "Intervals are over models, each by itself.")


def _summary_cells(summary: Summary, score: Score) -> tuple[str, ...]:
    by_episodes = summary.std_by_episodes
    return (
        str(summary.n),
        score.text(summary.mean),
        "-" if summary.std is None else score.text(summary.std),
        "-" if by_episodes is None else score.text(by_episodes),
        between_text(summary.interval, summary.bound, score.digits),
        f"{score.text(summary.best[1])} ({summary.best[0]})",
        f"{score.text(summary.worst[1])} ({summary.worst[0]})",
    )


def mean_text(summary: Summary, score: Score) -> str:
    """Return a mean and, of several models, the standard deviation over them: "0.741 ± 0.006"."""
    return score.text(summary.mean) + ("" if summary.std is None else f" ± {score.text(summary.std)}")


def between_text(interval: Interval | None, bound: Bound | None, digits: int) -> str:
    """Return an interval as text; where there is none the bound and its count, "[0.99, 1.00]* 0 of 300 below 1"."""
    if interval is not None or bound is None:
        return interval_text(interval, digits)
    return f"{interval_text(bound, digits)}* {bound.count}"
