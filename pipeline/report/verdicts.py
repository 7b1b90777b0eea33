"""The verdict on every two methods by one score, over models and episodes, and their letters."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from pipeline.report import statistics
from pipeline.report.letters import letters
from pipeline.report.looks import Look, blind_looks, judge_looks
from pipeline.report.planning import Need, deciding_half_width, expected_half_width, needed, shared_variance
from pipeline.report.statistics import (
    ALPHA,
    Bound,
    Difference,
    Floats,
    Interval,
    compare,
    components,
    difference_bound,
    equivalent,
    holm,
    holm_levels,
    mean_difference,
)


@dataclass(frozen=True)
class Verdict:
    """What a score says of two methods."""

    first: str
    second: str
    margin: float
    models: tuple[int, int]  # that it is of: where one looks early, those of the last look
    means: tuple[float, float]
    difference: float  # first minus second
    interval: Interval | None  # 95%; of several pairs at the level of Holm's procedure, of looks for all at once
    bound: Bound | None  # where there is no interval, of the difference
    inner: Interval | None  # for equivalence: 90%; of several pairs or looks, wider
    inner_percent: float
    p: float | None  # permutation test over models; where one looks early, that of the last look
    p_holm: float | None  # of the interval's test, after Holm's correction over the pairs; None where one looks early
    word: statistics.Verdict  # of the first
    ahead: str | None  # the better one, if a difference is shown, however small
    pairs: int  # that are judged together
    planned: tuple[int, ...]  # numbers of models at which the study may stop; empty if it is judged once
    looks: tuple[Look, ...]  # that have been taken
    needs: tuple[Need, ...]  # what would decide, if this is undecided: of the looks that are left, or in a new study

    @property
    def left(self) -> tuple[int, ...]:
        """The looks that are left."""
        return self.planned[len(self.looks) :]

    @property
    def better(self) -> str | None:
        """The better one, if one is better by a difference that may matter."""
        return {"better": self.first, "worse": self.second}.get(self.word)


@dataclass(frozen=True)
class Terms:
    """By what every pair is judged."""

    margin: float
    better: int  # -1 where less is better
    pairs: int
    largest: float  # difference that there can be

    @property
    def alpha(self) -> float:
        """The share of a pair."""
        return ALPHA / max(1, self.pairs)

    def bound(self, first: Floats, second: Floats) -> Bound | None:
        """What stands where no interval may be printed, of outcomes in [0, 1]."""
        return difference_bound(first, second) if self.largest == 1 else None


def judge_pairs(
    outcomes: Mapping[str, Floats], margin: float, better: int, looks: Sequence[int] = (), largest: float = math.inf
) -> list[Verdict]:
    """Judge every two methods by their outcomes, `(n, E)` each on the same E episodes.

    `better` is -1 where less is better. Differences are under Holm's procedure over the pairs; each pair has an equal
    share of ALPHA for equivalence and for its `looks`, numbers of models that were fixed in advance. `largest` is the
    largest difference that there can be: 1 of outcomes in [0, 1].
    """
    pairs = list(combinations(outcomes, 2))
    terms = Terms(margin, better, len(pairs), largest)
    if looks:
        return [_judge_looks(pair, (outcomes[pair[0]], outcomes[pair[1]]), tuple(looks), terms) for pair in pairs]
    found = [compare(outcomes[a], outcomes[b]) for a, b in pairs]
    ps = [each.estimate.p if each.estimate else 1.0 for each in found]
    return [
        _judge(pair, (outcomes[pair[0]], outcomes[pair[1]]), each, p, level, terms)
        for pair, each, p, level in zip(pairs, found, holm(ps), holm_levels(ps), strict=True)
    ]


@dataclass(frozen=True)
class Decision:
    """What is decided of a pair, and by which levels."""

    word: statistics.Verdict
    differs: bool  # whether a difference is shown
    level: float  # of the interval
    inner: float  # of each one-sided test of equivalence


def _judge(
    pair: tuple[str, str],
    outcomes: tuple[Floats, Floats],
    found: Difference,
    p: float,
    level: float,
    terms: Terms,
) -> Verdict:
    """Judge a pair once, by Holm's procedure: `p` is corrected, `level` that of the interval."""
    differs = p < ALPHA
    word: statistics.Verdict
    if found.estimate is not None and equivalent(found.estimate, terms.margin, terms.alpha):
        word = "equivalent"
    elif differs:
        word = "better" if found.value * terms.better > 0 else "worse"
    else:
        word = "undecided"
    made = _verdict(pair, outcomes, found, Decision(word, differs, level, terms.alpha), terms)
    return replace(made, p_holm=p if found.estimate else None)


def _judge_looks(
    pair: tuple[str, str], outcomes: tuple[Floats, Floats], planned: tuple[int, ...], terms: Terms
) -> Verdict:
    """Judge a pair at its last look: word, interval and what would decide are of the models up to there."""
    looks = tuple(judge_looks(*outcomes, planned, terms.margin, terms.better, terms.alpha))
    level = terms.alpha / len(planned)
    if not looks:
        undecided = Decision("undecided", False, level, level)
        return _verdict(pair, outcomes, compare(*outcomes), undecided, terms, planned)
    last = looks[-1]
    seen = outcomes[0][: last.models], outcomes[1][: last.models]
    found = Difference(mean_difference(*seen), last.estimate, last.p)
    return _verdict(pair, seen, found, Decision(last.verdict, last.differs, level, level), terms, planned, looks)


def _verdict(
    pair: tuple[str, str],
    outcomes: tuple[Floats, Floats],
    found: Difference,
    decision: Decision,
    terms: Terms,
    planned: tuple[int, ...] = (),
    looks: tuple[Look, ...] = (),
) -> Verdict:
    """Put together what is told of a pair. Where no difference is shown, zero belongs to the interval."""
    estimate, word = found.estimate, decision.word
    interval = estimate.interval(1 - decision.level, terms.largest) if estimate else None
    if interval is not None and not decision.differs:
        interval = Interval(min(interval.low, 0.0), max(interval.high, 0.0))
    return Verdict(
        first=pair[0],
        second=pair[1],
        margin=terms.margin,
        models=(len(outcomes[0]), len(outcomes[1])),
        means=(float(outcomes[0].mean()), float(outcomes[1].mean())),
        difference=found.value,
        interval=interval,
        bound=terms.bound(*outcomes) if estimate is None else None,
        inner=estimate.interval(1 - 2 * decision.inner, terms.largest) if estimate else None,
        inner_percent=100 * (1 - 2 * decision.inner),
        p=found.p_permutation,
        p_holm=None,
        word=word,
        ahead=pair[0 if found.value * terms.better > 0 else 1] if decision.differs else None,
        pairs=terms.pairs,
        planned=planned,
        looks=looks,
        needs=_needed(outcomes, found.value, terms, planned, len(looks)) if word == "undecided" and estimate else (),
    )


def _needed(
    outcomes: tuple[Floats, Floats], value: float, terms: Terms, planned: tuple[int, ...], done: int
) -> tuple[Need, ...]:
    """The first of the looks that are left which will probably decide; where none is left, what studies would."""
    ours, others = map(components, outcomes)
    if ours is None or others is None:
        return ()
    width, shared = deciding_half_width(value, terms.margin), shared_variance(*outcomes)
    if done == len(planned):
        return tuple(needed(ours, others, width, shared, terms.alpha))
    count, level = outcomes[0].shape[1], terms.alpha / len(planned)
    blind = blind_looks(planned, terms.alpha)
    for look in planned[done:]:
        within = terms.margin - abs(value) if look in blind else width
        if expected_half_width(ours, others, look, count, shared, level) <= within:
            return (Need(look, count),)
    return ()


def letters_of(outcomes: Mapping[str, Floats], verdicts: Sequence[Verdict], better: int) -> dict[str, str]:
    """Return letters by method, the best first: two share one if no difference is shown, or one within the margin."""
    ordered = sorted(outcomes, key=lambda name: -better * float(outcomes[name].mean()))
    return letters(ordered, {(each.first, each.second) for each in verdicts if each.better is not None})
