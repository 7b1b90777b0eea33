"""The report on a search: its trials, its winners and tables. Rendering only.

A trial is one recipe of a method, trained with several seeds and scored on the search's own episodes.
"""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pipeline.report.tables import Table
from pipeline.tasks.score import Score

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
MOST_SHOWN = 5  # trials of a method in the table


@dataclass(frozen=True)
class Tried:
    """A finished trial of a method."""

    method: str
    number: int
    params: Mapping[str, Any]  # the searched settings
    state: str  # complete; pruned: given up after its first seed; failed
    scores: tuple[float, ...]  # the primary score, by seed; none if it failed
    seconds: tuple[float, ...]  # of training, by seed
    reason: str = ""  # why it failed

    @property
    def value(self) -> float:
        """The mean score; NaN if it failed."""
        return fmean(self.scores) if self.scores else math.nan

    @property
    def cost(self) -> float:
        """The seconds of training of its fastest seed, for other work on the machine only adds; NaN if none ended."""
        return min(self.seconds, default=math.nan)


@dataclass(frozen=True)
class Found:
    """What a search has found for one method."""

    method: str
    tried: tuple[Tried, ...]  # by number
    importance: Mapping[str, float]  # by setting; empty if there are too few trials to tell
    log: frozenset[str]  # settings that were searched evenly in the logarithm
    limit: float | None  # seconds of training

    @property
    def ranked(self) -> list[Tried]:
        """The complete trials, the best first; of equals the earlier."""
        complete = [each for each in self.tried if each.state == COMPLETE]
        return sorted(complete, key=lambda each: (-each.value, each.number))

    def is_slow(self, each: Tried) -> bool:
        """Whether a trial took longer than the limit."""
        return self.limit is not None and each.cost > self.limit

    @property
    def winner(self) -> Tried | None:
        """The best complete trial within the limit; None if there is none."""
        return next((each for each in self.ranked if not self.is_slow(each)), None)

    @property
    def slower(self) -> list[Tried]:
        """Better trials than the winner that took too long."""
        best = self.winner.value if self.winner else -math.inf
        return [each for each in self.ranked if self.is_slow(each) and each.value > best]


@dataclass(frozen=True)
class Searched:
    """A search, as far as it has come."""

    name: str
    task: str
    score: Score
    terms: str  # budget, seeds and episodes in words
    found: tuple[Found, ...]


def shown(value: Any) -> str:
    """Write the value of a setting."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def recipe(each: Tried) -> str:
    """Write the searched settings of a trial."""
    return ", ".join(f"{name} {shown(value)}" for name, value in each.params.items())


def winners_table(searched: Searched) -> Table:
    """Return a row per method: budget as it was spent, and the winner."""
    rows = []
    for each in searched.found:
        counts = [str(sum(one.state == state for one in each.tried)) for state in (COMPLETE, PRUNED, FAILED)]
        best = each.winner
        told = ("none", "", "", "", "") if best is None else (str(best.number), *_figures(searched, best), recipe(best))
        rows.append((each.method, *counts, *told))
    columns = ("method", COMPLETE, PRUNED, FAILED, "winner", searched.score.short, "by seed", "seconds", "settings")
    return Table("Winners", columns, rows, searched.terms)


def best_table(searched: Searched) -> Table:
    """Return the best complete trials of every method, those over the limit of time marked."""
    rows = [
        (f"{each.method} {one.number}", *_figures(searched, one), "too slow" if each.is_slow(one) else "", recipe(one))
        for each in searched.found
        for one in each.ranked[:MOST_SHOWN]
    ]
    note = (
        "The best of many trials owes a part of its score to luck: neighbours in this table whose scores by seed "
        "overlap are not told apart by it. A verdict needs fresh seeds and episodes: give the presets to a study. "
        "Seconds are of training, of the fastest seed, as measured here: on a machine with other work they are noisy."
    )
    columns = ("trial", searched.score.short, "by seed", "seconds", "limit", "settings")
    return Table(f"The best trials of each method, {MOST_SHOWN} at most", columns, rows, note)


def _figures(searched: Searched, each: Tried) -> tuple[str, str, str]:
    scores = ", ".join(map(searched.score.text, each.scores))
    return searched.score.text(each.value), scores, f"{each.cost:.1f}"


def failures(searched: Searched) -> list[str]:
    """Return a line for each trial that failed."""
    return [
        f"{each.method} trial {one.number} failed: {one.reason}"
        for each in searched.found
        for one in each.tried
        if one.state == FAILED
    ]


def notes(searched: Searched) -> list[str]:
    """Return a line for each trial that failed, and for each that won but for the limit of time."""
    return failures(searched) + [
        f"{each.method} trial {one.number} has {searched.score.text(one.value)}, and is not taken: it trained for "
        f"{one.cost:.1f} s, and the limit is {each.limit:g} s"
        for each in searched.found
        for one in each.slower
    ]


def search_text(searched: Searched) -> str:
    """Return the tables for a terminal."""
    parts = [winners_table(searched).text(), best_table(searched).text(), "\n".join(notes(searched))]
    return "\n\n".join(part for part in parts if part)


def search_markdown(searched: Searched) -> str:
    """Return the report as Markdown."""
    lines = [f"- {line}" for line in notes(searched)]
    parts = [f"# Search {searched.name}", f"Task {searched.task}.", winners_table(searched).markdown()]
    parts += [best_table(searched).markdown(), "\n".join(lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def search_csv(searched: Searched) -> str:
    """Return a row per trial, with full digits."""
    settings = list(dict.fromkeys(name for each in searched.found for one in each.tried for name in one.params))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["method", "trial", "state", "score", "scores", "seconds", *settings])
    for each in searched.found:
        for one in each.tried:
            scores = " ".join(map(repr, one.scores))
            value = repr(one.value) if one.scores else ""
            seconds = f"{one.cost:.2f}" if one.seconds else ""
            row = [one.method, one.number, one.state, value, scores, seconds]
            writer.writerow([*row, *(one.params.get(name, "") for name in settings)])
    return buffer.getvalue()
