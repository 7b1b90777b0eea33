"""Statistics of models and episodes: exact answers by hand, properties, and how often intervals hold the truth."""

import itertools
import json
import math
from fractions import Fraction
from string import ascii_letters

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from benchmarks.coverage import BEYOND, OUTCOMES, RARE, RESULTS, Cell, Outcome, simulate
from pipeline.report.letters import letters
from pipeline.report.looks import blind_looks, fewest_models, judge_looks, least_share
from pipeline.report.planning import POWER, Need, Route, Spread, needed, routes_of, spread_of
from pipeline.report.relabellings import permutation_test
from pipeline.report.statistics import (
    FEWEST_DIFFERENT,
    Components,
    Estimate,
    Floats,
    Interval,
    compare,
    components,
    difference_bound,
    difference_estimate,
    exact_bound,
    group_estimate,
    holm,
    holm_levels,
    over_conditions,
    share_bound,
    summarise,
    verdict,
)
from pipeline.report.verdicts import judge_pairs
from pipeline.report.words import verdict_numbers

seeds = st.integers(0, 2**32 - 1)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=9)


def drawn(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def ceiling(n: int, episodes: int, *failing: int) -> Floats:
    """Outcomes of which the last model fails in these episodes."""
    y = np.ones((n, episodes))
    y[-1, list(failing)] = 0
    return y


# The estimate and its interval


def test_the_interval_of_a_group_by_hand() -> None:
    y = np.add.outer([0.0, 2.0], np.arange(12.0))  # models' means 5.5, 7.5; episodes' means 1 .. 12
    found = group_estimate(y)
    models, episodes = 2 / 2, 13 / 12  # variances 2 and n (n + 1) / 12 = 13 of two models and twelve episodes
    assert found is not None and found.value == 6.5
    assert found.error == pytest.approx(np.sqrt(models + episodes))
    assert found.df == pytest.approx((models + episodes) ** 2 / (models**2 / 1 + episodes**2 / 11))
    half = np.sqrt(stats.t.ppf(0.975, 1) ** 2 * models + stats.t.ppf(0.975, 11) ** 2 * episodes)
    assert found.interval().low == pytest.approx(6.5 - half) and found.interval().high == pytest.approx(6.5 + half)
    more = group_estimate(np.tile(y, (3, 1)))
    assert more is not None and more.interval(0.9).high == pytest.approx(6.5 + stats.t.ppf(0.95, more.df) * more.error)


def test_the_interval_of_a_difference_by_hand() -> None:
    episodes = np.arange(12.0)
    first, second = np.add.outer([1.0, 3.0], episodes), np.add.outer([0.0, 1.0, 2.0], 3 * episodes)
    found = difference_estimate(first, second)
    parts = np.array([2 / 2, 1 / 3, 4 * 13 / 12])  # the episodes' differences are 1 - 2 e
    assert found is not None and found.value == pytest.approx(7.5 - 17.5)
    assert found.error == pytest.approx(np.sqrt(parts.sum()))
    assert found.df == pytest.approx(parts.sum() ** 2 / (parts**2 / [1, 2, 11]).sum())
    assert found.half_width(found.p) == pytest.approx(10)
    more = difference_estimate(np.tile(first, (3, 1)), np.tile(second, (2, 1)))
    assert more is not None and more.p == pytest.approx(2 * stats.t.sf(10 / more.error, more.df))


def test_numbers_of_whole_models_have_welchs_interval() -> None:
    first, second = drawn(1, 7), drawn(2, 6) + 1
    found, welch = difference_estimate(first, second), stats.ttest_ind(first, second, equal_var=False)
    assert found is not None and found.p == pytest.approx(welch.pvalue) and found.df == pytest.approx(welch.df)
    assert found.interval().low == pytest.approx(welch.confidence_interval().low)
    alone, student = group_estimate(first), stats.ttest_1samp(first, 0)
    assert alone is not None and alone.interval().high == pytest.approx(student.confidence_interval().high)


@given(seeds, st.floats(-100, 100), st.floats(0.1, 100))
def test_an_interval_moves_with_its_outcomes(seed: int, shift: float, scale: float) -> None:
    first, second = drawn(seed, 3, 20), drawn(seed + 1, 4, 20)
    for before, after, moved in (
        (group_estimate(first), group_estimate(scale * first + shift), shift),
        (difference_estimate(first, second), difference_estimate(scale * first + shift, scale * second + shift), 0),
    ):
        assert before is not None and after is not None
        assert after.interval().low == pytest.approx(scale * before.interval().low + moved, rel=1e-6, abs=1e-6)
        assert after.interval().high == pytest.approx(scale * before.interval().high + moved, rel=1e-6, abs=1e-6)


@given(seeds)
def test_the_order_of_models_and_episodes_does_not_matter(seed: int) -> None:
    first, second, chance = drawn(seed, 3, 20), drawn(seed + 1, 4, 20), np.random.default_rng(seed)
    episodes = chance.permutation(20)
    one, other = compare(first, second), compare(chance.permutation(first)[:, episodes], second[::-1][:, episodes])
    assert one.estimate is not None and other.estimate is not None
    assert other.estimate.interval().low == pytest.approx(one.estimate.interval().low)
    assert other.estimate.df == pytest.approx(one.estimate.df) and other.p_permutation == one.p_permutation
    apart = difference_estimate(first, second[:, episodes])  # pairs of episodes do matter
    assert apart is not None and apart.error != pytest.approx(one.estimate.error, rel=1e-9)


@given(seeds)
def test_groups_swapped_swap_the_sign(seed: int) -> None:
    first, second = drawn(seed, 3, 20), drawn(seed + 1, 4, 20)
    one, other = compare(first, second), compare(second, first)
    assert one.estimate is not None and other.estimate is not None
    assert one.value == pytest.approx(-other.value) and one.p_permutation == other.p_permutation
    assert one.estimate.interval().low == pytest.approx(-other.estimate.interval().high)
    verdicts = {verdict(one.estimate, 0.1, +1), verdict(other.estimate, 0.1, +1)}
    assert verdicts in ({"better", "worse"}, {"undecided"}, {"equivalent"})
    assert verdict(one.estimate, 0.1, -1) == verdict(other.estimate, 0.1, +1)


def test_a_mean_over_conditions_takes_starts_as_the_unit() -> None:
    starts = drawn(0, 12)
    y = np.broadcast_to(starts, (2, 3, 12)) + np.array([0, 1])[:, None, None]  # hard starts are hard in all conditions
    found = group_estimate(over_conditions(y))
    assert found is not None and found.error == pytest.approx(np.sqrt(0.5 / 2 + starts.var(ddof=1) / 12))


# Where no interval may be printed


def test_no_interval_where_it_would_be_invented() -> None:
    enough = range(FEWEST_DIFFERENT)
    assert group_estimate(drawn(0, 1, 50)) is None and difference_estimate(drawn(0, 1, 50), drawn(1, 9, 50)) is None
    assert group_estimate(np.full((6, 50), 0.1 + 0.2)) is None and group_estimate(np.full(6, 0.3)) is None
    same = drawn(0, 6, 50).round(1)
    assert difference_estimate(same, same[::-1]) is None  # each episode's means are equal, up to rounding
    for y in (ceiling(6, 100, *enough), 1 - ceiling(6, 100, *enough), 8 / 9 * ceiling(6, 100, *enough)):
        assert group_estimate(y) is not None
        fewer = y.copy()
        fewer[:, FEWEST_DIFFERENT - 1] = y[:, -1]
        assert group_estimate(fewer) is None and difference_estimate(fewer, y[:, ::-1] * 0 + y[0, 0]) is None


def test_a_summary_by_hand() -> None:
    y = np.add.outer([0.5, 0.1, 0.3], np.linspace(-0.1, 0.1, 21))
    found = summarise(y, ["a", "b", "c"], +1)
    assert (found.n, found.best[0], found.worst[0]) == (3, "a", "b")
    assert found.mean == pytest.approx(0.3) and found.std == pytest.approx(0.2)
    assert found.std_by_episodes == pytest.approx(0, abs=1e-9)  # all models find the same episodes hard
    alone = summarise(drawn(0, 40, 500), [""] * 40, +1)  # models that are alike: all of it is by episodes
    assert alone.std_by_episodes == pytest.approx(500**-0.5, rel=0.05) == pytest.approx(alone.std, rel=0.3)
    estimate = group_estimate(y)
    assert estimate is not None and found.interval == estimate.interval() and found.bound is None
    assert summarise(y, ["a", "b", "c"], -1).best[0] == "b"
    one = summarise(y[:1], ["a"], +1)
    assert one.std is one.interval is one.components is one.bound is None
    equal = summarise(np.ones((3, 21)), ["a", "b", "c"], +1, share=True)
    assert equal.best[0] == "a" and equal.worst[0] == "c" and equal.interval is None and equal.bound is not None
    assert summarise(np.ones((3, 21)), ["a", "b", "c"], +1).bound is None  # a length of 1 is no share
    assert summarise(np.array([3.0, 5.0]), ["a", "b"], -1).best == ("a", 3.0)  # whole models


def test_intervals_of_few_models_end_where_the_truth_must() -> None:
    few, other = np.array([[0.9, 1.0] * 20, [0.5, 0.8] * 20]), np.array([[0.1, 0.0] * 20, [0.0, 0.6] * 20])
    wide = group_estimate(few)
    assert wide is not None and (wide.interval().low < 0, wide.interval().high > 1) == (True, True)
    assert summarise(few, ["a", "b"], +1, share=True).interval == Interval(0, 1)
    assert summarise(few, ["a", "b"], +1).interval == wide.interval()  # of a score without bounds
    for largest in (1.0, math.inf):
        (pair,) = judge_pairs({"a": few, "b": other}, 0.01, +1, largest=largest)
        estimate = difference_estimate(few, other)
        assert (
            estimate is not None and estimate.interval().high > 1 and pair.interval == estimate.interval(0.95, largest)
        )
        assert pair.interval.high == min(estimate.interval().high, largest) and pair.word == "undecided"


def test_of_few_models_each_variance_has_its_own_degrees_of_freedom() -> None:
    """Banerjee's interval: of models alone Student's t, of episodes alone as well, and in between the root of a sum."""
    estimate = group_estimate(drawn(0, 3, 40) + drawn(1, 3, 1))
    assert estimate is not None and [df for _, df in estimate.parts] == [2, 39]
    (models, _), (episodes, _) = estimate.parts
    half = np.sqrt(stats.t.ppf(0.975, 2) ** 2 * models + stats.t.ppf(0.975, 39) ** 2 * episodes)
    assert estimate.half_width(0.05) == pytest.approx(half) and estimate.error**2 == pytest.approx(models + episodes)
    assert estimate.half_width(estimate.p) == pytest.approx(abs(estimate.value))
    one = group_estimate(np.array([1.0, 2.0, 4.0]))
    assert one is not None and one.p == pytest.approx(stats.ttest_1samp([1.0, 2.0, 4.0], 0).pvalue)
    six = group_estimate(drawn(0, 6, 40))
    assert six is not None and six.parts == ()


def test_exact_bounds() -> None:
    assert exact_bound(0, 100).low == 0 and exact_bound(0, 100).high == pytest.approx(1 - 0.025 ** (1 / 100))
    for failures, count in itertools.product((1, 3, 7), (7, 20)):
        found = exact_bound(failures, count)
        assert found.low == pytest.approx(stats.beta.ppf(0.025, failures, count - failures + 1))
        if failures < count:
            assert found.high == pytest.approx(stats.beta.ppf(0.975, failures + 1, count - failures))
            assert stats.binom.cdf(failures, count, found.high) == pytest.approx(0.025)
    assert exact_bound(7, 7).high == 1


def test_a_bound_counts_episodes_of_which_any_model_fails() -> None:
    found, chance = share_bound(ceiling(6, 100, 3, 5)), exact_bound(2, 100)
    assert found is not None
    assert found.low == pytest.approx(1 - chance.high) and found.high == pytest.approx(1 - chance.low / 6)
    floor = share_bound(1 - ceiling(6, 100, 3, 5))
    assert (
        floor is not None and floor.low == pytest.approx(1 - found.high) and floor.high == pytest.approx(1 - found.low)
    )
    one = share_bound((np.arange(20) < 13)[None] * 1.0)  # of one model, plainly that of its episodes
    assert one is not None and one.low == pytest.approx(exact_bound(13, 20).low)
    assert one.high == pytest.approx(exact_bound(13, 20).high)
    partly = share_bound(1 - 0.1 * (1 - ceiling(6, 100, 3, 5)))  # 0.9 there, but 0 can be
    assert partly is not None and partly.low == pytest.approx(1 - chance.high) and partly.high == 1
    assert share_bound(np.random.default_rng(0).random((6, 100))) is None
    tenth = np.ones((1, 100))
    tenth[0, :10] = 0.9
    assert share_bound(tenth) is not None
    tenth[0, 10] = 0.9
    assert share_bound(tenth) is None
    assert [found.count, floor.count, one.count] == ["2 of 100 below 1", "2 of 100 above 0", "7 of 20 below 1"]
    differ = difference_bound(ceiling(6, 100, 3, 5), ceiling(6, 100, 5))  # in 5 too: not all of its models fail
    assert differ is not None and differ.count == "2 of 100 differ" and differ.high == -differ.low == chance.high
    assert difference_bound(np.ones((2, 9)), np.zeros((3, 9))) is None
    (pair,) = judge_pairs({"a": np.ones((3, 100)), "b": np.ones((3, 100))}, 0.01, +1, largest=1)
    assert pair.interval is None and "0 of 100 differ: on new ones these models differ by 0.036 at" in verdict_numbers(
        pair, 3
    )
    assert judge_pairs({"a": np.ones((3, 100)), "b": np.ones((3, 100))}, 0.01, +1)[0].bound is None  # may be lengths


# Variance components


def test_components_by_hand() -> None:
    additive = components(np.add.outer([0.0, 2.0], np.arange(12.0)))
    assert additive is not None and additive.rest == pytest.approx(0, abs=1e-12)
    assert additive.models == pytest.approx(2) and additive.episodes == pytest.approx(13)
    crossed = components(np.array([[0.0, 1.0], [1.0, 0.0]]))  # equal means; residuals +-1/2, one degree of freedom
    assert crossed == Components(0, 0, pytest.approx(1))
    assert components(drawn(0, 1, 9)) is components(drawn(0, 9, 1)) is components(drawn(0, 9)) is None


def test_components_are_unbiased() -> None:
    random = np.random.default_rng(0)
    found = []
    for _ in range(300):
        y = 2 * random.normal(size=(6, 1)) + 3 * random.normal(size=(1, 40)) + random.normal(size=(6, 40))
        each = components(y)
        assert each is not None
        found.append((each.models, each.episodes, each.rest))
    assert np.mean(found, axis=0) == pytest.approx([4, 9, 1], rel=0.1)


# The permutation test


def test_permutations_by_hand() -> None:
    assert permutation_test(np.array([4.0, 5, 6]), np.array([1.0, 2, 3])) == pytest.approx(2 / 20)
    assert permutation_test(np.zeros(3), np.zeros(4)) == 1
    assert permutation_test(np.array([5.0]), np.array([1.0, 2])) == pytest.approx(1 / 3)
    assert permutation_test(np.array([3.0]), np.array([1.0, 2])) == pytest.approx(2 / 3)  # 1 is as far from the others
    assert permutation_test(np.arange(10) + 10.0, np.arange(10.0)) == pytest.approx(2 / 184_756)


@pytest.mark.parametrize("n, m", [(3, 3), (2, 5), (5, 3)])
def test_permutations_agree_with_scipy(n: int, m: int) -> None:
    for seed in range(5):
        first, second = drawn(seed, n), drawn(seed + 100, m)
        expected = stats.permutation_test(
            (first, second),
            lambda x, y, axis: np.abs(x.mean(axis) - y.mean(axis)),
            alternative="greater",
            vectorized=True,
        )
        assert permutation_test(first, second) == pytest.approx(expected.pvalue)


def test_permutations_count_ties_as_ties() -> None:
    """Against fractions: in tenths and means of thirds, floating point would decide on which side a tie falls."""
    random = np.random.default_rng(0)
    for _ in range(100):
        n, m = random.integers(2, 5, 2)
        counts = random.integers(0, 31, n + m)
        pool = [Fraction(int(count), 30) for count in counts]
        apart = [
            abs(sum(pool[i] for i in chosen) / n - (sum(pool) - sum(pool[i] for i in chosen)) / m)
            for chosen in itertools.combinations(range(n + m), n)
        ]
        expected = np.mean([value >= apart[0] for value in apart])
        means = (counts / 10) / 3
        assert permutation_test(means[:n], means[n:]) == pytest.approx(expected), counts


def test_sampled_permutations_are_near_what_they_sample() -> None:
    first, second = drawn(0, 12), drawn(1, 12) + 0.3
    found = permutation_test(first, second)
    assert found == permutation_test(first + 5, second + 5) and found * 100_001 == pytest.approx(round(found * 100_001))
    assert found == pytest.approx(stats.ttest_ind(first, second).pvalue, rel=0.15) and 0.01 < found < 0.2


# Many tests at once


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1]) and holm([]) == holm_levels([]) == []
    assert holm_levels([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4])
    assert holm_levels([0.01, 0.02]) == pytest.approx([0.05 / 2, 0.05]) and holm_levels([0.2]) == [0.05]


@given(p_values)
def test_holm_properties(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(raw <= fixed <= min(1, raw * len(values)) + 1e-12 for raw, fixed in zip(values, adjusted, strict=True))
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


@given(st.lists(st.floats(1e-6, 0.1), min_size=1, max_size=9))
def test_intervals_at_holms_levels_say_what_holm_says(values: list[float]) -> None:
    for p, fixed, level in zip(values, holm(values), holm_levels(values), strict=True):
        assume(abs(p - level) > 1e-9)
        estimate = Estimate(float(stats.t.isf(p / 2, 7)), 1.0, 7)
        assert estimate.p == pytest.approx(p)
        assert (estimate.interval(1 - level).low > 0) == (fixed < 0.05)


def test_a_verdict_by_hand() -> None:
    def said(value: float, better: int = +1) -> str:
        return verdict(Estimate(value, 1.0, 1e6), 2, better)

    # half-widths are 1.96 (95%) and 1.645 (90%)
    assert [said(value) for value in (2.0, -2.0, 0.35, -0.35, 0.36, 1.9)] == [
        "better", "worse", "equivalent", "equivalent", "undecided", "undecided",
    ]  # fmt: skip
    assert said(2.0, -1) == "worse" and verdict(None, 2, +1) == "undecided"
    assert verdict(Estimate(0.5, 0.1, 1e6), 2, +1) == "equivalent"  # certain, and too small to matter


def sharing(found: dict[str, str]) -> set[frozenset[str]]:
    return {frozenset(pair) for pair in itertools.combinations(found, 2) if set(found[pair[0]]) & set(found[pair[1]])}


def test_letters_by_hand() -> None:
    assert letters("abc", set()) == {"a": "a", "b": "a", "c": "a"}
    assert letters("abc", {("a", "b"), ("a", "c"), ("b", "c")}) == {"a": "a", "b": "b", "c": "c"}
    assert letters("abc", {("c", "a")}) == {"a": "a", "b": "ab", "c": "b"}
    assert letters("x", set()) == {"x": "a"}
    # Piepho 2004, example 3: eight treatments, of which five pairs are different
    different = {("1", "7"), ("1", "8"), ("2", "4"), ("2", "5"), ("3", "5")}
    found = letters("12345678", different)
    assert sharing(found) == {frozenset(p) for p in itertools.combinations("12345678", 2) if p not in different}
    assert len(set("".join(found.values()))) == 6 and sum(map(len, found.values())) <= 20  # as published


def test_many_names_have_letters_too() -> None:
    """Sixty of which all are different, and sixty of which neighbours are alike, in any order of the pairs."""
    names = [f"method {number}" for number in range(60)]
    pairs = list(itertools.combinations(names, 2))
    alone = letters(names, set(pairs))
    assert list(alone.values()) == [*ascii_letters, *(f"{letter}1" for letter in "abcdefgh")]
    alike = {(names[i], names[i + 1]) for i in range(59)}
    found = letters(names, {pair[::-1] for pair in pairs if pair not in alike})
    assert [found[name] for name in names[:3]] == ["a", "ab", "bc"] and found[names[-1]] == "g1"


@given(st.integers(1, 7).flatmap(lambda n: arrays(bool, (n, n))))
def test_names_share_a_letter_if_they_are_not_different(matrix: np.ndarray) -> None:
    names = "abcdefg"[: len(matrix)]
    different = {(names[i], names[j]) for i, j in zip(*np.nonzero(np.triu(matrix, 1)), strict=True)}
    found = letters(names, different)
    assert list(found) == list(names) and all(found.values())
    assert sharing(found) == {frozenset(p) for p in itertools.combinations(names, 2) if p not in different}
    for letter in set("".join(found.values())):  # none can be left out
        fewer = {name: text.replace(letter, "") for name, text in found.items()}
        assert sharing(fewer) != sharing(found) or not all(fewer.values())


# Looks


def test_a_look_by_hand() -> None:
    first, second = np.arange(9) + 100.0, np.arange(9.0)
    early = judge_looks(first, second, (5, 7, 9), 0.1, +1)
    assert len(early) == 1 and early[0].models == 5 and early[0].verdict == "better"
    assert early[0].p == pytest.approx(2 / 252) and early[0].spent == pytest.approx(0.05 / 3)
    assert judge_looks(first, second, (5, 7, 9), 0.1, -1)[0].verdict == "worse"
    assert judge_looks(first[:4], second, (5, 7, 9), 0.1, +1) == []
    # with 4 and 4 models the smallest p, 2 / 70, is more than half of alpha; at the next look 4 of 70 * 6 reach it
    late = judge_looks(first, second, (4, 6), 0.1, +1)
    assert [look.verdict for look in late] == ["undecided", "better"] and late[1].p == pytest.approx(2 / 420)
    # models are exchanged within their stage: a method that trained 3 more models late is no reason to differ
    alike = judge_looks(drawn(0, 9, 2000), drawn(1, 9, 2000), (5, 7, 9), 0.1, +1)
    assert [look.verdict for look in alike] == ["equivalent"]
    # the interval of a look is for all looks: one that leaves out zero at 95% only is not enough
    look = judge_looks(drawn(0, 9, 40) + 0.25, drawn(1, 9, 40), (5, 7, 9), 0.0, +1)[0]
    assert look.p <= look.spent and look.estimate is not None and 0.05 / 3 < look.estimate.p < 0.05
    assert not look.differs and look.verdict == "undecided"
    assert [least_share(stages) for stages in ([4], [4, 2])] == [2 / 70, 2 / 420]
    apart = judge_looks(drawn(0, 9, 40) + 9, drawn(1, 9, 40), (2, 3, 6, 9), 0.1, +1)
    assert [(look.models, look.verdict) for look in apart] == [(2, "undecided"), (3, "undecided"), (6, "better")]
    assert blind_looks((2, 3, 6, 9)) == (2, 3) and blind_looks((8, 12, 16, 20), 0.05 / 45) == () == blind_looks(())
    assert [fewest_models(*each) for each in ((1,), (4,), (4, 0.05 / 10))] == [4, 5, 7]  # 2 in 70, 252 and 3432
    assert judge_looks(np.ones((9, 50)), np.ones((9, 50)), (5, 9), 0.1, +1)[-1].verdict == "undecided"


def test_looks_cannot_use_models_to_come() -> None:
    first, second = drawn(0, 20, 30), drawn(1, 20, 30)
    whole = judge_looks(first, second, (8, 12, 16, 20), 0.0, +1)
    assert [look.models for look in whole] == [8, 12, 16, 20]
    assert judge_looks(first[:12], second[:13], (8, 12, 16, 20), 0.0, +1) == whole[:2]


@pytest.mark.parametrize("kind", ["normal", "one bad training in ten", "few values"])
def test_looks_are_wrong_as_seldom_as_they_say(kind: str) -> None:
    random, wrong, repetitions = np.random.default_rng(0), 0, 500
    for _ in range(repetitions):
        y = random.normal(size=(2, 7))
        if kind == "one bad training in ten":
            y -= 30 * (random.random((2, 7)) < 0.1)
        if kind == "few values":
            y = y.round()
        wrong += judge_looks(*y, (5, 7), 0.0, +1)[-1].verdict != "undecided"
    assert wrong / repetitions <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / repetitions)


def test_looks_do_not_take_the_draw_of_episodes_for_a_difference() -> None:
    """Two methods are better on other episodes, and equally good over all: models alone would call them different."""
    random, repetitions = np.random.default_rng(0), 200
    wrong, by_models = 0, 0
    for _ in range(repetitions):
        y = random.normal(size=(2, 7, 30)) + random.normal(size=(2, 1, 30))
        looks = judge_looks(*y, (5, 7), 0.0, +1)
        wrong += looks[-1].verdict != "undecided"
        by_models += any(look.p <= look.spent for look in looks)
    assert wrong / repetitions <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / repetitions) < 0.3 < by_models / repetitions


# Planning


def test_what_is_needed_by_hand() -> None:
    two = Spread((Components(0.0, 0.2, 0.0), Components(0.0, 0.3, 0.0)))
    assert Spread(two.groups, shared=0.25).half_width(10, 1000) == 0  # the same episodes are hard for both
    assert two.half_width(10, 1001) == pytest.approx(stats.t.ppf(0.975, 1000) * np.sqrt(0.5 / 1001))
    # models do not help
    assert needed(two, [Route(0.05)]) == [Need(6, pytest.approx(0.5 * (1.96 / 0.05) ** 2, abs=5))]
    assert needed(Spread((Components(1, 0, 0), *two.groups)), [Route(0.01)]) == []
    # of two ways the one that takes less: half the width takes four times as many, at a higher level fewer
    wider = needed(two, [Route(0.025), Route(0.05)])
    assert wider == needed(two, [Route(0.05)]) and needed(two, [Route(0.05, 0.1)])[0].episodes < wider[0].episodes


@pytest.mark.parametrize(("level", "inner"), [(0.05, 0.05), (0.05 / 15, 0.05 / 15), (0.025, 0.05 / 15)])
@pytest.mark.parametrize("value", [0.0, 0.004, -0.009, 0.03])
def test_what_would_decide_does_so_in_four_of_five_cases(value: float, level: float, inner: float) -> None:
    shown, close = routes_of(value, 0.01, level, inner)
    assert (shown.level, close.level) == (level, 2 * inner)
    z = np.random.default_rng(0).normal(size=100_000)

    def found(route: Route) -> Floats:
        """Estimates whose intervals have the route's half-width."""
        found: Floats = value + route.half_width / stats.norm.isf(route.level / 2) * z
        return found

    if value:
        told = np.sign(value) * found(shown) > shown.half_width
        assert told.mean() == pytest.approx(POWER, abs=0.01)
    if abs(value) < 0.01:
        assert (np.abs(found(close)) + close.half_width < 0.01).mean() == pytest.approx(POWER, abs=0.01)
    else:
        assert close.half_width == 0


def test_more_models_need_fewer_episodes() -> None:
    spread = Spread((Components(1e-5, 0.01, 0.05), Components(2e-5, 0.01, 0.05)))
    found = needed(spread, [Route(0.005)])
    assert len(found) > 2
    for one, other in itertools.pairwise(found):
        assert one.models < other.models and one.episodes > other.episodes
    for need in found:
        at, below = (spread.half_width(need.models, episodes) for episodes in (need.episodes, need.episodes - 1))
        assert at <= 0.005 < below


@pytest.mark.parametrize("paired", [False, True])
def test_a_plan_comes_out(paired: bool) -> None:
    """The half-width that was planned from a small study is that of a larger one, on average."""
    random = np.random.default_rng(0)

    def study(n: int, count: int) -> list[Floats]:
        starts, models = random.normal(size=count), random.normal(size=(n, 1))
        return [
            0.1 * (models if paired else random.normal(size=(n, 1)))
            + 0.05 * random.normal(size=(n, 1))
            + starts
            + 0.5 * random.normal(size=count)
            + random.normal(size=(n, count))
            for _ in range(2)
        ]

    first, second = study(10, 4000)
    spread = spread_of(first, second, paired)
    assert spread is not None and spread.shared == (0 if paired else pytest.approx(1, rel=0.1))
    found = []
    for _ in range(20):
        estimate = difference_estimate(*study(20, 1000), paired)
        assert estimate is not None
        found.append(estimate.interval().high - estimate.value)
    assert np.mean(found) == pytest.approx(spread.half_width(20, 1000), rel=0.15)
    few = Spread((Components(1, 0, 0), Components(1, 0, 0))).half_width(3, 100)
    assert few == pytest.approx(stats.t.ppf(0.975, 2) * np.sqrt(2 / 3))  # of three models, as their interval is


# The same models by two rules


def test_the_same_models_are_compared_one_by_one() -> None:
    first, second = drawn(0, 7, 50), drawn(1, 7, 50)
    found = difference_estimate(first, second, paired=True)
    assert found is not None and found == group_estimate(first - second)
    assert difference_estimate(first, first, paired=True) is None
    means = np.array([4.0, 5, 6]), np.array([1.0, 5, 2])
    assert permutation_test(*means, paired=True) == 4 / 8  # that of the pair of equals changes nothing
    assert permutation_test(means[0], means[0] - 1, paired=True) == 2 / 8
    assert [least_share(stages, paired=True) for stages in ([4], [4, 2])] == [2 / 16, 2 / 64]
    assert blind_looks((5, 9), paired=True) == (5,) and blind_looks((6, 9), paired=True) == (6,)
    look = judge_looks(drawn(0, 9, 40) + 9, drawn(0, 9, 40), (6, 8), 0.1, +1, paired=True)[-1]
    assert look.models == 8 and look.p == 2 / 2**8  # the first look is blind: 2 of 64 are more than 0.025


@given(arrays(np.float64, (2, 6), elements=st.integers(-9, 9)))
def test_the_paired_permutation_test_is_that_of_scipy(means: Floats) -> None:
    expected = stats.permutation_test(
        tuple(means), lambda a, b: a.mean() - b.mean(), permutation_type="samples", n_resamples=np.inf
    )
    assert permutation_test(*means, paired=True) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("alike", [-0.6, 0.0, 0.9])
def test_intervals_of_the_same_models_hold_the_truth(alike: float) -> None:
    """Of models that are good by one rule and bad by the other too, where an unpaired interval would be too narrow."""
    random, repetitions, held = np.random.default_rng(0), 400, 0
    for _ in range(repetitions):
        models = random.multivariate_normal([0, 0], [[1, alike], [alike, 1]], size=8).T[:, :, None]
        first, second = models + 0.5 * random.normal(size=(2, 8, 100))
        estimate = difference_estimate(first, second, paired=True)
        assert estimate is not None
        interval = estimate.interval()
        held += interval.low <= 0 <= interval.high
    assert held / repetitions >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / repetitions)


# Coverage


@pytest.mark.parametrize("outcome", OUTCOMES[::2], ids=lambda outcome: outcome.name)
def test_intervals_hold_the_truth_as_often_as_they_say(outcome: Outcome) -> None:
    repetitions = 200
    cells = simulate(outcome, repetitions, models=(2, 3, 6, 20), episodes=(100,))
    assert {cell.level for cell in cells} == {0.9, 0.95, 1 - 0.05 / 6} and any(not cell.episodes for cell in cells)
    for cell in cells:
        if cell.covered is not None and cell.printed >= RARE:
            chance = np.sqrt(cell.least * (1 - cell.least) / (repetitions * cell.printed))
            assert cell.covered >= cell.least - 2.6 * chance, cell


def test_the_published_coverage_is_what_was_promised() -> None:
    cells = [Cell(**cell) for cell in json.loads(RESULTS.read_text())["cells"]]
    assert {cell.outcome for cell in cells} == {outcome.name for outcome in (*OUTCOMES, *BEYOND)}
    promised = [cell for cell in cells if cell.outcome in {outcome.name for outcome in OUTCOMES}]
    for cell in promised:
        assert cell.covered is None or cell.covered >= cell.least or cell.printed < RARE, cell
        assert cell.covered is None or cell.printed * (1 - cell.covered) <= 1 - cell.least, cell
