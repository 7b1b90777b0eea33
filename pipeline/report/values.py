"""A comparison as plain values: for JSON, and as one long table for CSV."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import pandas as pd

from pipeline.report.comparison import Cell, Comparison, Contrast, Where
from pipeline.report.overview import unit_of, verdicts
from pipeline.report.statistics import Bound, Interval, Summary

T = TypeVar("T")


def as_values(comparison: Comparison) -> dict[str, Any]:
    """Return everything as plain values, for JSON."""
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
                    | {"scores": {name: _by_condition(by, _value) for name, by in model.scores.items()}}
                    for model in group.models
                ],
                "scores": {name: _by_condition(found, asdict) for name, found in group.scores.items()},
                "costs": {name: asdict(found) for name, found in group.costs.items()},
                "errors": {name: asdict(found) for name, found in group.errors.items()},
            }
            for group in comparison.groups
        ],
        "differences": [
            {
                "first": contrast.first,
                "second": contrast.second,
                "verdict": contrast.verdict and asdict(contrast.verdict),
                "scores": {name: _by_condition(found, asdict) for name, found in contrast.scores.items()},
                "costs": {name: asdict(found) for name, found in contrast.costs.items()},
            }
            for contrast in comparison.contrasts
        ],
    }


def _by_condition(found: Mapping[Where, T], values: Callable[[T], dict[str, Any]]) -> list[dict[str, Any]]:
    return [_place(where) | values(each) for where, each in found.items()]


def _place(where: Where) -> dict[str, float | None]:
    return {"action_noise": where and where[0], "replan": where and where[1]}


def _value(score: float) -> dict[str, float]:
    return {"value": score}


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
            cell = Cell(verdict.difference, verdict.interval, verdict.bound, verdict.p_holm, verdict.better)
            rows.append(
                _difference_row(contrast, comparison.design.primary, None, cell)
                | {"p_permutation": verdict.p, "verdict": verdict.word}
            )
        for name, found in contrast.scores.items():
            rows += [_difference_row(contrast, name, where, value) for where, value in found.items()]
    return rows


def _summary_row(group: str, name: str, where: Where, summary: Summary) -> dict[str, Any]:
    return {
        "group": group, "minus": None, "number": name, **_place(where),
        "n": summary.n, "mean": summary.mean, "std": summary.std,
        **_between(summary.interval, summary.bound),
        "best": summary.best[1], "best_model": summary.best[0],
        "worst": summary.worst[1], "worst_model": summary.worst[0],
        "p": None, "p_permutation": None, "better": None, "verdict": None,
    }  # fmt: skip


def _difference_row(contrast: Contrast, name: str, where: Where, found: Cell) -> dict[str, Any]:
    return {
        "group": contrast.first, "minus": contrast.second, "number": name, **_place(where),
        "mean": found.value, **_between(found.interval, found.bound), "p": found.p, "better": found.better,
    }  # fmt: skip


def _between(interval: Interval | None, bound: Bound | None) -> dict[str, Any]:
    """An interval, or the bound that stands in its place with its count."""
    return {
        "low": interval and interval.low, "high": interval and interval.high,
        "bound_low": bound and bound.low, "bound_high": bound and bound.high, "bound_from": bound and bound.count,
    }  # fmt: skip
