"""Looking early at two policies: exact small cases, the rate of false decisions, and how soon it is decided."""

from collections.abc import Iterator
from math import exp, log, sqrt

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import betaln

from pipeline.report.betting import Bets, bet, decide, first_bets, log_evidence
from pipeline.report.contest import Contest, Evidence, blocks_needed, judge, shown_interval
from pipeline.report.statistics import Floats, Interval
from pipeline.streams import numpy_stream

SEQUENCES = 400


@pytest.mark.parametrize(
    ("wins", "losses", "evidence"),
    [(0, 0, 1), (1, 0, 1), (1, 1, 4 / 6), (3, 0, 8 / 4), (0, 3, 8 / 4), (2, 2, 16 * 4 / 120), (8, 0, 256 / 9)],
)
def test_evidence_by_hand(wins: int, losses: int, evidence: float) -> None:
    assert exp(log_evidence(wins, losses)) == pytest.approx(evidence)


def test_evidence_of_many_pairs_is_the_beta_integral() -> None:
    assert log_evidence(4000, 5000) == pytest.approx(9000 * log(2) + betaln(4001, 5001))


def test_three_bets_by_hand() -> None:
    """Against a mean of 0 and with alpha 0.05: stakes l(t) = min(sqrt(2 ln 40 / (spread ln(1 + t))), 1/2)."""
    bets = first_bets(0.5, steps=1)
    assert bets.means.tolist() == [-1, -0.5, 0, 0.5, 1]
    for difference in (1.0, 1.0, -1.0):
        bets = bet(bets, difference)
    assert_allclose(np.exp(bets.up[2]), 1.5 * 1.5 * 0.5)
    assert_allclose(np.exp(bets.down[2]), 0.5 * 0.5 * 1.5)
    # spread: 1 + (1 - 1/2)^2 + (1 - 2/3)^2 + (-1 - 1/4)^2
    assert_allclose(bets.spread, 1 + 1 / 4 + 1 / 9 + 25 / 16)
    stake = sqrt(2 * log(40) / log(2))  # the first against -1: more than this would be allowed by no bound
    assert_allclose(np.exp(bet(first_bets(0.5, steps=1), 1.0).up[0]), 1 + 2 * stake)
    assert -1 < bets.low < -0.9 and bets.high == 1 and bets.count == 3


def test_an_interval_is_where_neither_capital_is_large() -> None:
    """Of equal scores: against a mean m > 0, stake .5 / (1 - m) each time, until (1 - m / 2 / (1 - m))^-t is 40."""
    bets = first_bets(0.1)
    for _ in range(200):
        bets = bet(bets, 0.0)
    high = float(bets.high)
    assert bets.low == -bets.high and 200 * log(1 + 0.5 / (1 - high) * high) == pytest.approx(log(40), abs=1e-5)


def test_an_interval_never_widens_and_exchange_mirrors_it() -> None:
    random = numpy_stream(0, "test", "mirror")
    there, back = first_bets(0.02), first_bets(0.02)
    for difference in random.uniform(-0.6, 1, 150):
        before = there
        there, back = bet(there, difference), bet(back, -difference)
        assert before.low <= there.low <= there.high <= before.high
        assert (back.low, back.high) == (-there.high, -there.low)
    assert there.low > 0


@pytest.mark.parametrize("difference", [1.5, -1.01, float("nan")])
def test_other_differences_are_refused(difference: float) -> None:
    with pytest.raises(ValueError, match=r"differences in \[-1, 1\]"):
        bet(first_bets(0.02), difference)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.01, 0.03, "undecided"), (-0.01, 0.01, "equivalent"), (0.001, 0.01, "equivalent"), (0.001, 0.03, "better"),
        (-0.03, -0.001, "worse"), (0.0, 0.03, "undecided"), (-0.02, 0.0, "undecided"),
    ],
)  # fmt: skip
def test_decisions(low: float, high: float, verdict: str) -> None:
    assert decide(Interval(low, high), 0.02) == verdict


def played(differences: Floats, margin: float) -> Iterator[Bets]:
    """All looks at the sequences `(R, T)`. Against means of 0 and +-margin: what decides."""
    bets = first_bets(margin, steps=1, shape=differences.shape[:1])
    for difference in differences.T:
        yield (bets := bet(bets, difference))


def test_equal_policies_are_rarely_called_unequal_whenever_one_looks() -> None:
    """Blocks of nine skewed scores in [0, 1], 300 looks each; and unequal ones are rarely called equivalent."""
    random = numpy_stream(0, "test", "equal")
    scores = random.beta(4, 0.5, (2, SEQUENCES, 300, 9)) * (random.random((2, SEQUENCES, 300, 9)) < 0.95)
    differences = (scores[0] - scores[1]).mean(-1)
    wrong = np.zeros(SEQUENCES, dtype=bool)
    for bets in played(differences, 0.1):
        wrong |= (bets.low > 0) | (bets.high < 0)
    assert wrong.mean() <= 0.05
    wrong[:] = False
    for bets in played(differences - 0.1, 0.1):
        wrong |= (bets.low > -0.1) & (bets.high < 0.1)
    assert wrong.mean() <= 0.05 and not wrong.all()


def test_evidence_of_equal_policies_is_rarely_large_whenever_one_looks() -> None:
    random = numpy_stream(0, "test", "evidence")
    won = (random.random((2000, 400)) < 0.5).cumsum(1)
    n = np.arange(1, 401)
    found = n * log(2) + betaln(won + 1, n - won + 1)
    share = (found >= log(20)).any(1).mean()
    assert 0.01 < share <= 0.05


@pytest.mark.parametrize(("a", "b", "pairs", "by_bets"), [(0.9, 0.8, 193, 201), (1.0, 0.98, 395, 490)])
def test_how_many_pairs_decide(a: float, b: float, pairs: int, by_bets: int) -> None:
    """The medians; evidence of wins and losses needs fewer pairs than bets."""
    random = numpy_stream(0, "test", "median", str(a))
    first, second = random.random((SEQUENCES, 1500)) < a, random.random((SEQUENCES, 1500)) < b
    won, lost = (first & ~second).cumsum(1), (second & ~first).cumsum(1)
    evidence = (won + lost) * log(2) + betaln(won + 1, lost + 1)
    assert np.median((evidence >= log(20)).argmax(1) + 1) == pytest.approx(pairs, rel=0.08)
    decided = np.full(SEQUENCES, 1500)
    for bets in played(first.astype(float) - second, 0.02):
        decided = np.where((bets.low > 0) & (decided == 1500), bets.count, decided)
    assert np.median(decided) == pytest.approx(by_bets, rel=0.08)


def unwatched(_blocks: int, _interval: Interval) -> None:
    pass


def batches(a: Floats, b: Floats, size: int) -> Iterator[tuple[Floats, Floats]]:
    for begin in range(0, a.shape[1], size):
        yield a[:, begin : begin + size], b[:, begin : begin + size]


@pytest.mark.parametrize(("shift", "verdict"), [(0.3, "better"), (-0.3, "worse"), (0.0, "equivalent")])
def test_a_contest_stops_when_it_is_decided_however_it_is_cut(shift: float, verdict: str) -> None:
    random = numpy_stream(0, "test", "contest")
    a, b = 0.5 + 0.01 * random.uniform(-1, 1, (2, 9, 600))
    drawn = []

    def counted(size: int) -> Iterator[tuple[Floats, Floats]]:
        for part in batches(a + shift, b, size):
            drawn.append(part[0].shape[1])
            yield part

    found = [judge(counted(size), 0.02, False, unwatched) for size in (1, 50, 600)]
    used = found[0].a.shape[1]
    assert {(each.verdict, each.interval) for each in found} == {(verdict, found[0].interval)}
    assert all(each.a.shape == each.b.shape == (9, used) for each in found) and used < 600
    assert sum(drawn) == used + -(-used // 50) * 50 + 600
    mirrored = judge(batches(b, a + shift, 50), 0.02, False, unwatched)
    assert mirrored.verdict == {"better": "worse", "worse": "better"}.get(verdict, verdict)
    assert mirrored.interval == Interval(-found[0].interval.high, -found[0].interval.low)
    few = judge(batches((a + shift)[:, :5], b[:, :5], 50), 0.02, False, unwatched)
    assert few.verdict == "undecided" and few.a.shape == (9, 5)


def test_wins_and_losses_decide_binary_outcomes_of_one_condition() -> None:
    """Eight wins are evidence of 256 / 9; interval and verdict agree. Several conditions have blocks instead."""
    a, b = np.ones((1, 30)), np.ones((1, 30))
    b[0, 2:12] = 0
    found = judge([(a, b)], 0.02, True, unwatched)
    assert found.verdict == "better" and found.evidence == Evidence(8, 0)
    assert found.interval.low >= 0 and found.a.shape == (1, 10)
    assert judge([(b, a)], 0.02, True, unwatched).verdict == "worse"
    assert judge([(np.repeat(a, 2, 0), np.repeat(b, 2, 0))], 0.02, True, unwatched).evidence is None
    assert judge([(a, a)], 0.5, True, unwatched).verdict == "equivalent"


@pytest.mark.parametrize(
    ("wins", "losses", "expected"),
    [(8, 0, (0.0, 0.2)), (0, 8, (-0.1, 0.0)), (7, 0, (-0.1, 0.2)), (4, 4, (-0.1, 0.2))],
)
def test_the_interval_agrees_with_the_evidence(wins: int, losses: int, expected: tuple[float, float]) -> None:
    assert shown_interval(Interval(-0.1, 0.2), Evidence(wins, losses)) == Interval(*expected)
    assert shown_interval(Interval(0.1, 0.2), Evidence(4, 4)) == Interval(0.0, 0.2)


def test_an_undecided_contest_says_about_how_many_blocks_would_decide() -> None:
    """From the first 40 blocks of a sequence without chance: within a factor of three of where it is decided."""
    zigzag = np.resize([0.3, -0.3], (1, 4000))
    won, lost = (np.resize(np.eye(10)[[number]].sum(0), (1, 4000)) for number in (3, 7))
    for a, b, binary in (
        (0.6 + zigzag, 0 * zigzag + 0.5, False),  # ahead by 0.1
        (0.5 + zigzag, 0 * zigzag + 0.5, False),  # equal
        (won + np.roll(won, 1), lost, True),  # two wins for a loss
    ):
        early, whole = (judge([(a[:, :blocks], b[:, :blocks])], 0.05, binary, lambda *_: None) for blocks in (40, 4000))
        needed, took = blocks_needed(early, 0.05), whole.a.shape[1]
        assert early.verdict == "undecided" != whole.verdict and needed is not None
        assert took / 3 < needed < 3 * took, (needed, took)
    for blocks in (2, 5, 11, 50):  # of one policy twice, which is decided at block 364
        few = judge([(np.ones((1, blocks)), np.ones((1, blocks)))], 0.02, False, lambda *_: None)
        assert few.verdict == "undecided" and blocks_needed(few, 0.02) == 364
    ever = Contest(np.zeros((1, 9)), np.zeros((1, 9)), Interval(-1, 1), "undecided", None)
    assert blocks_needed(ever, 1e-6) is None


@pytest.mark.parametrize(("difference", "blocks"), [(0.1, 80), (0.05, 150)])
def test_what_two_models_would_need_of_held_out_episodes(difference: float, blocks: int) -> None:
    """As docs/how-to/without_a_simulator.md says, where it says why `compare` refuses."""
    random, took = np.random.default_rng(0), []
    for _ in range(5):
        a = np.clip(0.6 + random.normal(0, 0.1, (1, 400)), 0, 1)
        b = np.clip(a - difference + random.normal(0, 0.1, (1, 400)), 0, 1)
        contest = judge([(a, b)], 0.02, False, lambda *_: None)
        assert contest.verdict == "better"
        took.append(contest.a.shape[1])
    assert 0.8 < np.mean(took) / blocks < 1.2
