"""All pairs of methods, over models and episodes: Holm's correction, letters, and how they are shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from pipeline.report.letters import letters
from pipeline.report.statistics import (
    Difference,
    Floats,
    Interval,
    Verdict,
    compare,
    holm,
    holm_levels,
    model_means,
    over_conditions,
    verdict,
)
from pipeline.report.tables import Table


@dataclass(frozen=True)
class Pair:
    """Two methods. Interval and verdict are corrected for the number of pairs."""

    a: str
    b: str
    difference: Difference
    interval: Interval | None
    p: float | None  # of the interval's test, after Holm
    verdict: Verdict  # of a


@dataclass(frozen=True)
class Methods:
    """All pairs of methods, and their letters: methods that share one are not shown to differ."""

    outcomes: dict[str, Floats]  # (n, E) of each method
    conditions: int
    pairs: list[Pair]
    letters: dict[str, str]


def compare_methods(found: Mapping[str, Floats], margin: float) -> Methods:
    """Compare all pairs of methods, `(n models, C conditions, E episodes)` each, over models and episodes."""
    conditions = next(iter(found.values())).shape[1]
    outcomes = {name: over_conditions(y) for name, y in found.items()}
    names = list(combinations(outcomes, 2))
    differences = [compare(outcomes[a], outcomes[b]) for a, b in names]
    p_values = [found.estimate.p if found.estimate else 1.0 for found in differences]
    pairs = [
        Pair(
            a,
            b,
            found,
            found.estimate.interval(1 - level) if found.estimate else None,
            p if found.estimate else None,
            verdict(found.estimate, margin, +1, level),
        )
        for (a, b), found, level, p in zip(names, differences, holm_levels(p_values), holm(p_values), strict=True)
    ]
    ordered = sorted(outcomes, key=lambda name: -float(outcomes[name].mean()))
    different = {(pair.a, pair.b) for pair in pairs if pair.verdict in ("better", "worse")}
    return Methods(outcomes, conditions, pairs, letters(ordered, different))


def methods_tables(made: Methods, margin: float) -> list[Table]:
    """A table of the methods, the best first, and one of all pairs."""
    count = next(iter(made.outcomes.values())).shape[1]
    where = f"{count} episodes" + (f" in each of {made.conditions} conditions" if made.conditions > 1 else "")
    methods = []
    for name, letter in made.letters.items():
        means = model_means(made.outcomes[name])
        spread = f"{means.std(ddof=1):.4f}" if len(means) > 1 else "-"
        methods.append((name, str(len(means)), f"{means.mean():.4f}", spread, letter))
    pairs = [
        (
            f"{pair.a} minus {pair.b}",
            f"{pair.difference.value:+.4f}",
            f"[{pair.interval.low:.4f}, {pair.interval.high:.4f}]" if pair.interval else "-",
            f"{pair.p:.4f}" if pair.p is not None else "-",
            f"{pair.difference.p_permutation:.4f}" if pair.difference.p_permutation is not None else "-",
            pair.verdict,
        )
        for pair in made.pairs
    ]
    unknown = any(pair.interval is None for pair in made.pairs)
    return [
        Table(
            f"Mean score over models; {where}",
            ("method", "models", "mean", "std", "letters"),
            methods,
            "Methods that share a letter are not shown to differ by more than the margin.",
        ),
        Table(
            f"All pairs; equivalent: within {margin:g}",
            ("pair", "difference", "interval", "p, Holm", "p, permutation", "verdict"),
            pairs,
            "Intervals are over models and episodes, at the levels of Holm's correction: the verdict is theirs."
            + (" No interval: one model, or outcomes too equal." if unknown else ""),
        ),
    ]


def methods_values(made: Methods, margin: float) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "format": "tinypi-methods-1",
        "margin": margin,
        "methods": [
            {"method": name, "means": model_means(made.outcomes[name]).tolist(), "letters": letter}
            for name, letter in made.letters.items()
        ],
        "pairs": [
            {
                "a": pair.a,
                "b": pair.b,
                "difference": pair.difference.value,
                "interval": [pair.interval.low, pair.interval.high] if pair.interval else None,
                "p_holm": pair.p,
                "p_permutation": pair.difference.p_permutation,
                "verdict": pair.verdict,
            }
            for pair in made.pairs
        ],
    }
