"""Statistics over training seeds. A sample `(n,)` has one number per model: episodes are never pooled.

Intervals are 95% percentile bootstrap intervals over models, with the percentiles widened for small samples as in
Hesterberg 2015, "What Teachers Should Know About the Bootstrap" (for means they are then about as wide as Student's t
interval). IQM, stratified bootstrap and probability of improvement follow Agarwal et al. 2021, arXiv 2108.13264. The
strata here are the methods, and a model is drawn with all its conditions, because one training gives them all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.report.statistics import Interval, holm
from pipeline.streams import numpy_stream

__all__ = ["Interval", "holm"]  # until nothing imports this file any more

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 10_000
PIECE = 4_000_000  # numbers at once
FEWEST = 6  # models for an interval: the range of n samples covers the median with probability 1 - 2^(1-n), here 97%
EXACT_UP_TO = 13  # models: all 2^13 sign flips are tried; for more models they are sampled
ROUNDING = 1e-12  # relative to a sample's size: sums that differ by less are equal


@dataclass(frozen=True)
class Summary:
    """One number of a group of models: no std of one model, no interval of fewer than FEWEST."""

    n: int
    mean: float
    std: float | None  # ddof=1
    iqm: float  # the mean without the lowest and highest floor(n / 4) models
    interval: Interval | None  # of the IQM
    best: tuple[str, float]  # the model and its number; the first if several are equal
    worst: tuple[str, float]


@dataclass(frozen=True)
class Difference:
    """One group minus another, paired by seed."""

    n: int
    mean: float
    interval: Interval | None  # of the mean
    p: float | None  # sign-flip test of no difference, two-sided
    improvement: float  # P(a model of the first is better than one of the second); ties count half
    improvement_interval: Interval | None


def summarise(values: Sequence[float], names: Sequence[str], better: int) -> Summary:
    """Summarise a sample `(n,)`, n >= 1, of the models `names`; `better` is -1 where less is better."""
    sample = np.array(values, dtype=np.float64)
    order = np.argsort(-sample if better >= 0 else sample, kind="stable")
    return Summary(
        n=len(sample),
        mean=float(sample.mean()),
        std=float(sample.std(ddof=1)) if len(sample) > 1 else None,
        iqm=float(interquartile_mean(sample)),
        interval=bootstrap(interquartile_mean, sample),
        best=(names[order[0]], float(sample[order[0]])),
        worst=(names[order[-1]], float(sample[order[-1]])),
    )


def compare(first: Sequence[float], second: Sequence[float], better: int) -> Difference:
    """Compare samples `(n,)` of two groups whose i-th models share a seed and the episodes of the evaluation."""
    a, b = np.array(first, dtype=np.float64), np.array(second, dtype=np.float64)
    sign = -1 if better < 0 else 1

    def improvement(x: Floats, y: Floats) -> Floats:
        above = sign * (x[..., :, None] - y[..., None, :])
        wins: Floats = ((above > 0) + 0.5 * (above == 0)).mean((-2, -1))
        return wins

    return Difference(
        n=len(a),
        mean=float((a - b).mean()),
        interval=bootstrap(lambda sample: sample.mean(-1), a - b),
        p=sign_flip_test(a, b) if len(a) > 1 else None,
        improvement=float(improvement(a, b)),
        improvement_interval=bootstrap(improvement, a, b),
    )


def stratified_interval(differences: Floats, stream: str) -> Interval:
    """Return the 95% percentile bootstrap interval of the mean of `differences (conditions, n)`, n episodes each.

    It is for two single models that met the same episodes: the unit is the episode, and the interval does not cover
    other trainings by the same recipe. Episodes are resampled within each condition, by the random stream `stream`.
    """
    count = differences.shape[1]
    means = np.zeros(RESAMPLES)
    for number, sample in enumerate(differences):
        random = numpy_stream(0, "stratified", stream, number)
        for part in np.array_split(np.arange(RESAMPLES), -(-RESAMPLES * count // PIECE)):
            means[part] += sample[random.integers(0, count, (len(part), count))].mean(1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means / len(differences), [tail, 1 - tail])
    return Interval(float(low), float(high))


def share_interval(share: float, count: int) -> Interval:
    """Return Wilson's 95% interval (1927) of a share of `count` independent episodes."""
    found = stats.binomtest(round(share * count), count).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(found.low), float(found.high))


def interquartile_mean(values: Floats) -> Floats:
    """Return the mean without the lowest and highest floor(n / 4) along the last axis: `(..., n) -> (...)`."""
    mean: Floats = stats.trim_mean(values, 0.25, axis=-1)
    return mean


def bootstrap(statistic: Callable[..., Any], *samples: Floats) -> Interval | None:
    """Return the interval of `statistic(samples (..., n) each) -> (...)`, with each sample resampled separately."""
    n = min(map(len, samples))
    if n < FEWEST:
        return None
    drawn = []
    for number, sample in enumerate(samples):
        chosen = numpy_stream(0, "bootstrap", number).integers(0, len(sample), (RESAMPLES, len(sample)))
        drawn.append(sample[chosen])
    pieces = -(-RESAMPLES * n * n // PIECE)  # a statistic may need n * n numbers per resample
    values = [statistic(*parts) for parts in zip(*(np.array_split(sample, pieces) for sample in drawn), strict=True)]
    tail = stats.norm.cdf(np.sqrt(n / (n - 1)) * stats.t.ppf((1 - CONFIDENCE) / 2, n - 1))
    low, high = np.quantile(np.concatenate(values), [tail, 1 - tail])
    return Interval(float(low), float(high))


def sign_flip_test(first: Floats, second: Floats) -> float:
    """Return the two-sided p-value of paired samples `(n,)` under random exchange within each pair.

    Samples are shares and means of shares, so many flips give exactly the observed sum, and rounding must not decide
    such ties. It changes sums by about 1e-16 of the sample's size, while shares of a million episodes, more than any
    here, differ by 1e-6.
    """
    size = np.abs(first).sum() + np.abs(second).sum()
    if size == 0:
        return 1.0
    observed = (first - second).sum()
    found = stats.permutation_test(
        (first, second),
        lambda x, y, axis: np.rint(((x - y).sum(axis=axis) - observed) / (ROUNDING * size)),
        permutation_type="samples",
        n_resamples=2**EXACT_UP_TO,
        rng=numpy_stream(0, "sign flips"),
    )
    return float(found.pvalue)
