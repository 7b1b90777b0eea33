"""How often do the report's intervals hold the truth? Simulated coverage of every interval that it prints.

    python -m benchmarks.coverage [REPETITIONS] [--outcome NAME ...]

All outcomes by default. With --outcome the figures of all others are kept.

The interval of a group and of a difference, in one condition and for the mean over three conditions with common starts,
and the exact bound where no interval is printed: for 2 to 20 models and 100, 900 and 3,000 episodes. Of differences
over the conditions also the 90% interval, which says that two groups are equivalent, and that of 99.2%, which is Holm's
for the first of six pairs. And the interval over models alone, of losses and costs: a number of each model. An outcome
is a function of a normal number: the sum of effects of the model, of the start, of method and episode, and of what is
left. So the truth is integrated, not simulated. Cells are parts of one draw: the first models and episodes of it. Of
two thousand some come out below what is promised by chance: those are drawn again, ten times as often. Outcomes called
"same weights" are of two groups that share their models, and are compared model by model.

Prints a table, writes benchmarks/results/coverage.json, and renews the table in docs/explanation/evaluation.md.
"""

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from docs.marks import renew
from docs.result_pages import grid, wrapped
from pipeline.cli.console import OUT
from pipeline.files import whole_file
from pipeline.report.statistics import (
    ALPHA,
    Interval,
    difference_estimate,
    group_estimate,
    over_conditions,
    share_bound,
)
from pipeline.report.tables import Table
from pipeline.streams import numpy_stream

Floats = NDArray[np.float64]

REPETITIONS = 1500
MODELS = (2, 3, 4, 5, 6, 10, 20)
EPISODES = (100, 900, 3000)
EASIER = np.array([0.0, 0.25, 0.5])  # what is added in each condition, in standard deviations of the sum
OTHERS = (0.9, 1 - 0.05 / 6)  # levels of differences
RARE = 0.2  # share of repetitions below which those that print an interval are themselves a choice of unusual ones
NOTE = "Coverage of the intervals that are printed (share of the repetitions that print one, if it is not all of them)."
RESULTS = Path(__file__).parent / "results" / "coverage.json"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "explanation" / "evaluation.md"
ENOUGH = 6  # models from which on degrees of freedom are Satterthwaite's
COLUMNS = (
    ("group, 2 to 5 models", "group, ", False),
    ("6 to 20", "group, ", True),
    ("difference, 2 to 5", "difference, ", False),
    ("6 to 20", "difference, ", True),
    ("models alone", "models alone", None),
    ("bound", "bound, ", None),
)
"""Columns of the page: head, how the names of their intervals begin, whether there are enough models (None: either)."""


@dataclass(frozen=True)
class Outcome:
    """What is scored, of a normal number, and the standard deviations that make up the number."""

    name: str
    score: Callable[[Floats], Floats]
    truth: Callable[[Floats, float], Floats]  # mean score of normal numbers of this mean and standard deviation
    first: float  # mean of the numbers of the first method
    second: float
    models: float
    starts: float
    own: float  # of a method in an episode
    rest: float
    correlation: float | None = None  # of a model's two effects, where both groups have the same models

    @property
    def sd(self) -> float:
        """The standard deviation of the sum."""
        return float(np.sqrt(self.models**2 + self.sd_of_a_model**2))

    @property
    def sd_of_a_model(self) -> float:
        """The same over the episodes of one model."""
        return float(np.sqrt(self.starts**2 + self.own**2 + self.rest**2))


@dataclass(frozen=True)
class Cell:
    """The coverage of one kind of interval."""

    outcome: str
    interval: str
    models: int
    episodes: int  # 0 of numbers of whole models
    printed: float  # share of the repetitions
    covered: float | None  # share of those printed; None if none is
    level: float = 0.95
    repetitions: int = REPETITIONS

    @property
    def least(self) -> float:
        """The share that is promised: 93% of 95% intervals, and as many more that miss at other levels."""
        return 1 - 1.4 * (1 - self.level)


def same(z: Floats) -> Floats:
    """The number itself."""
    return z


def same_truth(mean: Floats, sd: float) -> Floats:
    """Its mean."""
    return mean


def exp_truth(mean: Floats, sd: float) -> Floats:
    """The mean of exp(z)."""
    found: Floats = np.exp(mean + sd**2 / 2)
    return found


def step(z: Floats) -> Floats:
    """An episode that succeeds or fails."""
    return (z > 0).astype(np.float64)


def step_truth(mean: Floats, sd: float) -> Floats:
    """The chance of success."""
    chance: Floats = norm.cdf(mean / sd)
    return chance


def share(z: Floats) -> Floats:
    """A share of an episode, with some at 0 and at 1."""
    return np.clip(z, 0, 1)


def share_truth(mean: Floats, sd: float) -> Floats:
    """Its mean: that of (z - 0)+ minus that of (z - 1)+."""
    above = [(mean - k) * norm.cdf((mean - k) / sd) + sd * norm.pdf((mean - k) / sd) for k in (0, 1)]
    mean_share: Floats = above[0] - above[1]
    return mean_share


def at(chance: float, sd: float) -> float:
    """The mean of numbers that are positive with this chance."""
    return float(norm.ppf(chance) * sd)


OUTCOMES = (
    Outcome("normal", same, same_truth, 0.3, 0, models=0.1, starts=1, own=0.5, rest=1),
    Outcome("normal, models differ much", same, same_truth, 0.3, 0, 1, starts=1, own=0.5, rest=1),
    Outcome("skewed", np.exp, exp_truth, 0.1, 0, 0.05, starts=0.6, own=0.3, rest=0.6),
    Outcome("like calm", share, share_truth, 0.92, 0.9, models=0.01, starts=0.3, own=0.1, rest=0.25),
    Outcome("like converge", step, step_truth, at(0.93, 1), at(0.92, 1), 0.04, starts=0.6, own=0.3, rest=0.74),
    Outcome("models differ much", step, step_truth, at(0.8, 1), at(0.7, 1), 0.15, starts=0.6, own=0.3, rest=0.74),
    Outcome("near the ceiling", step, step_truth, at(0.999, 1), at(0.995, 1), 0.04, starts=0.6, own=0.3, rest=0.74),
    Outcome("at the ceiling", step, step_truth, at(0.9999, 1), at(0.999, 1), 0.04, starts=0.6, own=0.3, rest=0.74),
    Outcome("no difference", step, step_truth, at(0.93, 1), at(0.93, 1), 0.04, starts=0.67, own=0, rest=0.74),
    Outcome("one policy twice", share, share_truth, 0.9, 0.9, models=0.0, starts=0.3, own=0, rest=0.25),
    Outcome(
        "same weights, alike", share, share_truth, 0.92, 0.9, 0.05, starts=0.3, own=0.1, rest=0.25, correlation=0.9
    ),
    Outcome("same weights, opposed", share, share_truth, 0.92, 0.9, 0.05, 0.3, own=0.1, rest=0.25, correlation=-0.5),
)

BEYOND = (
    Outcome(
        "beyond: models differ more", step, step_truth, at(0.8, 1), at(0.7, 1), 0.3, starts=0.6, own=0.3, rest=0.74
    ),
    Outcome(
        "beyond: some models fail", step, step_truth, at(0.95, 1.4), at(0.8, 1.4), 1, starts=0.6, own=0.3, rest=0.74
    ),
)
"""What is not promised: models that differ so much that their means are skewed, in the end most at 1 and some far."""


def simulate(
    outcome: Outcome, repetitions: int, models: tuple[int, ...] = MODELS, episodes: tuple[int, ...] = EPISODES
) -> list[Cell]:
    """Draw two groups again and again, and count the intervals that hold the truth."""
    random = numpy_stream(0, "coverage", outcome.name)
    n, count, conditions = max(models), max(episodes), len(EASIER)
    centres = [mean + EASIER * outcome.sd for mean in (outcome.first, outcome.second)]
    truths = [outcome.truth(centre, outcome.sd) for centre in centres]
    rho, paired = outcome.correlation or 0.0, outcome.correlation is not None
    held: dict[tuple[str, int, int, float], list[bool]] = {}

    def note(
        name: str, cell: tuple[int, int], interval: Interval | None, truth: float, level: float = 1 - ALPHA
    ) -> None:
        found = held.setdefault((name, *cell, level), [])
        if interval is not None:
            found.append(interval.low <= truth <= interval.high)

    for _ in range(repetitions):
        starts = outcome.starts * random.standard_normal(count)
        effects: list[Floats] = []
        groups = []
        for centre in centres:
            drawn = outcome.models * random.standard_normal(n)
            if effects and paired:
                drawn = rho * effects[0] + np.sqrt(1 - rho**2) * drawn
            effects.append(drawn)
            own = outcome.own * random.standard_normal((conditions, count))
            z = outcome.rest * random.standard_normal((n, conditions, count), dtype=np.float32)
            groups.append(outcome.score(z + effects[-1][:, None, None] + (centre[:, None] + own + starts)))
        for k in models:
            # what the first models reach on all episodes, for the bound
            given = outcome.truth(centres[0] + effects[0][:k, None], outcome.sd_of_a_model)
            alone = group_estimate(given.mean(1))
            note("models alone", (k, 0), alone.interval() if alone else None, float(truths[0].mean()))
            for e in episodes:
                both = [group[:k, :, :e] for group in groups]
                for where, (first, second), index in (
                    ("one condition", [y[:, 0] for y in both], slice(1)),
                    ("mean of conditions", [over_conditions(y) for y in both], slice(None)),
                ):
                    group, difference = group_estimate(first), difference_estimate(first, second, paired)
                    by_method = [float(truth[index].mean()) for truth in truths]
                    note(f"group, {where}", (k, e), group.interval() if group else None, by_method[0])
                    wanted = by_method[0] - by_method[1]
                    note(f"difference, {where}", (k, e), difference.interval() if difference else None, wanted)
                    if index == slice(None):
                        for level in OTHERS:
                            shown = difference.interval(level) if difference else None
                            note(f"difference at {100 * level:.3g}%", (k, e), shown, wanted, level)
                    if outcome.score in (step, share):
                        bound = share_bound(first) if group is None else None
                        note(f"bound, {where}", (k, e), bound, float(given[:, index].mean()))
    cells = []
    for (name, k, e, level), found in held.items():
        printed, covered = len(found) / repetitions, float(np.mean(found)) if found else None
        cells.append(Cell(outcome.name, name, k, e, printed, covered, level, repetitions))
    return cells


def below(cell: Cell) -> bool:
    """Whether an interval that is printed often enough holds less than is promised."""
    return cell.covered is not None and cell.covered < cell.least and cell.printed >= RARE


def drawn_again(cell: Cell) -> Cell:
    """The same cell of ten times as many repetitions."""
    (outcome,) = (each for each in (*OUTCOMES, *BEYOND) if each.name == cell.outcome)
    found = simulate(outcome, 10 * cell.repetitions, (cell.models,), (cell.episodes or min(EPISODES),))
    (again,) = (
        each
        for each in found
        if (each.interval, each.episodes, each.level) == (cell.interval, cell.episodes, cell.level)
    )
    return again


def table(cells: list[Cell]) -> Table:
    """A row for each outcome, kind of interval and number of models, a column for each number of episodes."""

    def text(cell: Cell) -> str:
        if cell.covered is None or cell.printed < RARE:
            return f"rare ({cell.printed:.2f})" if cell.printed else "-"
        return f"{cell.covered:.3f}" + (f" ({cell.printed:.2f})" if cell.printed < 1 else "")

    episodes = sorted({cell.episodes for cell in cells})
    rows: dict[tuple[str, ...], dict[int, str]] = {}
    for cell in cells:
        rows.setdefault((cell.outcome, cell.interval, str(cell.models)), {})[cell.episodes] = text(cell)
    shown = [
        (*key, *(found.get(e, "-") for e in episodes)) for key, found in rows.items() if set(found.values()) != {"-"}
    ]
    return Table(NOTE, ("outcome", "interval", "models", *(f"{e} episodes" for e in episodes)), shown)


def span(cells: list[Cell], begins: str, enough: bool | None = None) -> str:
    """The lowest and the highest coverage of the cells in which an interval is printed often enough."""
    found = [
        cell.covered
        for cell in cells
        if cell.covered is not None and cell.printed >= RARE and cell.interval.startswith(begins)
        if enough in (None, cell.models >= ENOUGH)
    ]
    return f"{min(found):.3f} to {max(found):.3f}" if found else "none printed"


def page_part(cells: list[Cell], repetitions: int) -> str:
    """What the page says: a row for each outcome, over all numbers of models and episodes."""
    by_outcome = {each.name: [cell for cell in cells if cell.outcome == each.name] for each in (*OUTCOMES, *BEYOND)}
    rows = [(name, *(span(of, begins, enough) for _, begins, enough in COLUMNS)) for name, of in by_outcome.items()]
    promised = [cell for cell in cells if cell.outcome in {outcome.name for outcome in OUTCOMES}]
    again = [cell for cell in promised if cell.repetitions > repetitions]
    at = [f"the {100 * at:.3g}% interval in {span(promised, f'difference at {100 * at:.3g}%')}" for at in OTHERS]
    about = (
        f"{repetitions:,} repetitions of each cell: 2, 3, 4, 5, 6, 10 and 20 models, 100, 900 and 3,000 episodes, one "
        "condition and the mean over three. The table has the lowest and the highest coverage of the cells in which an "
        f"interval is printed in at least {RARE:.0%} of the repetitions. Differences over the conditions are covered "
        f"by {' and by '.join(at)}, leaving out the outcomes called *beyond*. *Models alone* is the interval of losses "
        f"and costs. Of the {len(promised):,} cells within the promise, {len(again)} came out below it. These were "
        f"drawn again with {10 * repetitions:,} repetitions, and the table has those figures."
    )
    return f"{wrapped(about)}\n\n{grid(('outcomes', *(head for head, *_ in COLUMNS)), rows)}"


def main() -> None:
    """Simulate the outcomes that are asked for."""
    by_name = {outcome.name: outcome for outcome in (*OUTCOMES, *BEYOND)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repetitions", type=int, nargs="?", default=REPETITIONS)
    parser.add_argument("--outcome", choices=by_name, action="append")
    words = parser.parse_args()
    repetitions = words.repetitions
    every = [by_name[name] for name in words.outcome or by_name]
    kept: list[Cell] = []
    if words.outcome:
        published = json.loads(RESULTS.read_text())
        if published["repetitions"] != repetitions:
            parser.error(f"repetitions: expected {published['repetitions']}, as of the others, found {repetitions}")
        kept = [cell for each in published["cells"] if (cell := Cell(**each)).outcome not in words.outcome]
    with ProcessPoolExecutor() as pool:
        cells = [cell for cells in pool.map(simulate, every, [repetitions] * len(every)) for cell in cells]
        promised = {outcome.name for outcome in OUTCOMES}
        chosen = [number for number, cell in enumerate(cells) if below(cell) and cell.outcome in promised]
        for number, cell in zip(chosen, pool.map(drawn_again, [cells[each] for each in chosen]), strict=True):
            cells[number] = cell
    order = list(by_name)
    cells = sorted([*kept, *cells], key=lambda cell: order.index(cell.outcome))
    OUT.print(table(cells).text(), markup=False)
    lines = ",\n".join(json.dumps(asdict(cell)) for cell in cells)
    with whole_file(RESULTS) as temporary:
        temporary.write_text(f'{{"repetitions": {repetitions}, "cells": [\n{lines}\n]}}\n')
    renew(PAGE, {"coverage": page_part(cells, repetitions)})


if __name__ == "__main__":
    main()
