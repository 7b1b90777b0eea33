"""The verdict on every two methods by one score, over models and episodes, and their letters."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from pipeline.report.letters import letters
from pipeline.report.looks import Look, blind_looks, judge_looks
from pipeline.report.planning import Need, needed, routes_of, spread_of
from pipeline.report.statistics import (
    ALPHA,
    Bound,
    Difference,
    Floats,
    Interval,
    Word,
    compare,
    difference_bound,
    equivalent,
    holm,
    holm_levels,
    mean_difference,
    word_of,
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
    word: Word  # of the first
    ahead: str | None  # the better one, if a difference is shown, however small
    pairs: int  # that are judged together
    paired: bool  # whether both have the same weights, and are compared model by model
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


@dataclass(frozen=True)
class Two:
    """Two groups and their outcomes, `(n, E)` and `(m, E)` on the same E episodes."""

    names: tuple[str, str]
    first: Floats
    second: Floats
    paired: bool  # whether number i of both is the same model, acting by another rule

    def up_to(self, models: int) -> "Two":
        """The first so many models of both."""
        return replace(self, first=self.first[:models], second=self.second[:models])


def judge_pairs(
    outcomes: Mapping[str, Floats],
    margin: float,
    better: int,
    looks: Sequence[int] = (),
    largest: float = math.inf,
    paired: Collection[tuple[str, str]] = (),
) -> list[Verdict]:
    """Judge every two methods by their outcomes, `(n, E)` each on the same E episodes.

    `better` is -1 where less is better. Differences are under Holm's procedure over the pairs; each pair has an equal
    share of ALPHA for equivalence and for its `looks`, numbers of models that were fixed in advance. `largest` is the
    largest difference that there can be: 1 of outcomes in [0, 1]. Of the pairs of names `paired` the models are the
    same.
    """
    pairs = [Two(each, outcomes[each[0]], outcomes[each[1]], each in paired) for each in combinations(outcomes, 2)]
    terms = Terms(margin, better, len(pairs), largest)
    if looks:
        return [_judge_looks(two, tuple(looks), terms) for two in pairs]
    found = [compare(two.first, two.second, two.paired) for two in pairs]
    ps = [each.estimate.p if each.estimate else 1.0 for each in found]
    return [
        _judge(two, each, p, level, terms)
        for two, each, p, level in zip(pairs, found, holm(ps), holm_levels(ps), strict=True)
    ]


@dataclass(frozen=True)
class Decision:
    """What is decided of a pair, and by which levels."""

    word: Word
    differs: bool  # whether a difference is shown
    level: float  # of the interval
    inner: float  # of each one-sided test of equivalence


def _judge(two: Two, found: Difference, p: float, level: float, terms: Terms) -> Verdict:
    """Judge a pair once, by Holm's procedure: `p` is corrected, `level` that of the interval."""
    differs = p < ALPHA
    close = found.estimate is not None and equivalent(found.estimate, terms.margin, terms.alpha)
    word = word_of(found.value * terms.better, differs, close)
    made = _verdict(two, found, Decision(word, differs, level, terms.alpha), terms)
    return replace(made, p_holm=p if found.estimate else None)


def _judge_looks(two: Two, planned: tuple[int, ...], terms: Terms) -> Verdict:
    """Judge a pair at its last look: word, interval and what would decide are of the models up to there."""
    looks = tuple(judge_looks(two.first, two.second, planned, terms.margin, terms.better, terms.alpha, two.paired))
    level = terms.alpha / len(planned)
    if not looks:
        undecided = Decision("undecided", False, level, level)
        return _verdict(two, compare(two.first, two.second, two.paired), undecided, terms, planned)
    last = looks[-1]
    seen = two.up_to(last.models)
    found = Difference(mean_difference(seen.first, seen.second), last.estimate, last.p)
    return _verdict(seen, found, Decision(last.verdict, last.differs, level, level), terms, planned, looks)


def _verdict(
    two: Two,
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
    undecided = word == "undecided" and estimate is not None
    return Verdict(
        first=two.names[0],
        second=two.names[1],
        margin=terms.margin,
        models=(len(two.first), len(two.second)),
        means=(float(two.first.mean()), float(two.second.mean())),
        difference=found.value,
        interval=interval,
        bound=terms.bound(two.first, two.second) if estimate is None else None,
        inner=estimate.interval(1 - 2 * decision.inner, terms.largest) if estimate else None,
        inner_percent=100 * (1 - 2 * decision.inner),
        p=found.p_permutation,
        p_holm=None,
        word=word,
        ahead=two.names[0 if found.value * terms.better > 0 else 1] if decision.differs else None,
        pairs=terms.pairs,
        paired=two.paired,
        planned=planned,
        looks=looks,
        needs=_needed(two, found.value, terms, decision, planned, len(looks)) if undecided else (),
    )


def _needed(
    two: Two, value: float, terms: Terms, decision: Decision, planned: tuple[int, ...], done: int
) -> tuple[Need, ...]:
    """The first of the looks that are left which will probably decide; where none is left, what studies would.

    The other pairs are taken to come out as they did: this one keeps its level.
    """
    spread = spread_of(two.first, two.second, two.paired)
    if spread is None:
        return ()
    routes = routes_of(value, terms.margin, decision.level, decision.inner)
    if done == len(planned):
        return tuple(needed(spread, routes))
    count, blind = two.first.shape[1], blind_looks(planned, terms.alpha, two.paired)
    for look in planned[done:]:
        ways = routes[1:] if look in blind else routes
        if any(spread.half_width(look, count, each.level) <= each.half_width for each in ways):
            return (Need(look, count),)
    return ()


def letters_of(outcomes: Mapping[str, Floats], verdicts: Sequence[Verdict], better: int) -> dict[str, str]:
    """Return letters by method, the best first: two share one if no difference is shown, or one within the margin."""
    ordered = sorted(outcomes, key=lambda name: -better * float(outcomes[name].mean()))
    return letters(ordered, {(each.first, each.second) for each in verdicts if each.better is not None})
