"""The permutation test of two methods, and the ways in which their models can be exchanged."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from pipeline.streams import numpy_stream

Floats = NDArray[np.float64]
EXACT_UP_TO = 184_756  # relabellings that are all tried: those of 10 and 10 models
SAMPLED = 100_000  # relabellings, where there are more
BLOCK = 10_000  # random relabellings that are made at a time
MOST_KEPT = 2**24  # numbers of the random relabellings that are kept for the next test, 128 MiB
ROUNDING = 1e-12  # of the largest mean: numbers that differ by less are equal; shares of a million steps differ by 1e-6


def permutation_test(first_means: Floats, second_means: Floats, paired: bool = False) -> float:
    """Return the two-sided p-value of the difference of means `(n,)` and `(m,)` under exchange of models.

    All ways to choose n of the n + m models are tried if there are no more than EXACT_UP_TO, else SAMPLED random ones
    besides the observed. Where number i of both groups is the same model, `paired`, the two of a pair are exchanged or
    not: 2^n ways. Sums are compared as integers in units of ROUNDING, with the room that rounding n + m numbers needs,
    so that ties are ties. (`scipy.stats.permutation_test` takes seconds for 10 and 10 models, and a report has hundreds
    of tests.)
    """
    n, m = len(first_means), len(second_means)
    whole = whole_steps(np.concatenate([first_means, second_means]))
    # the sum of the first group, less n times the mean of all, is the difference of means times n m / (n + m)
    found = np.abs(relabelled_sums(n, m, whole, paired) - n * whole.mean())
    reached: float = (found >= found[0] - 2 * (n + m)).mean()
    return float(reached)


def whole_steps(values: Floats) -> Floats:
    """Return numbers less their mean, rounded to whole steps of ROUNDING times the largest."""
    centred = values - values.mean()
    unit = ROUNDING * float(np.abs(values).max())
    whole: Floats = np.rint(centred / unit) if unit > 0 else centred
    return whole


def count_relabellings(n: int, m: int, paired: bool) -> int:
    """Return in how many ways the models of two groups can be exchanged."""
    return 2**n if paired else comb(n + m, n)


def relabelled_sums(n: int, m: int, values: Floats, paired: bool) -> Floats:
    """Return the sum of the first group's values `(n + m,)` under each relabelling, the observed one first."""
    if count_relabellings(n, m, paired) <= EXACT_UP_TO or SAMPLED * (n + m) <= MOST_KEPT:
        return relabellings(n, m, paired) @ values
    return np.concatenate([rows @ values for rows in _sampled(n, m, paired)])


@lru_cache(maxsize=4)
def relabellings(n: int, m: int, paired: bool) -> Floats:
    """Return rows `(R, n + m)` of n ones, where the first group's models are, and m zeros; the observed row is first.

    All rows, if there are no more than EXACT_UP_TO, else `sampled_relabellings`.
    """
    if count_relabellings(n, m, paired) > EXACT_UP_TO:
        return sampled_relabellings(n, m, paired)
    if paired:
        return _exchanged((np.arange(2**n)[:, None] >> np.arange(n)) % 2 == 1)
    return _rows(np.array(list(combinations(range(n + m), n))), n + m)


def sampled_relabellings(n: int, m: int, paired: bool, *stream: str | int) -> Floats:
    """Return the observed row and SAMPLED random ones, each stream others."""
    rows = np.concatenate(list(_sampled(n, m, paired, *stream)))
    rows.setflags(write=False)
    return rows


def _sampled(n: int, m: int, paired: bool, *stream: str | int) -> Iterator[Floats]:
    """The observed row, then blocks of random ones."""
    generator = numpy_stream(0, "relabellings", n, m, *stream)
    yield _rows(np.arange(n)[None], n + m)
    for begin in range(0, SAMPLED, BLOCK):
        count = min(BLOCK, SAMPLED - begin)
        if paired:
            yield _exchanged(generator.random((count, n)) < 0.5)
        else:
            yield _rows(generator.random((count, n + m)).argsort(axis=1)[:, :n], n + m)


def _exchanged(which: NDArray[np.bool_]) -> Floats:
    """Rows `(R, 2n)` in which the pairs `which (R, n)` are exchanged."""
    rows = np.concatenate([~which, which], axis=1).astype(np.float64)
    rows.setflags(write=False)
    return rows


def _rows(chosen: NDArray[np.int64], length: int) -> Floats:
    rows = np.zeros((len(chosen), length))
    np.put_along_axis(rows, chosen, 1, axis=1)
    rows.setflags(write=False)
    return rows
