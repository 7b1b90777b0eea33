"""The verdict on every two methods by one score, over models and episodes, and their letters."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from pipeline.report import statistics
from pipeline.report.letters import letters
from pipeline.report.looks import Look, judge_looks
from pipeline.report.planning import Need, deciding_half_width, needed, shared_variance
from pipeline.report.statistics import (
    ALPHA,
    Difference,
    Floats,
    Interval,
    compare,
    components,
    equivalent,
    holm,
    holm_levels,
)


@dataclass(frozen=True)
class Verdict:
    """What a score says of two methods."""

    first: str
    second: str
    margin: float
    means: tuple[float, float]
    difference: float  # first minus second
    interval: Interval | None  # 95%; of several pairs, at the level of Holm's procedure
    inner: Interval | None  # for equivalence: 90%; of several pairs, wider
    inner_percent: float
    p: float | None  # permutation test over models
    p_holm: float | None  # of the interval's test, after Holm's correction over the pairs
    word: statistics.Verdict  # of the first
    ahead: str | None  # the better one, if a difference is shown, however small
    looks: tuple[Look, ...]  # of a study that looked before its end
    needs: tuple[Need, ...]  # what would decide, if this is undecided

    @property
    def better(self) -> str | None:
        """The better one, if one is better by a difference that may matter."""
        return {"better": self.first, "worse": self.second}.get(self.word)


@dataclass(frozen=True)
class Terms:
    """By what every pair is judged."""

    margin: float
    better: int  # -1 where less is better
    looks: Sequence[int]  # planned ones; empty for a study that is judged once
    alpha: float  # the share of a pair
    largest: float  # difference that there can be


def judge_pairs(
    outcomes: Mapping[str, Floats], margin: float, better: int, looks: Sequence[int] = (), largest: float = math.inf
) -> list[Verdict]:
    """Judge every two methods by their outcomes, `(n, E)` each on the same E episodes.

    `better` is -1 where less is better. Differences are under Holm's procedure over the pairs; each pair has an equal
    share of ALPHA for equivalence and for its `looks`, numbers of models that were fixed in advance. `largest` is the
    largest difference that there can be: 1 of outcomes in [0, 1].
    """
    pairs = list(combinations(outcomes, 2))
    found = [compare(outcomes[a], outcomes[b]) for a, b in pairs]
    ps = [each.estimate.p if each.estimate else 1.0 for each in found]
    terms = Terms(margin, better, looks, ALPHA / max(1, len(pairs)), largest)
    return [
        _judge(pair, (outcomes[pair[0]], outcomes[pair[1]]), each, p, level, terms)
        for pair, each, p, level in zip(pairs, found, holm(ps), holm_levels(ps), strict=True)
    ]


def _judge(
    pair: tuple[str, str],
    outcomes: tuple[Floats, Floats],
    found: Difference,
    p: float,
    level: float,
    terms: Terms,
) -> Verdict:
    estimate, margin, alpha = found.estimate, terms.margin, terms.alpha
    looks = tuple(judge_looks(*outcomes, terms.looks, margin, terms.better, alpha) if terms.looks else ())
    ahead = pair[0 if found.value * terms.better > 0 else 1] if p < ALPHA else None
    word: statistics.Verdict
    if terms.looks:
        word = looks[-1].verdict if looks else "undecided"
    elif estimate is not None and equivalent(estimate, margin, alpha):
        word = "equivalent"
    else:
        word = "undecided" if ahead is None else "better" if ahead == pair[0] else "worse"
    ours, others = map(components, outcomes)
    needs: Sequence[Need] = ()
    if word == "undecided" and ours is not None and others is not None:
        needs = needed(ours, others, deciding_half_width(found.value, margin), shared_variance(*outcomes), alpha)
    return Verdict(
        first=pair[0],
        second=pair[1],
        margin=margin,
        means=(float(outcomes[0].mean()), float(outcomes[1].mean())),
        difference=found.value,
        interval=estimate.interval(1 - level, terms.largest) if estimate else None,
        inner=estimate.interval(1 - 2 * alpha, terms.largest) if estimate else None,
        inner_percent=100 * (1 - 2 * alpha),
        p=found.p_permutation,
        p_holm=p if estimate else None,
        word=word,
        ahead=ahead,
        looks=looks,
        needs=tuple(needs),
    )


def letters_of(outcomes: Mapping[str, Floats], verdicts: Sequence[Verdict], better: int) -> dict[str, str]:
    """Return letters by method, the best first: two share one if no difference is shown, or one within the margin."""
    ordered = sorted(outcomes, key=lambda name: -better * float(outcomes[name].mean()))
    return letters(ordered, {(each.first, each.second) for each in verdicts if each.better is not None})
