"""A comparison as text and tables, and as plain values."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from pipeline.report.comparison import Cell, Comparison, Contrast, Group, Where
from pipeline.report.scores import COSTS
from pipeline.report.statistics import Interval, Summary
from pipeline.report.tables import Table
from pipeline.report.verdicts import Verdict
from pipeline.report.words import NO_CONTROL, verdict_label, verdict_sentence
from pipeline.tasks.score import PLANNED, REBUILT, Score, error_metrics
from pipeline.tasks.task import Task

MET = (
    "A model's score is its mean over the episodes of a condition, failures included. All models meet the same starts "
    "in every condition."
)
PLANNED_FROM = (
    "A model's score is its mean over held-out episodes, of each the mean over its states. All models plan from the "
    "same states. A condition is how many first actions of a plan are judged. Agreement is the mean of 1 - min(1, e), "
    "where e is |planned - demonstrated| of an action, in standard deviations of the training split."
)
UNIT = (
    "Models and episodes are both drawn: intervals are over both. Means and standard deviations (ddof=1) are over the "
    "models of a group. {met} Models of two groups are not paired. 'by episodes' is the part of the "
    "standard deviation that the draw of episodes alone explains. Where outcomes are too much alike for an interval, "
    "an exact bound (Clopper-Pearson) for these models on new episodes stands in brackets with an asterisk. The "
    "primary score decides. All other differences are one family: their intervals and p-values are by Holm's procedure."
)


def unit_of(comparison: Comparison) -> str:
    """Return how the numbers are to be read."""
    return UNIT.format(met=MET if comparison.task.world else PLANNED_FROM)


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
    rows = [
        (
            f"{found.first} and {found.second}",
            *(f"{mean:.{digits}f}" for mean in found.means),
            f"{found.difference:+.{digits}f}",
            interval_text(found.interval, digits),
            interval_text(found.inner, digits),
            "-" if found.p is None else f"{found.p:.4f}",
            verdict_label(found),
        )
        for contrast in comparison.contrasts
        if (found := contrast.verdict) is not None
    ]
    inner = next((each.verdict.inner_percent for each in comparison.contrasts if each.verdict), 90)
    columns = ("", "first", "second", "difference", "95% interval", f"{inner:.3g}% interval", "p", "verdict")
    note = "p: permutation test over models, unpaired, for these episodes."
    if comparison.letters:
        shared = "; ".join(f"{name} {letter}" for name, letter in comparison.letters.items())
        note += f" Groups that share a letter are not shown to differ by more than the margin: {shared}."
    return Table(f"Verdict by {comparison.primary}", columns, rows, note)


def averages_table(comparison: Comparison) -> Table:
    """Each group's main scores, on average over the conditions: mean and standard deviation over models."""
    table = {name: comparison.scores[name] for name in comparison.main}

    def cell(group: Group, name: str) -> str:
        found = group.scores.get(name, {}).get(None)
        if found is None:
            return "-"
        spread = "" if found.std is None else f" ± {table[name].text(found.std)}"
        return table[name].text(found.mean) + spread

    rows = [(group.name, str(len(group.models)), *(cell(group, name) for name in table)) for group in comparison.groups]
    columns = ("group", "models", *(score.short for score in table.values()))
    note = f"{'; '.join(map(str, table.values()))}."
    title = "On average over the conditions: mean ± standard deviation over models"
    return Table(title, columns, rows, note[:1].upper() + note[1:])


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
    return Table(f"{_title(score)}, by {by}: means over models", columns, rows)


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
    return Table(_title(comparison.scores[name]), (where_heading(task), *SUMMARY_COLUMNS), rows)


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
            interval_text(found.interval, digits),
            f"{found.p:.4f}",
            found.better or "-",
        )
        for where, found in contrast.scores[name].items()
    ]
    columns = (where_heading(task), "difference", "interval", "p", "better")
    return Table(f"{_title(score)}: {contrast.first} minus {contrast.second}", columns, rows)


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


def verdicts(comparison: Comparison) -> list[str]:
    """Return a sentence for the primary score of each contrast, and one for each other main score."""
    lines = []
    for contrast in comparison.contrasts:
        if contrast.verdict is not None:
            lines.append(_sentence(comparison, contrast.verdict))
        found = [name for name in comparison.main if contrast.scores.get(name)]
        lines += [_secondary(contrast, name, comparison.scores[name]) for name in found]
    return lines


def _sentence(comparison: Comparison, verdict: Verdict) -> str:
    return verdict_sentence(verdict, comparison.design.primary, comparison.primary.digits)


def _secondary(contrast: Contrast, name: str, score: Score) -> str:
    cells, digits = contrast.scores[name], score.digits
    places = [where for where in cells if where]
    parts = [
        f"{group} is better in {count} of {len(places)} conditions"
        for group in (contrast.first, contrast.second)
        if (count := sum(cells[where].better == group for where in places))
    ]
    line = f"{contrast.first} and {contrast.second}, {score}: "
    line += ("; ".join(parts) or "no difference shown in any condition") + "."
    if (mean := cells.get(None)) is not None:
        between = f" {interval_text(mean.interval, digits)}" if mean.interval else ""
        line += f" On average the difference is {mean.value:+.{digits}f}{between}"
        line += f": {mean.better} is better." if mean.better else ", none shown."
    return line


def as_text(comparison: Comparison, names: Sequence[str] | None = None) -> str:
    """Return the text for a terminal: verdict, overview, the scores `names` in detail, losses and costs.

    By default these are the main scores; files have all.
    """
    return "\n\n".join(_parts(comparison, comparison.main if names is None else names, Table.text))


def as_markdown(comparison: Comparison) -> str:
    """Return all scores as Markdown."""
    return "\n\n".join(_parts(comparison, tuple(comparison.scores), Table.markdown)) + "\n"


def _parts(comparison: Comparison, names: Sequence[str], render: Callable[[Table], str]) -> list[str]:
    parts = [f"Comparison of {comparison.title}. Evaluation: {comparison.protocol}."]
    parts += [] if comparison.task.world else [NO_CONTROL]
    told = verdicts(comparison) if comparison.conditions else []
    main = [each.verdict for each in comparison.contrasts if each.verdict is not None]
    if main:
        parts += [*(_sentence(comparison, each) for each in main), render(verdict_table(comparison))]
    parts += [f"Note: {note}" for note in comparison.notes]
    if comparison.conditions:
        parts += [render(averages_table(comparison)), render(condition_table(comparison, comparison.design.primary))]
        parts += [line for line in told if line not in parts]
    parts += cautions(comparison)
    for name in names:
        if any(name in group.scores for group in comparison.of_kind("model", "average", "original")):
            parts.append(render(score_table(comparison, name)))
        parts += [
            render(contrast_table(comparison, contrast, name))
            for contrast in comparison.contrasts
            if contrast.scores.get(name)
        ]
    parts += [render(table)] if (table := dimension_table(comparison)) else []
    parts.append(render(cost_table(comparison)))
    parts += [render(cost_contrast_table(contrast)) for contrast in comparison.contrasts if contrast.costs]
    return [*parts, unit_of(comparison)]


def cautions(comparison: Comparison) -> list[str]:
    """Return what so few models cannot show, one sentence each."""
    return [
        f"{group.name} has one seed: no spread and no interval can be given."
        for group in comparison.of_kind("model")
        if len(group.models) == 1
    ]


def as_values(comparison: Comparison) -> dict[str, Any]:
    """Return everything as plain values, for JSON."""

    def by_condition(found: dict[Where, Any]) -> list[Any]:
        return [
            {"action_noise": where and where[0], "replan": where and where[1]} | asdict(value)
            for where, value in found.items()
        ]

    return {
        "format": "tinypi-report-2",
        "task": comparison.task.name,
        "judged": "control" if comparison.task.world else "plans",
        "title": comparison.title,
        "evaluation": comparison.protocol,
        "design": asdict(comparison.design),
        "unit": unit_of(comparison),
        "notes": list(comparison.notes),
        "verdicts": verdicts(comparison),
        "groups": [
            {
                "name": group.name,
                "kind": group.kind,
                "letters": comparison.letters.get(group.name),
                "models": [
                    {"seed": model.seed, "name": model.name, "run_id": model.run_id, "costs": dict(model.costs)}
                    | {"scores": {name: by_condition_plain(by) for name, by in model.scores.items()}}
                    for model in group.models
                ],
                "scores": {name: by_condition(found) for name, found in group.scores.items()},
                "costs": {name: asdict(found) for name, found in group.costs.items()},
                "errors": {name: asdict(found) for name, found in group.errors.items()},
            }
            for group in comparison.groups
        ],
        "differences": [
            {
                "first": contrast.first,
                "second": contrast.second,
                "verdict": contrast.verdict and asdict(contrast.verdict) | {"word": contrast.verdict.word},
                "scores": {name: by_condition(found) for name, found in contrast.scores.items()},
                "costs": {name: asdict(found) for name, found in contrast.costs.items()},
            }
            for contrast in comparison.contrasts
        ],
    }


def by_condition_plain(found: dict[Where, float]) -> list[dict[str, float | None]]:
    """Return a model's own score in each condition."""
    return [
        {"action_noise": where and where[0], "replan": where and where[1], "value": value}
        for where, value in found.items()
    ]


def as_csv(comparison: Comparison) -> str:
    """Return summaries and differences as one long table of comma-separated values."""
    return pd.DataFrame(as_rows(comparison)).to_csv(index=False)


def as_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Summaries and differences in one long table, for CSV; the columns are those of the first row."""
    rows = []
    for group in comparison.groups:
        for name, by in group.scores.items():
            rows += [_summary_row(group.name, name, where, summary) for where, summary in by.items()]
        alone = {**group.costs, **group.errors}
        rows += [_summary_row(group.name, name, None, summary) for name, summary in alone.items()]
    for contrast in comparison.contrasts:
        if (verdict := contrast.verdict) is not None:
            cell = Cell(verdict.difference, verdict.interval, verdict.p or 1.0, verdict.better)
            rows.append(_difference_row(contrast, comparison.design.primary, None, cell) | {"verdict": verdict.word})
        for name, found in contrast.scores.items():
            rows += [_difference_row(contrast, name, where, value) for where, value in found.items()]
    return rows


def _summary_row(group: str, name: str, where: Where, summary: Summary) -> dict[str, Any]:
    low, high = (summary.interval.low, summary.interval.high) if summary.interval else (None, None)
    return {
        "group": group, "minus": None, "number": name,
        "action_noise": where and where[0], "replan": where and where[1],
        "n": summary.n, "mean": summary.mean, "std": summary.std, "low": low, "high": high,
        "best": summary.best[1], "best_model": summary.best[0],
        "worst": summary.worst[1], "worst_model": summary.worst[0],
        "p": None, "better": None, "verdict": None,
    }  # fmt: skip


def _difference_row(contrast: Contrast, name: str, where: Where, found: Cell) -> dict[str, Any]:
    low, high = (found.interval.low, found.interval.high) if found.interval else (None, None)
    return {
        "group": contrast.first, "minus": contrast.second, "number": name,
        "action_noise": where and where[0], "replan": where and where[1],
        "mean": found.value, "low": low, "high": high, "p": found.p, "better": found.better,
    }  # fmt: skip


def _summary_cells(summary: Summary, score: Score) -> tuple[str, ...]:
    by_episodes = summary.std_by_episodes
    between = interval_text(summary.interval, score.digits)
    if summary.interval is None and summary.bound is not None:
        between = f"{interval_text(summary.bound, score.digits)}*"
    return (
        str(summary.n),
        score.text(summary.mean),
        "-" if summary.std is None else score.text(summary.std),
        "-" if by_episodes is None else score.text(by_episodes),
        between,
        f"{score.text(summary.best[1])} ({summary.best[0]})",
        f"{score.text(summary.worst[1])} ({summary.worst[0]})",
    )


def _title(score: Score) -> str:
    text = str(score)
    return text[:1].upper() + text[1:]


def interval_text(interval: Interval | None, digits: int) -> str:
    """Return an interval as "[0.1, 0.2]", or "-" for None."""
    return "-" if interval is None else f"[{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
