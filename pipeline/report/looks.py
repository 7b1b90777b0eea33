"""Looks at a comparison of two methods while models are still trained: a group-sequential permutation test.

The numbers of models at which one looks are fixed in advance, and so is how much of alpha is spent by each: alpha k / K
by look k of K (Lan and DeMets 1983, "Discrete sequential boundaries for clinical trials").

* better, worse: models are exchanged between the methods (of groups with the same weights, model by model: `paired`),
  within the models that came between two looks, so that every
  relabelling has the same number of models of each method at every look. At look k, a relabelling counts if it had
  stopped at an earlier look, or reaches the observed difference now. The methods differ if no more than alpha k / K
  count. If the methods are alike, the chance to be told at any look that they differ is at most alpha, whatever the
  distribution of the scores. This is so for the episodes at hand. That other episodes may differ is in the two-way
  interval of confidence 1 - alpha / K, which must leave out zero as well.
* equivalent: the two-way interval of confidence 1 - 2 alpha / K lies within the margin. If the true difference is not
  within it, the chance to be told so at any look is at most alpha: alpha / K at each.
* undecided: neither.

The interval of a look is the two-way one of confidence 1 - alpha / K: those of all looks hold at once with a chance of
at least 1 - alpha (a repeated confidence interval, Jennison and Turnbull 1989, by Bonferroni's inequality). Where the
permutation test does not tell that the methods differ, zero belongs to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from math import prod

import numpy as np

from pipeline.report.relabellings import (
    EXACT_UP_TO,
    count_relabellings,
    relabellings,
    sampled_relabellings,
    whole_steps,
)
from pipeline.report.statistics import (
    ALPHA,
    Estimate,
    Floats,
    Word,
    difference_estimate,
    equivalent,
    mean_difference,
    model_means,
    word_of,
)


@dataclass(frozen=True)
class Look:
    """What one look showed."""

    models: int  # of each method
    p: float  # share of the relabellings that stopped earlier or reach the observed difference
    spent: float  # of alpha by now: the methods differ if p is no more
    estimate: Estimate | None  # of first minus second
    differs: bool  # whether a difference is shown, however small
    verdict: Word


def judge_looks(
    first: Floats,
    second: Floats,
    looks: Sequence[int],
    margin: float,
    better: int,
    alpha: float = ALPHA,
    paired: bool = False,
) -> list[Look]:
    """Judge `first (n, E)` against `second (m, E)`, models in the order of their training, on the same E episodes.

    `looks` are all numbers of models a method at which one looks, rising; those that are not reached yet are left out
    of the answer. It ends with the first look that decides. `better` is -1 where less is better.
    """
    stages = tuple(int(size) for size in np.diff([0, *looks]))
    assert min(stages) > 0, f"looks rise from 1, found {list(looks)}"
    rows = stage_rows(stages, paired)
    stopped = np.zeros(len(rows[0]), dtype=bool)  # relabellings that differ at an earlier look
    found: list[Look] = []
    for number, models in enumerate(look for look in looks if look <= min(len(first), len(second))):
        ours, others = first[:models], second[:models]
        distance, room = _distances(model_means(ours), model_means(others), rows[: number + 1])
        still = np.sort(distance[~stopped])
        shares = (stopped.sum() + len(still) - np.searchsorted(still, distance - room)) / len(distance)
        spent = alpha * (number + 1) / len(looks)
        estimate = difference_estimate(ours, others, paired)
        differs = estimate is not None and bool(shares[0] <= spent) and estimate.p < alpha / len(looks)
        close = estimate is not None and equivalent(estimate, margin, alpha / len(looks))
        word = word_of(mean_difference(ours, others) * better, differs, close)
        found.append(Look(models, float(shares[0]), spent, estimate, differs, word))
        if word != "undecided":
            break
        stopped |= shares <= spent
    return found


def least_share(stages: Sequence[int], paired: bool = False) -> float:
    """Return the smallest p that there can be after these stages: that of the observed relabelling and its mirror."""
    return 2 / prod(count_relabellings(size, size, paired) for size in stages)


def blind_looks(looks: Sequence[int], alpha: float = ALPHA, paired: bool = False) -> tuple[int, ...]:
    """Return those of the `looks` at which no difference can be shown: no p is as small as what is spent by then."""
    stages = [int(size) for size in np.diff([0, *looks])]
    spent = [alpha * number / len(looks) for number in range(1, len(looks) + 1)]
    return tuple(look for n, look in enumerate(looks) if least_share(stages[: n + 1], paired) > spent[n])


def fewest_models(looks: int, alpha: float = ALPHA, paired: bool = False) -> int:
    """Return how many models of each method the first of so many looks needs to be able to show a difference."""
    return next(models for models in count(2) if least_share([models], paired) <= alpha / looks)


def _distances(first: Floats, second: Floats, rows: Sequence[Floats]) -> tuple[Floats, int]:
    """Return how far each relabelling's sum of the first method is from the expected, in steps, and what rounds off."""
    values = np.concatenate([first, second])
    whole = whole_steps(values)
    ends = np.cumsum([row.shape[1] // 2 for row in rows])
    ours, others = (np.split(part, ends[:-1]) for part in np.split(whole, 2))
    sums = sum(row @ np.concatenate(stage) for row, *stage in zip(rows, ours, others, strict=True))
    return np.abs(sums - whole.sum() / 2), 2 * len(values)


@lru_cache(maxsize=4)
def stage_rows(stages: tuple[int, ...], paired: bool) -> tuple[Floats, ...]:
    """Return rows `(R, 2 models of the stage)` for each stage; row r of all stages is one relabelling, 0 the observed.

    All relabellings, if there are no more than EXACT_UP_TO, else a random sample.
    """
    counts = [count_relabellings(size, size, paired) for size in stages]
    if prod(counts) > EXACT_UP_TO:
        return tuple(sampled_relabellings(size, size, paired, "stage", stage) for stage, size in enumerate(stages))
    index = np.indices(counts).reshape(len(stages), -1)
    return tuple(relabellings(size, size, paired)[chosen] for size, chosen in zip(stages, index, strict=True))
