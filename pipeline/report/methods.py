"""A table of results that other systems made: all pairs of methods, and how they are shown."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.report.statistics import Floats, model_means, over_conditions
from pipeline.report.tables import Table
from pipeline.report.verdicts import Verdict, judge_pairs, letters_of
from pipeline.report.words import interval_name, interval_note, interval_text, letters_note, needs_words, p_text


@dataclass(frozen=True)
class Methods:
    """All pairs of methods, and their letters."""

    outcomes: dict[str, Floats]  # (n, E) of each method
    conditions: int
    pairs: list[Verdict]
    letters: dict[str, str]


def compare_methods(found: Mapping[str, Floats], margin: float) -> Methods:
    """Compare all pairs of methods, `(n models, C conditions, E episodes)` each, over models and episodes."""
    conditions = next(iter(found.values())).shape[1]
    outcomes = {name: over_conditions(y) for name, y in found.items()}
    pairs = judge_pairs(outcomes, margin, +1)
    return Methods(outcomes, conditions, pairs, letters_of(outcomes, pairs, +1))


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
            f"{pair.first} minus {pair.second}",
            f"{pair.difference:+.4f}",
            interval_text(pair.interval, 4),
            p_text(pair.p_holm),
            p_text(pair.p),
            pair.word,
        )
        for pair in made.pairs
    ]
    notes = ["Intervals are over models and episodes; the verdict is theirs.", interval_note(made.pairs)]
    if any(pair.interval is None for pair in made.pairs):
        notes.append("No interval: one model, or outcomes too equal.")
    notes += [
        f"{pair.first} and {pair.second}: {needs_words(pair)}"
        for pair in made.pairs
        if pair.word == "undecided" and pair.interval is not None
    ]
    return [
        Table(
            f"Mean score over models; {where}",
            ("method", "models", "mean", "std", "letters"),
            methods,
            letters_note("Methods", f"{margin:g}"),
        ),
        Table(
            f"All pairs; equivalent: within {margin:g}",
            ("pair", "difference", interval_name(made.pairs), "p, Holm", "p, permutation", "verdict"),
            pairs,
            "\n".join(filter(None, notes)),
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
                "a": pair.first,
                "b": pair.second,
                "difference": pair.difference,
                "interval": [pair.interval.low, pair.interval.high] if pair.interval else None,
                "p_holm": pair.p_holm,
                "p_permutation": pair.p,
                "verdict": pair.word,
                "needs": [asdict(need) for need in pair.needs],  # what would probably decide
            }
            for pair in made.pairs
        ],
    }
