"""Statistics: exact answers by hand, and that intervals cover as often as they say."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.bootstraps import (
    FEWEST,
    bootstrap,
    compare,
    holm,
    interquartile_mean,
    share_interval,
    sign_flip_test,
    stratified_interval,
    summarise,
)

rates = st.lists(st.integers(0, 100).map(lambda n: n / 100), min_size=2, max_size=12)


def names(values: list[float]) -> list[str]:
    return [f"seed {number}" for number in range(len(values))]


def test_summary_by_hand() -> None:
    values = [0.9, 0.1, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    found = summarise(values, names(values), +1)
    assert found.n == 8 and found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.sqrt(sum((v - found.mean) ** 2 for v in values) / 7))
    assert found.iqm == pytest.approx((0.4 + 0.5 + 0.6 + 0.7) / 4)
    assert found.best == ("seed 0", 0.9) and found.worst == ("seed 1", 0.1)
    assert summarise(values, names(values), -1).best == ("seed 1", 0.1)
    assert found.interval is not None and 0.1 <= found.interval.low < found.iqm < found.interval.high <= 0.9


def test_one_model_has_no_spread_and_few_have_no_interval() -> None:
    one = summarise([0.5], ["seed 0"], +1)
    assert one.std is None and one.interval is None and one.iqm == one.mean == 0.5
    few = [0.1 * n for n in range(FEWEST - 1)]
    assert summarise(few, names(few), +1).std is not None and summarise(few, names(few), +1).interval is None
    assert compare(few, few[::-1], +1).interval is None
    assert compare([0.5], [0.4], +1).p is None


def test_sign_flips_by_hand() -> None:
    first, second = np.arange(10) + 1.0, np.zeros(10)
    assert sign_flip_test(first, second) == pytest.approx(2 / 1024)  # only this assignment and its mirror
    assert sign_flip_test(second, second) == 1
    # differences 1, 2, -3: |sum| >= 0 always, so every flip is at least as extreme
    assert sign_flip_test(np.array([1.0, 2, -3]), np.zeros(3)) == pytest.approx(1)
    # differences 1, 2, 4: sums 7 and -7 of 8
    assert sign_flip_test(np.array([1.0, 2, 4]), np.zeros(3)) == pytest.approx(2 / 8)


def test_sign_flips_count_ties_as_ties() -> None:
    """Against integers: in tenths, floating point would decide on which side of the observed sum a tie falls."""
    random = np.random.default_rng(0)
    for _ in range(200):
        first, second = random.integers(0, 11, (2, random.integers(2, 10)))
        signs = np.array(list(itertools.product((-1, 1), repeat=len(first))))
        sums = signs @ (first - second)
        expected = (np.abs(sums) >= abs((first - second).sum())).mean()
        assert sign_flip_test(first / 10, second / 10) == pytest.approx(expected, abs=1e-12), (first, second)


def test_paired_episodes_by_hand() -> None:
    equal = stratified_interval(np.zeros((9, 20)), "x")
    assert (equal.low, equal.high) == (0, 0)  # nothing shown
    certain = stratified_interval(np.repeat([[1.0], [0.0], [-0.5]], 20, axis=1), "x")  # no chance within a condition
    assert certain.low == pytest.approx(1 / 6) == certain.high
    differences = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], (9, 400), p=[0.05, 0.85, 0.1])
    found, again = (stratified_interval(differences, "x") for _ in range(2))
    error = np.sqrt((differences.var(1) / 400).sum()) / 9  # of the mean of nine independent means
    assert found == again != stratified_interval(differences, "y")
    assert found.low == pytest.approx(differences.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(differences.mean() + 1.96 * error, abs=0.1 * error)


def test_paired_intervals_cover_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    samples = random.choice([-1.0, 0.0, 1.0], (100, 9, 20), p=[0.1, 0.7, 0.2])
    found = [stratified_interval(sample, "x") for sample in samples]
    covered = np.mean([each.low <= 0.1 <= each.high for each in found])
    assert 0.88 <= covered <= 0.99


def test_a_share_by_hand() -> None:
    # Wilson's interval of 9 in 10: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    z, n, p = 1.959964, 10, 0.9
    half, centre = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)), p + z**2 / (2 * n)
    found = share_interval(0.9, 10)
    assert found.low == pytest.approx((centre - half) / (1 + z**2 / n))
    assert found.high == pytest.approx((centre + half) / (1 + z**2 / n))
    assert share_interval(1.0, 100).high == 1 and share_interval(1.0, 100).low < 0.97


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1]) and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_properties(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(
        raw <= fixed <= min(1, raw * len(p_values)) + 1e-12 for raw, fixed in zip(p_values, adjusted, strict=True)
    )
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_probability_of_improvement_by_hand() -> None:
    found = compare([3, 1], [2, 1], +1)  # of 4 pairs: 3>2, 3>1, 1<2, 1=1
    assert found.improvement == pytest.approx(2.5 / 4) and found.mean == 0.5
    assert compare([3, 1], [2, 1], -1).improvement == pytest.approx(1.5 / 4)


@given(rates, rates)
def test_comparisons_are_antisymmetric(first: list[float], second: list[float]) -> None:
    n = min(len(first), len(second), 5)  # without bootstrap, for speed
    a, b = compare(first[:n], second[:n], +1), compare(second[:n], first[:n], +1)
    assert a.mean == pytest.approx(-b.mean) and a.p == pytest.approx(b.p)
    assert a.improvement == pytest.approx(1 - b.improvement)


@given(rates)
def test_iqm_is_within_the_sample(values: list[float]) -> None:
    assert min(values) - 1e-12 <= interquartile_mean(np.array(values)) <= max(values) + 1e-12


def test_bootstrap_repeats_and_degenerates_to_a_point() -> None:
    sample = np.random.default_rng(0).normal(size=10)
    assert bootstrap(lambda x: x.mean(-1), sample) == bootstrap(lambda x: x.mean(-1), sample)
    flat = bootstrap(lambda x: x.mean(-1), np.full(10, 0.25))
    assert flat is not None and (flat.low, flat.high) == (0.25, 0.25)


@pytest.mark.parametrize("n", [6, 10])
def test_intervals_of_means_cover_as_often_as_they_say(n: int) -> None:
    """Of 400 samples of n normal numbers, about 95% have 0 in their interval; an unwidened bootstrap has 88-90%."""
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        found = bootstrap(lambda x: x.mean(-1), generator.normal(size=n))
        assert found is not None
        covered += found.low <= 0 <= found.high
    assert 0.92 <= covered / 400 <= 0.985
