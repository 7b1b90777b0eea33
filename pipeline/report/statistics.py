"""Statistics of models and episodes: pure functions of arrays.

`y (n, E)` are the outcomes of one score: n models of a method, each on the same E episodes of one condition. For the
mean over conditions the unit beside the model is the start, because conditions share their starts: `over_conditions`
averages `(n, C, S)` to `(n, S)` first. Numbers of whole models, as losses, are `(n,)`.

Models of two methods meet the same episodes and are else unrelated: models are not paired, episodes are. Two groups of
the same weights, which act by another rule, are: `paired` says so, and number i of both is the same model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from pipeline.report.relabellings import ROUNDING, permutation_test

Floats = NDArray[np.float64]
Word = Literal["better", "worse", "equivalent", "undecided"]

ALPHA = 0.05
FEW_MODELS = 6  # in a group with fewer, their number is too small for Satterthwaite's degrees of freedom
SMALLEST_P = 1e-12
FEWEST_DIFFERENT = 12  # episodes that differ from the most frequent outcome, for an interval (`too_equal`)


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float

    def within(self, low: float, high: float) -> "Interval":
        """Return the part of it in a range that the truth cannot leave: it holds the truth as often."""
        return Interval(max(self.low, low), min(self.high, high))


@dataclass(frozen=True)
class Bound(Interval):
    """What stands where no interval may be printed: a 95% interval for these models on new episodes, from a count."""

    episodes: int  # that are counted
    of: int
    counted: Literal["below 1", "above 0", "differ"]  # of any model; of two groups, whose outcomes differ

    @property
    def count(self) -> str:
        """The count in words."""
        return f"{self.episodes:,} of {self.of:,} {self.counted}"


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error and the degrees of freedom of that error."""

    value: float
    error: float
    df: float
    parts: tuple[tuple[float, int], ...] = ()  # of few models: the variances that add up, each with its own df

    def half_width(self, alpha: float) -> float:
        """Return half of the width of the interval of confidence 1 - alpha.

        Student's t with `df`; of few models the root of the sum of t^2 times each part, t with the part's own df. That
        holds the truth with a chance of at least 1 - alpha whatever the parts are (Banerjee 1960, "Approximate
        confidence interval for linear functions of means of k populations", Sankhya), which Satterthwaite's df do not
        where there is next to nothing to tell them from.
        """
        if not self.parts:
            return -float(special.stdtrit(self.df, alpha / 2)) * self.error
        return math.sqrt(sum(float(special.stdtrit(df, alpha / 2)) ** 2 * variance for variance, df in self.parts))

    def interval(self, confidence: float = 1 - ALPHA, largest: float = math.inf) -> Interval:
        """Return the interval, of a number in +-`largest`."""
        half = self.half_width(1 - confidence)
        return Interval(self.value - half, self.value + half).within(-largest, largest)

    @property
    def p(self) -> float:
        """The p-value of zero, two-sided: below 1 - confidence where the interval leaves zero out."""
        if not self.parts:
            return float(2 * special.stdtr(self.df, -abs(self.value) / self.error))
        low, high = SMALLEST_P, 1.0
        while high > low * (1 + 1e-9):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if self.half_width(middle) < abs(self.value) else (middle, high)
        return high


@dataclass(frozen=True)
class Components:
    """Variances of a single outcome: between models, between episodes, and the rest (both together, and chance)."""

    models: float
    episodes: float
    rest: float


@dataclass(frozen=True)
class Summary:
    """One number of a group of models."""

    n: int
    mean: float
    std: float | None  # over models, ddof=1; None of one model
    components: Components | None
    std_by_episodes: float | None  # the part of `std` that the draw of episodes alone explains
    interval: Interval | None  # 95%, of the mean, over models and episodes
    bound: Bound | None  # where no interval is printed, of the mean
    best: tuple[str, float]  # the model and its mean; the first if several are equal
    worst: tuple[str, float]


@dataclass(frozen=True)
class Difference:
    """The mean of one group minus that of another."""

    value: float
    estimate: Estimate | None
    p_permutation: float | None  # None where each group has one model


def over_conditions(y: Floats) -> Floats:
    """Average outcomes `(n, C, S)` of S starts in C conditions over the conditions: `(n, S)`."""
    mean: Floats = y.mean(1)
    return mean


def model_means(y: Floats) -> Floats:
    """Return each model's mean `(n,)` of `y (n, E)` or `(n,)`."""
    means: Floats = y.reshape(len(y), -1).mean(1)
    return means


def mean_difference(first: Floats, second: Floats) -> float:
    """Return the mean over the models of the first group, `(n, E)` or `(n,)`, minus that of the second."""
    return float(model_means(first).mean() - model_means(second).mean())


def group_estimate(y: Floats) -> Estimate | None:
    """Estimate the mean of `y (n, E)` or `(n,)` over other models and episodes; None where no interval may be printed.

    The variance is that of the models' means over n, and that of the episodes' means over E. It is that of the two-way
    layout from above: what model and episode have in common is counted twice (Owen 2007, "The pigeonhole bootstrap").
    """
    return _estimate(float(y.mean()), [y], y.mean(0) if y.ndim > 1 else None, _unit(y))


def difference_estimate(first: Floats, second: Floats, paired: bool = False) -> Estimate | None:
    """Estimate the difference of two groups' means, `(n, E)` and `(m, E)` on the same E episodes, or `(n,)` and `(m,)`.

    The variance is the sum of those of both groups' models, of `paired` ones that of their differences, and of that of
    the episodes' differences. None where no interval may be printed.
    """
    assert first.shape[1:] == second.shape[1:], f"the same episodes, found {first.shape} and {second.shape}"
    differences = first.mean(0) - second.mean(0) if first.ndim > 1 else None
    groups = [first - second] if paired else [first, second]
    return _estimate(float(first.mean() - second.mean()), groups, differences, _unit(first, second))


def _unit(*groups: Floats) -> float:
    """The numbers that differ by less are equal."""
    return ROUNDING * max(float(np.abs(model_means(group)).max()) for group in groups)


def _estimate(value: float, groups: list[Floats], episodes: Floats | None, unit: float) -> Estimate | None:
    """Add up the variances of the models of each group and of `episodes (E,)`; df after Satterthwaite (1946)."""
    samples = [model_means(group) for group in groups]
    if min(map(len, groups)) < 2 or (episodes is not None and too_equal(episodes, unit)):
        return None
    samples += [] if episodes is None else [episodes]
    parts = np.array([sample.var(ddof=1) / len(sample) for sample in samples])
    if parts.sum() <= unit**2:
        return None
    df = parts.sum() ** 2 / (parts**2 / [len(sample) - 1 for sample in samples]).sum()
    few = min(map(len, groups)) < FEW_MODELS
    own = tuple((float(part), len(sample) - 1) for part, sample in zip(parts, samples, strict=True)) if few else ()
    return Estimate(value, float(np.sqrt(parts.sum())), float(df), own)


def too_equal(episodes: Floats, unit: float) -> bool:
    """Return whether the numbers `(E,)`, in steps of `unit`, are too near a floor or ceiling for an interval.

    They are if most are the same and the rest weigh less than FEWEST_DIFFERENT episodes that differ alike. The weight
    is Kish's: (sum d)^2 / sum d^2, of the distances d from the most frequent number. A few episodes that fail are the
    whole variance, and do not tell it.

    Found by simulation: success, 1 to 25 failures a model in 100 or 900 episodes, 6 and 20 models, groups and
    differences, episodes that are hard for all models alike (correlations of 0.5 to 0.98). Wherever a fifth of the
    repetitions prints an interval, it holds the truth in 93% of these; with 3 instead of 12 in 81% at the worst, and a
    plain count of episodes that differ would have to be twice as large. What no rule can see: models or episodes that
    are rare and far from all others, and outcomes as skewed as exp(z), z normal, of fewer than some 50 episodes.
    """
    steps = np.rint(episodes / unit) if unit > 0 else episodes
    values, counts = np.unique(steps, return_counts=True)
    if 2 * counts.max() <= len(steps):
        return False
    distances = np.abs(steps - values[counts.argmax()])
    shares = distances / (distances.max() or 1.0)
    return bool(shares.sum() ** 2 < FEWEST_DIFFERENT * (shares**2).sum() or not shares.any())


def summarise(y: Floats, names: Sequence[str], better: int, share: bool = False) -> Summary:
    """Summarise `y (n, E)` or `(n,)`, n >= 1, of the models `names`.

    `better` is -1 where less is better. `share` says that outcomes lie in [0, 1] by their definition: then so does the
    interval, and there is a bound where none may be printed.
    """
    means = model_means(y)
    order = np.argsort(-means if better >= 0 else means, kind="stable")
    estimate, parts = group_estimate(y), components(y)
    interval = estimate.interval() if estimate else None
    return Summary(
        n=len(means),
        mean=float(means.mean()),
        std=float(means.std(ddof=1)) if len(means) > 1 else None,
        components=parts,
        std_by_episodes=(parts.rest / y.shape[1]) ** 0.5 if parts else None,
        interval=interval.within(0, 1) if interval and share else interval,
        bound=share_bound(y) if share and estimate is None and y.ndim > 1 else None,
        best=(names[order[0]], float(means[order[0]])),
        worst=(names[order[-1]], float(means[order[-1]])),
    )


def outlier(values: Sequence[float]) -> int | None:
    """Return which of the values is too far from the others for a normal distribution, by Grubbs' test (1950) at 1%."""
    x, n = np.array(values), len(values)
    if n < 3 or (spread := float(x.std(ddof=1))) <= ROUNDING * float(np.abs(x).max()):
        return None
    t = float(special.stdtrit(n - 2, 0.01 / (2 * n))) ** 2
    far = int(np.abs(x - x.mean()).argmax())
    return far if abs(x[far] - x.mean()) / spread > (n - 1) / math.sqrt(n) * math.sqrt(t / (n - 2 + t)) else None


def compare(first: Floats, second: Floats, paired: bool = False) -> Difference:
    """Compare two groups, `(n, E)` and `(m, E)` on the same E episodes, or `(n,)` and `(m,)`."""
    several = len(first) + len(second) > 2
    return Difference(
        value=mean_difference(first, second),
        estimate=difference_estimate(first, second, paired),
        p_permutation=permutation_test(model_means(first), model_means(second), paired) if several else None,
    )


def components(y: Floats) -> Components | None:
    """Estimate the variances behind `y (n, E)` from the mean squares of its two-way layout, none below 0.

    None of one model, one episode, or numbers without episodes.
    """
    if y.ndim < 2 or min(y.shape) < 2:
        return None
    n, count = y.shape
    models, episodes = y.mean(1), y.mean(0)
    residual = y - models[:, None] - episodes + y.mean()
    rest = float((residual**2).sum() / ((n - 1) * (count - 1)))
    return Components(
        models=max(0.0, float(models.var(ddof=1)) - rest / count),
        episodes=max(0.0, float(episodes.var(ddof=1)) - rest / n),
        rest=rest,
    )


@cache  # a report asks the same again and again, and the search for the ends takes a millisecond
def exact_bound(failures: int, count: int) -> Interval:
    """Return the 95% interval of Clopper and Pearson (1934) of a share of which `failures` of `count` were seen."""
    found = stats.binomtest(failures, count).proportion_ci(1 - ALPHA, method="exact")
    return Interval(float(found.low), float(found.high))


def share_bound(y: Floats) -> Bound | None:
    """Bound the mean of outcomes `y (n, E)` in [0, 1] for these models on new episodes.

    Counted are episodes, not outcomes: an episode may be hard for all models. An episode in which any model fails
    counts: the chance of one has an exact interval, and the mean lies between all and one of n models failing in it. A
    group near 0 is bounded in the same way. Where outcomes are not 0 or 1, one below 1 is taken as 0; there it is None
    where more than a tenth of the episodes count, for such a bound says little.
    """
    n, count = y.shape
    failed, done = int((y < 1).any(0).sum()), int((y > 0).any(0).sum())
    binary = bool(np.isin(y, (0, 1)).all())
    if not binary and 10 * min(failed, done) > count:
        return None
    chance = exact_bound(min(failed, done), count)
    most, least = chance.high, chance.low / n if binary else 0.0
    if failed <= done:
        return Bound(1 - most, 1 - least, failed, count, "below 1")
    return Bound(least, most, done, count, "above 0")


def difference_bound(first: Floats, second: Floats) -> Bound | None:
    """Bound the difference of the means of two groups, `(n, E)` and `(m, E)` in [0, 1], where no interval is printed.

    It is for these models on new episodes, and zero is always in it: in an episode in which all models come out alike
    the groups do not differ, in another one by at most 1, and the chance of such a one has an exact interval. None
    where more than a tenth of the episodes are such, as in `share_bound`.
    """
    together = np.concatenate([first, second])
    differ, count = int((together != together[0]).any(0).sum()), together.shape[1]
    if 10 * differ > count:
        return None
    most = exact_bound(differ, count).high
    return Bound(-most, most, differ, count, "differ")


def holm(p_values: Sequence[float]) -> list[float]:
    """Apply Holm's correction (1979) to m p-values: the probability of any false positive stays at the level."""
    order = np.argsort(p_values)
    m = len(p_values)
    stepped = np.maximum.accumulate([(m - rank) * p_values[index] for rank, index in enumerate(order)])
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(1, stepped)
    return [float(p) for p in adjusted]


def holm_levels(p_values: Sequence[float]) -> list[float]:
    """Return the level of the interval to print for each of m cells, so that it agrees with Holm's verdict at ALPHA.

    An interval of confidence 1 - level leaves zero out if and only if Holm rejects. A rejected cell of rank k, from 0,
    has level ALPHA / (m - k), the others ALPHA / (m - k0), with k0 the first rank that is not rejected. The chance of
    any false difference is ALPHA; the intervals of rejected cells do not hold all at once.
    """
    m = len(p_values)
    adjusted = holm(p_values)
    rejected = sum(p < ALPHA for p in adjusted)
    levels = np.empty(m)
    for rank, index in enumerate(np.argsort(p_values)):
        levels[index] = ALPHA / (m - min(rank, rejected))
    return [float(level) for level in levels]


def verdict(estimate: Estimate | None, margin: float, better: int) -> Word:
    """Judge a difference, first minus second, by itself; `better` is -1 where less is better.

    A difference is shown if the 95% interval is on one side of zero. Without an estimate nothing is decided.
    """
    if estimate is None:
        return "undecided"
    return word_of(estimate.value * better, estimate.p < ALPHA, equivalent(estimate, margin))


def word_of(gain: float, differs: bool, close: bool) -> Word:
    """Return the verdict on a group by its gain over another, whether a difference is shown, and whether a small one.

    A difference can be certain and still too small to matter.
    """
    if close:
        return "equivalent"
    if differs:
        return "better" if gain > 0 else "worse"
    return "undecided"


def equivalent(estimate: Estimate, margin: float, alpha: float = ALPHA) -> bool:
    """Return whether the interval of confidence 1 - 2 alpha is within +-margin.

    These are two one-sided tests at alpha (Schuirmann 1987): of a difference of the margin or more, either way, it is
    said with a chance of at most alpha.
    """
    close = estimate.interval(1 - 2 * alpha)
    return -margin < close.low and close.high < margin
