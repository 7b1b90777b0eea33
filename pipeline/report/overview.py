"""A comparison as text and tables, and as plain values."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from pipeline.report.bootstraps import CONFIDENCE, FEWEST, Difference, Interval, Summary
from pipeline.report.comparison import Comparison, Contrast, Group, Where
from pipeline.report.scores import COSTS, SCORES, Score
from pipeline.report.tables import Table

MAIN = ("success", "converge", "converge_step", "velocity_std")  # shown in the terminal; files have all scores
ALPHA = 1 - CONFIDENCE
UNIT = (
    "The unit is the training seed: means and standard deviations (ddof=1) are over models of one group. A model's "
    "score is its mean over the episodes of a condition, falls included. All models meet the same episodes, so "
    "intervals and p-values are over seeds, for these episodes: other episodes would shift all models together. "
    "IQM: mean without the lowest and highest quarter of the models (two of ten each). Intervals: 95%, bootstrap over "
    "models, stratified by group, widened for small samples. Differences: paired by seed. p: sign-flip test, "
    "Holm-corrected over the conditions of one score and pair of groups."
)


def where_text(where: Where) -> str:
    """Return a condition as "0.03, 13"."""
    return f"{where[0]:g}, {where[1]}" if where else "mean"


def overview_table(comparison: Comparison) -> Table:
    """Success and converge of every group in every condition."""

    def cell(group: Group, where: Where) -> str:
        found = [group.scores.get(name, {}).get(where) for name in ("success", "converge")]
        return " / ".join("-" if summary is None else f"{summary.mean:.3f}" for summary in found)

    rows = [
        (where_text(where), *(cell(group, where) for group in comparison.groups))
        for where in (*comparison.conditions, None)
    ]
    heads = [
        f"{group.name} ({len(group.models)})" if group.kind in ("model", "original") else group.name
        for group in comparison.groups
    ]
    title = "Success / converge by action noise and replan interval: means over models (number of models)"
    return Table(title, ("noise, replan", *heads), rows)


def score_table(comparison: Comparison, name: str) -> Table:
    """Mean, std, IQM with interval, best and worst of one score, a row per condition and group."""
    rows = [
        (where_text(where), group.name, *_summary_cells(group.scores[name][where], SCORES[name]))
        for where in (*comparison.conditions, None)
        for group in comparison.of_kind("model", "average", "original")
        if where in group.scores.get(name, {})
    ]
    columns = ("noise, replan", "models of", "n", "mean", "std", "IQM", "95% interval", "best", "worst")
    return Table(str(SCORES[name]).capitalize(), columns, rows)


def cost_table(comparison: Comparison) -> Table:
    """Losses, errors against the expert and costs, a row per quantity and group."""
    rows = [
        (str(cost), group.name, *_summary_cells(group.costs[name], cost))
        for name, cost in COSTS.items()
        for group in comparison.of_kind("model", "average", "original")
        if name in group.costs
    ]
    columns = ("", "models of", "n", "mean", "std", "IQM", "95% interval", "best", "worst")
    note = "Losses of different methods have different units and are not comparable."
    return Table("Losses and costs", columns, rows, note)


def contrast_table(contrast: Contrast, name: str) -> Table:
    """The differences of one score, a row per condition."""
    rows = []
    for where, found in contrast.scores[name].items():
        corrected = contrast.corrected[name].get(where)
        rows.append(
            (
                where_text(where),
                str(found.n),
                f"{found.mean:+.{SCORES[name].digits}f}",
                interval_text(found.interval, SCORES[name].digits),
                f"{found.improvement:.2f}",
                interval_text(found.improvement_interval, 2),
                "-" if found.p is None else f"{found.p:.4f}",
                "-" if corrected is None else f"{corrected:.4f}",
                winner(contrast, name, where) or "-",
            )
        )
    columns = (
        "noise, replan",
        "n",
        "difference",
        "95% interval",
        "P(better)",
        "95% interval",
        "p",
        "p, Holm",
        "better",
    )
    title = f"{str(SCORES[name]).capitalize()}: {contrast.first} minus {contrast.second}, n pairs of models"
    return Table(
        title, columns, rows, f"P(better): a model of {contrast.first} is better than one of {contrast.second}."
    )


def cost_contrast_table(contrast: Contrast) -> Table:
    """The differences of costs, a row per quantity."""
    rows = [
        (
            str(COSTS[name]),
            str(found.n),
            f"{found.mean:+.{COSTS[name].digits}f}",
            interval_text(found.interval, COSTS[name].digits),
            f"{found.improvement:.2f}",
            "-" if found.p is None else f"{found.p:.4f}",
        )
        for name, found in contrast.costs.items()
    ]
    columns = ("", "n", "difference", "95% interval", "P(better)", "p")
    return Table(f"Losses and costs: {contrast.first} minus {contrast.second}, n pairs of models", columns, rows)


def winner(contrast: Contrast, name: str, where: Where) -> str | None:
    """Return the better group by the corrected test (over all conditions: the plain test), or None."""
    found = contrast.scores[name][where]
    p = contrast.corrected[name].get(where) if where else found.p
    if p is None or p >= ALPHA or SCORES[name].better == 0:
        return None
    return contrast.first if found.mean * SCORES[name].better > 0 else contrast.second


def verdicts(comparison: Comparison) -> list[str]:
    """Return a sentence per contrast and main score: where a group is better, and where no difference is shown."""
    lines = []
    for contrast in comparison.contrasts:
        for name in (name for name in MAIN if name in contrast.scores):
            found = contrast.scores[name]
            places: dict[str | None, list[str]] = {}
            for where in (where for where in found if where):
                places.setdefault(winner(contrast, name, where), []).append(f"({where_text(where)})")
            parts = [
                f"{group} is better in {len(at)} of {len(found) - (None in found)} conditions"
                for group in (contrast.first, contrast.second)
                if (at := places.get(group))
            ]
            if None in places:
                all_of_them = len(places[None]) == len(found) - (None in found)
                parts.append(f"no difference shown in {'any' if all_of_them else ', '.join(places[None])}")
            lines.append(f"{contrast.first} and {contrast.second}, {SCORES[name]}: {'; '.join(parts)}.")
            if None in found:
                overall = found[None]
                digits = SCORES[name].digits
                between = f" {interval_text(overall.interval, digits)}" if overall.interval else ""
                lines[-1] += (
                    f" On average {contrast.first} minus {contrast.second} is {overall.mean:+.{digits}f}{between}."
                )
    return lines


def as_text(comparison: Comparison, names: Sequence[str] = MAIN) -> str:
    """Return the text for a terminal: the overview, the scores `names` in detail, losses and costs."""
    return "\n\n".join(_parts(comparison, names, Table.text))


def as_markdown(comparison: Comparison) -> str:
    """Return all scores as Markdown."""
    return "\n\n".join(_parts(comparison, tuple(SCORES), Table.markdown)) + "\n"


def _parts(comparison: Comparison, names: Sequence[str], render: Callable[[Table], str]) -> list[str]:
    parts = [f"Comparison of {comparison.title}. Evaluation: {comparison.protocol}."]
    parts += [f"Note: {note}" for note in comparison.notes]
    if comparison.conditions:
        parts += [render(overview_table(comparison)), *verdicts(comparison)]
    parts += cautions(comparison)
    for name in names:
        if any(name in group.scores for group in comparison.of_kind("model", "average", "original")):
            parts.append(render(score_table(comparison, name)))
        parts += [
            render(contrast_table(contrast, name)) for contrast in comparison.contrasts if contrast.scores.get(name)
        ]
    parts.append(render(cost_table(comparison)))
    parts += [render(cost_contrast_table(contrast)) for contrast in comparison.contrasts if contrast.costs]
    return [*parts, UNIT]


def cautions(comparison: Comparison) -> list[str]:
    """Return what so few models cannot show, one sentence each."""
    found = []
    for group in comparison.of_kind("model"):
        if len(group.models) == 1:
            found.append(f"{group.name} has one seed: no spread can be given.")
        elif len(group.models) < FEWEST:
            found.append(f"{group.name} has {len(group.models)} seeds: too few for 95% intervals, which need {FEWEST}.")
    for contrast in comparison.contrasts:
        pairs, tests = contrast.pairs, len(comparison.conditions)
        if tests * 2 ** (1 - pairs) >= ALPHA:  # the smallest corrected p of the exact test
            found.append(
                f"{pairs} pair{'s' * (pairs > 1)} of models cannot show a difference in one of {tests} conditions "
                f"between {contrast.first} and {contrast.second}: more seeds are needed."
            )
    return found


def as_values(comparison: Comparison) -> dict[str, Any]:
    """Return everything as plain values, for JSON."""

    def by_condition(found: dict[Where, Summary] | dict[Where, Difference], extra: dict[Where, float]) -> list[Any]:
        return [
            {"action_noise": where and where[0], "replan": where and where[1]}
            | asdict(value)
            | ({"p_holm": extra[where]} if where in extra else {})
            for where, value in found.items()
        ]

    return {
        "format": "tinypi-report-1",
        "title": comparison.title,
        "evaluation": comparison.protocol,
        "unit": UNIT,
        "notes": list(comparison.notes),
        "verdicts": verdicts(comparison),
        "groups": [
            {
                "name": group.name,
                "kind": group.kind,
                "models": [
                    {"seed": model.seed, "name": model.name, "run_id": model.run_id, "costs": model.costs}
                    | {"scores": {name: by_condition_plain(by) for name, by in model.scores.items()}}
                    for model in group.models
                ],
                "scores": {name: by_condition(found, {}) for name, found in group.scores.items()},
                "costs": {name: asdict(found) for name, found in group.costs.items()},
            }
            for group in comparison.groups
        ],
        "differences": [
            {
                "first": contrast.first,
                "second": contrast.second,
                "scores": {
                    name: by_condition(found, contrast.corrected[name]) for name, found in contrast.scores.items()
                },
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
        rows += [_summary_row(group.name, name, None, summary) for name, summary in group.costs.items()]
    for contrast in comparison.contrasts:
        for name, found in contrast.scores.items():
            for where, value in found.items():
                holm = contrast.corrected[name].get(where)
                rows.append(_difference_row(contrast, name, where, value) | {"p_holm": holm})
        rows += [_difference_row(contrast, name, None, value) for name, value in contrast.costs.items()]
    return rows


def _summary_row(group: str, name: str, where: Where, summary: Summary) -> dict[str, Any]:
    low, high = (summary.interval.low, summary.interval.high) if summary.interval else (None, None)
    return {
        "group": group, "minus": None, "number": name,
        "action_noise": where and where[0], "replan": where and where[1],
        "n": summary.n, "mean": summary.mean, "std": summary.std, "iqm": summary.iqm, "low": low, "high": high,
        "best": summary.best[1], "best_model": summary.best[0],
        "worst": summary.worst[1], "worst_model": summary.worst[0],
        "p": None, "p_holm": None, "p_better": None, "p_better_low": None, "p_better_high": None,
    }  # fmt: skip


def _difference_row(contrast: Contrast, name: str, where: Where, found: Difference) -> dict[str, Any]:
    low, high = (found.interval.low, found.interval.high) if found.interval else (None, None)
    better = found.improvement_interval
    return {
        "group": contrast.first, "minus": contrast.second, "number": name,
        "action_noise": where and where[0], "replan": where and where[1],
        "n": found.n, "mean": found.mean, "low": low, "high": high, "p": found.p, "p_better": found.improvement,
        "p_better_low": better and better.low, "p_better_high": better and better.high,
    }  # fmt: skip


def _summary_cells(summary: Summary, score: Score) -> tuple[str, ...]:
    return (
        str(summary.n),
        score.text(summary.mean),
        "-" if summary.std is None else score.text(summary.std),
        score.text(summary.iqm),
        interval_text(summary.interval, score.digits),
        f"{score.text(summary.best[1])} ({summary.best[0]})",
        f"{score.text(summary.worst[1])} ({summary.worst[0]})",
    )


def interval_text(interval: Interval | None, digits: int) -> str:
    """Return an interval as "[0.1, 0.2]", or "-" for None."""
    return "-" if interval is None else f"[{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
