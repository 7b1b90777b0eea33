"""A contest of two policies, A and B, on paired episodes: judged block after block until it is decided, and shown.

A block is one start in every condition. Shapes: C conditions, b or n blocks.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import log
from typing import Any, Final, Literal

import numpy as np

from pipeline.report.betting import bet, decide, first_bets, log_evidence
from pipeline.report.statistics import ALPHA, Floats, Interval, Word
from pipeline.report.tables import Table
from pipeline.report.words import as_sentence, interval_text

MOST_BLOCKS = 10_000  # that are told to decide
UNDECIDED: Final[Literal["undecided"]] = "undecided"

Watch = Callable[[int, Interval], None]
"""`watch(blocks, interval)` is called when some blocks have been judged."""


@dataclass(frozen=True)
class Evidence:
    """What pairs of binary outcomes say: those that differ are wins and losses of A."""

    wins: int
    losses: int

    @property
    def decides(self) -> bool:
        """Whether A and B are shown not to be equally good."""
        return log_evidence(self.wins, self.losses) >= log(1 / ALPHA)


@dataclass(frozen=True)
class Contest:
    """Both policies' scores on the same episodes, up to the block that decided."""

    a: Floats  # (C, n)
    b: Floats
    interval: Interval  # 95% confidence sequence of the mean of A minus B
    verdict: Word  # of A
    evidence: Evidence | None  # of binary outcomes in one condition

    @property
    def difference(self) -> float:
        """The mean of A minus that of B."""
        return float((self.a - self.b).mean())


def judge(batches: Iterable[tuple[Floats, Floats]], margin: float, binary: bool, watch: Watch) -> Contest:
    """Judge batches of scores in [0, 1], `(C, b)` of A and of B, until it is decided or there are no more.

    After that no batch is drawn. The verdict does not depend on how the blocks are cut into batches, and that of B and
    A is the mirror image. `binary`: all scores are 0 or 1; then wins and losses decide who is better, if C is 1: that
    takes fewer pairs than bets do, for a share of 1.00 against .98 390 instead of 490.
    """
    bets = first_bets(margin)
    verdict: Word = UNDECIDED
    wins = losses = 0
    kept: list[tuple[Floats, Floats]] = []
    for a, b in batches:
        pairs, used = binary and len(a) == 1, 0
        for difference in np.ascontiguousarray((a - b).T).mean(1):  # rounded in the same way in any batch
            bets, used = bet(bets, difference), used + 1
            wins, losses = wins + int(difference > 0), losses + int(difference < 0)
            evidence = Evidence(wins, losses) if pairs else None
            verdict = verdict_of(bets.interval, evidence, margin)
            if verdict != UNDECIDED:
                break
        kept.append((a[:, :used], b[:, :used]))
        watch(bets.count, bets.interval)
        if verdict != UNDECIDED:
            break
    first, second = (np.concatenate(parts, axis=1) for parts in zip(*kept, strict=True))
    return Contest(first, second, shown_interval(bets.interval, evidence), verdict, evidence)


def verdict_of(interval: Interval, evidence: Evidence | None, margin: float) -> Word:
    """Judge A by the confidence sequence, and where there is evidence of wins and losses who is better by that."""
    found = decide(interval, margin)
    if evidence is None or found == "equivalent":
        return found
    if not evidence.decides:
        return UNDECIDED
    return "better" if evidence.wins > evidence.losses else "worse"


def shown_interval(interval: Interval, evidence: Evidence | None) -> Interval:
    """Return the confidence sequence as it is shown beside the verdict: evidence says whether zero is inside."""
    if evidence is None:
        return interval
    if not evidence.decides:
        return Interval(min(interval.low, 0.0), max(interval.high, 0.0))
    if evidence.wins > evidence.losses:
        return Interval(max(interval.low, 0.0), interval.high)
    return Interval(interval.low, min(interval.high, 0.0))


def blocks_needed(contest: Contest, margin: float) -> int | None:
    """Return how many blocks would decide if those to come were as those that were; None of `MOST_BLOCKS`."""
    times = -(-MOST_BLOCKS // contest.a.shape[1])
    repeated = np.tile(contest.a, times), np.tile(contest.b, times)
    going_on = judge([repeated], margin, contest.evidence is not None, lambda *_: None)
    return going_on.a.shape[1] if going_on.verdict != UNDECIDED else None


def contest_table(
    label: str, conditions: tuple[str, ...], contest: Contest, names: tuple[str, str] = ("A", "B")
) -> Table:
    """Both policies' means and their difference, a row a condition; the interval is of the mean over them."""
    rows = [
        (where, f"{a:.4f}", f"{b:.4f}", f"{a - b:+.4f}", "")
        for where, a, b in zip(conditions, contest.a.mean(1), contest.b.mean(1), strict=True)
    ]
    means = f"{contest.a.mean():.4f}", f"{contest.b.mean():.4f}", f"{contest.difference:+.4f}"
    rows = rows if len(rows) > 1 else []
    rows.append(("mean", *means, interval_text(contest.interval, 4)))
    title = as_sentence(f"{label}; {contest.a.shape[1]:,} paired episodes per condition")
    return Table(title, ("condition", *names, "difference", "95% interval"), rows)


def sentence(contest: Contest, margin: float) -> str:
    """Say what was decided, of A."""
    between = f"{contest.difference:+.4f} {interval_text(contest.interval, 4)}"
    said = {
        "better": "A is better than B",
        "worse": "A is worse than B",
        "equivalent": f"A and B are equivalent within {margin:g}",
        "undecided": "undecided",
    }
    return f"{said[contest.verdict]}: A minus B is {between}"


def needs_sentence(contest: Contest, margin: float) -> str:
    """Say what would decide a contest that is undecided."""
    if (blocks := blocks_needed(contest, margin)) is None:
        return "no number of episodes within reach, if the difference is what it seems"
    episodes = float(f"{blocks * len(contest.a):.2g}")
    return f"about {episodes:,.0f} episodes of each policy, if the difference is what it seems"


def contest_values(conditions: tuple[str, ...], contest: Contest, margin: float) -> dict[str, Any]:
    """The contest as plain values."""
    needed = blocks_needed(contest, margin) if contest.verdict == UNDECIDED else None
    rows = zip(conditions, contest.a.mean(1).tolist(), contest.b.mean(1).tolist(), strict=True)
    return {
        "verdict": contest.verdict,
        "difference": contest.difference,
        "interval": [contest.interval.low, contest.interval.high],
        "episodes": int(contest.a.size),
        "episodes_needed": needed and needed * len(contest.a),
        "conditions": [{"condition": where, "a": a, "b": b} for where, a, b in rows],
    } | ({"wins": contest.evidence.wins, "losses": contest.evidence.losses} if contest.evidence else {})
