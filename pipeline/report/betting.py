"""Two policies on paired episodes, with a look after each pair: pure functions of arrays.

What they say may be looked at whenever one likes, and a comparison may stop at any time (Ville 1939; Robbins 1970): the
chance that a mean is ever left out of its confidence sequence, or that E of two equal policies ever reaches 1 / alpha,
is at most alpha. Both are about these two policies on episodes of this kind, not about their recipes.
"""

from dataclasses import dataclass, replace
from math import lgamma, log

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.report.statistics import ALPHA, Floats, Interval, Word

STEPS = 1000  # of the grid of means, from 0 to 1
LARGEST_STAKE = 0.5  # share of the capital that a single difference can cost


def log_evidence(wins: int, losses: int) -> float:
    """Return ln E, evidence that two policies are not equally good: E = 2^n W! L! / (n + 1)! of n = W + L pairs.

    Counted are the pairs of binary outcomes that differ: W for the first, L for the second. If each is as likely as the
    other, E reaches 1 / alpha, ever, with a chance of at most alpha. It is the likelihood ratio of a chance of winning
    that is uniform in [0, 1] against 1/2. Pairs from conditions in which the chances differ need blocks instead: one
    start in every condition.
    """
    n = wins + losses
    return n * log(2) + lgamma(wins + 1) + lgamma(losses + 1) - lgamma(n + 2)


@dataclass(frozen=True)
class Bets:
    """What is known of the mean of differences d in [-1, 1] after `count` of them, of one sequence or of many, `(...)`.

    Against each mean `means (M,)` two bettors play, on a larger and on a smaller one. A mean is left out as soon as
    either has turned 1 into 2 / ALPHA.
    """

    means: Floats  # (M,), ascending
    count: int
    total: Floats  # (...), sum of d
    spread: Floats  # (...), 1 + sum of (d - mean)^2, each with the mean that includes it
    up: Floats  # (..., M), log capital of who bets on a larger mean
    down: Floats  # (..., M), of who bets on a smaller one
    low: Floats  # (...), ends of the confidence sequence
    high: Floats

    @property
    def interval(self) -> Interval:
        """The confidence sequence of a single sequence, as it is now."""
        return Interval(float(self.low), float(self.high))


def first_bets(margin: float, steps: int = STEPS, shape: tuple[int, ...] = ()) -> Bets:
    """Return the state before the first difference, of sequences `shape`: several only in simulations.

    The grid of means has zero and +-margin.
    """
    half = np.union1d(np.arange(steps + 1) / steps, [margin])
    means = np.concatenate([-half[:0:-1], half])  # symmetric to the bit: first and second can be exchanged
    capital = np.zeros((*shape, len(means)))
    return Bets(
        means=means,
        count=0,
        total=np.zeros(shape),
        spread=np.ones(shape),
        up=capital,
        down=capital,
        low=-np.ones(shape),
        high=np.ones(shape),
    )


def bet(bets: Bets, difference: ArrayLike) -> Bets:
    """Take one more difference `(...)` in [-1, 1] of each sequence; raises `ValueError` for others.

    The hedged capital of Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", arXiv
    2010.09686, with predictable plug-in stakes, for x = (d + 1) / 2: their factors 1 +- l (x - m) are 1 +- s (d - mean)
    with s = l / 2, and their variance times t, scaled to d, is `spread`. A capital is monotone in the mean, so the
    means that are left out are those up to `low` and from `high` on.
    """
    d = np.asarray(difference, dtype=np.float64)
    if not (np.abs(d) <= 1).all():  # also NaN
        raise ValueError(f"expected differences in [-1, 1], found {d.min():g} to {d.max():g}")
    t = bets.count + 1
    stake = np.sqrt(2 * log(2 / ALPHA) / (bets.spread * log(1 + t)))[..., None]
    with np.errstate(divide="ignore"):  # at the ends -1 and 1: no bound on the stake
        stake_up = np.minimum(stake, LARGEST_STAKE / (1 + bets.means))
        stake_down = np.minimum(stake, LARGEST_STAKE / (1 - bets.means))
    above = d[..., None] - bets.means
    up, down = bets.up + np.log1p(stake_up * above), bets.down + np.log1p(-stake_down * above)
    total = bets.total + d
    target = log(2 / ALPHA)
    return replace(
        bets,
        count=t,
        total=total,
        spread=bets.spread + (d - total / (t + 1)) ** 2,
        up=up,
        down=down,
        low=np.maximum(bets.low, crossing(bets.means, up, target)),
        high=np.minimum(bets.high, -crossing(-bets.means[::-1], down[..., ::-1], target)),
    )


def crossing(means: Floats, capital: Floats, target: float) -> Floats:
    """Return where `capital (..., M)`, falling with `means (M,)`, is at `target`, linearly between two means: `(...)`.

    -1 where it is nowhere that large. What lies between two means of the fine grid is right to 1e-6; verdicts are about
    zero and +-margin, which are in it.
    """
    reached = (capital >= target).sum(-1)
    last = np.clip(reached - 1, 0, len(means) - 2)
    here, after = (np.take_along_axis(capital, (last + i)[..., None], -1)[..., 0] for i in (0, 1))
    share = np.clip((here - target) / np.where(here > after, here - after, 1), 0, 1)
    found: NDArray[np.float64] = means[last] + share * (means[last + 1] - means[last])
    return np.where(reached > 0, found, -1.0)


def decide(interval: Interval, margin: float) -> Word:
    """Judge the mean of first minus second, where more is better: as `statistics.verdict` does, equivalent first."""
    if -margin < interval.low and interval.high < margin:
        return "equivalent"
    if interval.low > 0 or interval.high < 0:
        return "better" if interval.low > 0 else "worse"
    return "undecided"
