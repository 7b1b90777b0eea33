"""Put the comparison of plans of two lengths between its marks in docs/results.md.

    python -m docs.renew_horizon

takes the studies of the suite `horizon`, which `make horizon` makes, from the store or from docs/episodes/.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from docs.command import command
from docs.marks import renew
from docs.published import publish
from pipeline.errors import SettingsError
from pipeline.report.comparison import Comparison
from pipeline.report.tables import Table
from pipeline.report.verdicts import Verdict
from pipeline.report.words import as_sentence, interval_text
from pipeline.tracking.store import open_store, store_name

PAGE = Path(__file__).resolve().parent / "results.md"
SUITE, PART = "horizon", "horizon"
OWN = re.compile(r" horizon=(\d+)")  # in the name of a group with another horizon than its task


def pairs_of(comparison: Comparison) -> list[Verdict]:
    """The verdicts on a group with the task's horizon and one of the same method with another."""
    verdicts = [each.verdict for each in comparison.contrasts if each.verdict is not None]
    return [
        each
        for each in verdicts
        if OWN.search(each.second) and not OWN.search(each.first) and each.second.split()[0] == each.first.split()[0]
    ]


def row(comparison: Comparison, verdict: Verdict) -> tuple[str, ...]:
    """A row of the table: the task's horizon is the first of the pair."""
    found = OWN.search(verdict.second)
    assert found is not None
    lengths = {verdict.first: str(comparison.task.horizon), verdict.second: found[1]}
    scores = {group.name: group.scores[comparison.design.primary][None] for group in comparison.groups}
    cells = [
        f"{length}: {scores[name].mean:.3f}" + ("" if (std := scores[name].std) is None else f" ± {std:.3f}")
        for name, length in lengths.items()
    ]
    word = f"{lengths[verdict.better]} is better" if verdict.better else verdict.word
    return (
        comparison.task.name,
        OWN.sub("", verdict.second),
        comparison.primary.short,
        *cells,
        f"{verdict.difference:+.4f}",
        interval_text(verdict.interval, 4),
        f"equivalent within {verdict.margin:g}" if word == "equivalent" else word,
    )


def render(comparisons: Sequence[Comparison]) -> str:
    """The table, and of what it is."""
    rows = [row(each, verdict) for each in comparisons for verdict in pairs_of(each)]
    about = "; ".join(f"{each.task.name}: {each.protocol}" for each in comparisons)
    columns = ("task", "method", "score", "long plans", "short plans", "difference", "interval", "verdict")
    note = f"Mean ± standard deviation over models; the difference is long minus short. {as_sentence(about)}."
    return Table("Actions of a plan", columns, rows, note).markdown()


@command
def main(_words: Sequence[str]) -> int:
    """Renew the page from the studies in the store."""
    comparisons = list(publish(open_store(), SUITE).suite.values())
    if not any(map(pairs_of, comparisons)):
        raise SettingsError(f"{store_name()}: expected methods with two horizons in the suite '{SUITE}', found none.")
    renew(PAGE, {PART: render(comparisons)})
    print(f"renewed the part '{PART}' of docs/{PAGE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
