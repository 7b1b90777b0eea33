"""Two ways of doing the same, measured in turns: rates, their ratios round by round, a table and a picture."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from pipeline.report.plotting import LOOKS, save
from pipeline.report.tables import Table

ROUNDS = 5

Block = Callable[[], int]
"""A stretch of work; returns how many units it did."""
Rounds = NDArray[np.float64]
"""One number a round `(R,)`, or `(1,)` for what was measured once."""


@dataclass(frozen=True)
class Row:
    """One comparison, both sides in `unit`. The ratio says how many times better ours is."""

    subject: str  # what the rows of one colour share
    measure: str
    unit: str
    ours: Rounds
    original: Rounds
    less_is_better: bool = False
    at_least: bool = False  # the original's side is a lower bound, so the ratio is one
    p99: tuple[float, float] | None = None  # of ours and the original's, in `unit`
    failed: str = ""  # why there is nothing to compare: ours did not get there

    @property
    def ratio(self) -> tuple[float, float, float]:
        """Median, lowest and highest over rounds."""
        ratios = self.original / self.ours if self.less_is_better else self.ours / self.original
        return float(np.median(ratios)), float(ratios.min()), float(ratios.max())

    def as_json(self) -> dict[str, object]:
        """Plain values, all rounds included."""
        rounds = {"ours": self.ours.tolist(), "original": self.original.tolist()}
        ratio = {} if self.failed else dict(zip(("ratio", "ratio_low", "ratio_high"), self.ratio, strict=True))
        return vars(self) | rounds | ratio


def take_turns(blocks: Mapping[str, Block]) -> dict[str, Rounds]:
    """Units/s of each block in ROUNDS rounds of all; one round more goes before, to warm up."""
    rates: dict[str, list[float]] = {name: [] for name in blocks}
    for _ in range(ROUNDS + 1):
        for name, block in blocks.items():
            started = time.perf_counter()
            units = block()
            rates[name].append(units / (time.perf_counter() - started))
    return {name: np.array(found[1:]) for name, found in rates.items()}


def middle(side: Rounds) -> float:
    """The median over rounds."""
    return float(np.median(side))


def number(value: float) -> str:
    """A positive number to three digits: 0.0123, 1.23, 12.3, 123, 12,300."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.{max(0, 2 - math.floor(math.log10(rounded)))}f}"


def table(rows: Sequence[Row], title: str) -> str:
    """Medians of both sides, and the ratio with its range, as aligned text."""
    cells = []
    for row in rows:
        ratio, low, high = row.ratio
        sides = [number(middle(side)) for side in (row.ours, row.original)]
        p99 = " / ".join(map(number, row.p99)) if row.p99 else ""
        times = row.failed or f"{'>= ' if row.at_least else ''}{number(ratio)}"
        spread = "" if row.failed else f"{number(low)} - {number(high)}"
        cells.append((f"{row.subject}, {row.measure}", *sides, row.unit, times, spread, p99))
    columns = ("", "ours", "original", "unit", "times", "range", "p99")
    return Table(title, columns, cells).text()


def draw(path: Path, rows: Sequence[Row], title: str) -> None:
    """A bar a row from 1 on a logarithmic axis, under a heading a subject; whiskers are the range over rounds."""
    subjects = list(dict.fromkeys(row.subject for row in rows))
    places = [place + subjects.index(row.subject) + 1 for place, row in enumerate(rows)]  # headings take places too
    headings = {row.subject: place - 1 for place, row in reversed(list(zip(places, rows, strict=True)))}
    figure = Figure(figsize=(9.6, 0.36 * (len(rows) + len(subjects)) + 1.4), layout="constrained")
    axes = figure.subplots()
    for place, row in zip(places, rows, strict=True):
        axes.annotate(
            row.failed or f"{number(middle(row.ours))} against {number(middle(row.original))} {row.unit}",
            (1.01, place), xycoords=("axes fraction", "data"), va="center", color="0.35", fontsize=9,
            annotation_clip=False,
        )  # fmt: skip
        if row.failed:
            continue
        ratio, low, high = row.ratio
        colour = LOOKS[subjects.index(row.subject)]["color"]
        face = {"facecolor": "white", "edgecolor": colour, "hatch": "////"} if row.at_least else {"color": colour}
        axes.barh(place, ratio - 1, left=1, height=0.7, **face)
        axes.errorbar(ratio, place, xerr=[[ratio - low], [high - ratio]], color="black", capsize=3, linewidth=1.2)
        times = f"{'at least ' if row.at_least else ''}{number(ratio)}x"
        axes.annotate(times, (max(1, high), place), (7, 0), textcoords="offset points", va="center", fontweight="bold")
    axes.set_xscale("log")
    found = [row.ratio for row in rows if not row.failed]
    lowest, highest = min(low for _, low, _ in found), max(high for _, _, high in found)
    axes.set_xlim(min(1, 0.9 * lowest), 2.8 * highest)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks([*headings.values(), *places], [*headings, *(row.measure for row in rows)])
    for label in axes.get_yticklabels()[: len(headings)]:
        label.set(fontweight="bold", color=LOOKS[subjects.index(label.get_text())]["color"])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(places[-1] + 0.6, -0.6)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("times better than the original's way; whiskers: lowest and highest round")
    figure.suptitle(title)
    save(figure, path)
