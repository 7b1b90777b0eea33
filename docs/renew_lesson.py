"""Put what smaller studies would have said between the marks of docs/explanation/what_it_takes.md, with its figure.

    python -m docs.renew_lesson [NAME]

takes the episodes of a suite, by default `suite`, from the store or docs/episodes/, or those of one study in the store.
The example is the first task's.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from docs.command import command
from docs.marks import renew
from docs.picture import save_small
from docs.published import publish
from pipeline.errors import SettingsError
from pipeline.report.comparison import Comparison, over_starts
from pipeline.report.planning import needed, routes_of, spread_of
from pipeline.report.small_studies import (
    DRAWS,
    Pair,
    Part,
    Size,
    draw_parts,
    judge_part,
    sizes_of,
    summarise_parts,
)
from pipeline.report.small_study_figures import draw_small_studies, words_for
from pipeline.report.tables import Table
from pipeline.results.gather import gather
from pipeline.streams import numpy_stream
from pipeline.tracking.store import open_store

PAGE = Path(__file__).resolve().parent / "explanation" / "what_it_takes.md"
FIGURE = PAGE.with_name("small_studies.png")
SUITE = "suite"
MODELS, EPISODES = 3, 100  # of the small study that is looked at most closely; a study has twice as much at least
SHOWN = 10  # parts in a panel of the figure


def pairs_of(comparison: Comparison) -> list[Pair]:
    """The first group of models beside each other one, by the primary score; only groups that were evaluated."""
    design, better = comparison.design, comparison.primary.better
    found = [
        (group.name, y)
        for group in comparison.of_kind("model")
        if (y := over_starts(group, design.primary)) is not None
    ]
    return [Pair((found[0][0], name), found[0][1], y, design.margin, better) for name, y in found[1:]]


def of_methods(pairs: Sequence[Pair]) -> list[Pair]:
    """Those of two methods with their own settings."""
    return [pair for pair in pairs if not any(" " in name for name in pair.names)]


def parts_of(pair: Pair, models: int, episodes: int, draws: int = DRAWS) -> list[Part]:
    """Parts of a size, the same ones each time."""
    return draw_parts(pair, models, episodes, draws, numpy_stream(0, "small studies", models, episodes))


def share(value: float) -> str:
    """A share as a percentage that is 0 or 100 only if it is exactly."""
    text = f"{value:.0%}"
    if text == "0%" and value > 0:
        return "< 1%"
    return "> 99%" if text == "100%" and value < 1 else text


def span(part: Part, digits: int) -> str:
    """A 95% interval."""
    return f"[{part.interval.low:.{digits}f}, {part.interval.high:.{digits}f}]" if part.interval else "none"


def named_parts(pair: Pair) -> list[tuple[str, Part]]:
    """Studies that a plain reader would have made: the first models, the first episodes, and those after them."""
    n, m, starts = len(pair.first), len(pair.second), range(pair.starts)
    few, few_more = range(MODELS), range(MODELS, 2 * MODELS)
    some, some_more = range(EPISODES), range(EPISODES, 2 * EPISODES)
    every = f"all {pair.models} models"
    chosen = [
        (f"{every}, all {pair.starts:,} episodes", range(n), range(m), starts),
        (f"{every}, the first {EPISODES} episodes", range(n), range(m), some),
        (f"{every}, the next {EPISODES}: another draw", range(n), range(m), some_more),
        (f"the first {MODELS} models, all episodes", few, few, starts),
        (f"the next {MODELS} models, all episodes", few_more, few_more, starts),
        (f"the first {MODELS} models, the first {EPISODES} episodes", few, few, some),
        (f"the next {MODELS} models, the next {EPISODES} episodes", few_more, few_more, some_more),
    ]
    return [(label, judge_part(pair, *each)) for label, *each in chosen]


def named_table(pair: Pair, digits: int) -> Table:
    """The verdicts of these studies."""
    words = words_for(pair)
    rows = [
        (label, f"{part.difference:+.{digits}f}", span(part, digits), words[part.word])
        for label, part in named_parts(pair)
    ]
    first, second = pair.names
    return Table(f"{first} minus {second}", ("study", "difference", "95% interval", "verdict"), rows)


def size_table(pair: Pair, sizes: Sequence[Size], digits: int) -> Table:
    """What parts of every size say."""
    words, decided = words_for(pair), pair.whole.word != "undecided"
    rows = [
        (
            f"{size.models}",
            f"{size.episodes:,}",
            "none" if size.half_width is None else f"{size.half_width:.{digits}f}",
            *(share(size.words.get(word, 0.0)) for word in words),
            share(size.contradicting) if decided else "-",
            share(size.contradicting_alone) if decided else "-",
            share(size.reversed),
        )
        for size in sizes
    ]
    shown = words | {"equivalent": "equivalent"}
    columns = ("models", "episodes", "half-width", *shown.values())
    columns += ("contradicts", "by models alone", "other mean ahead")
    of_all = ", ".join(str(size.parts) for size in sizes if size.models == pair.models)
    note = (
        f"Of each size {DRAWS} random choices of models, each on every stretch of so many episodes. All models are one "
        f"choice: {of_all} studies."
    )
    return Table(f"Small studies of {' and '.join(pair.names)}", columns, rows, note)


def needs_text(pair: Pair) -> str:
    """Models and episodes that would probably decide, the fewest models first."""
    spread = spread_of(pair.first, pair.second)
    needs = needed(spread, routes_of(pair.whole.difference, pair.margin)) if spread else []
    return f"{needs[0].models} on {needs[0].episodes:,}" if needs else "out of reach"


def pair_table(found: Sequence[tuple[str, Pair]]) -> Table:
    """All pairs, the largest difference first, and what small studies would have said of each."""
    rows = []
    for task, pair in sorted(found, key=lambda each: -abs(each[1].whole.difference)):
        if pair.models <= MODELS or pair.starts <= EPISODES:
            continue
        whole = pair.whole
        size = summarise_parts(parts_of(pair, MODELS, EPISODES), whole)
        rows.append(
            (
                task,
                " minus ".join(pair.names),
                f"{whole.difference:+.3f} {span(whole, 3)}",
                words_for(pair)[whole.word],
                share(size.words.get(whole.word, 0.0)),
                share(size.words.get("undecided", 0.0)),
                share(size.contradicting) if whole.word != "undecided" else "-",
                share(size.reversed),
                needs_text(pair),
            )
        )
    columns = (
        "task", "pair", "difference, 95% interval", "of these two alone", "the same", "undecided", "contradicts",
        "other mean ahead", "would take",
    )  # fmt: skip
    return Table(f"{MODELS} models on {EPISODES} episodes, beside the whole study", columns, rows)


def sentences(pair: Pair, sizes: Sequence[Size], digits: int) -> list[str]:
    """What the table of sizes says, in words."""
    by_size = {(size.models, size.episodes): size for size in sizes}
    one, few = by_size[1, EPISODES], by_size[MODELS, EPISODES]
    all_models, whole = by_size[pair.models, EPISODES], pair.whole
    words = {word: text for word, text in words_for(pair).items() if word in few.words}
    told = ", ".join(f"{share(few.words[word])} *{text}*" for word, text in words.items())
    lines = [
        f"{MODELS} models and {EPISODES} episodes: {told}.",
        f"One model of each method has no interval. The mean of the wrong method is ahead in {share(one.reversed)} of "
        f"the studies with {EPISODES} episodes.",
    ]
    if whole.word != "undecided":
        lines.append(
            f"{pair.models} models on {EPISODES} episodes: intervals over models alone contradict the whole study in "
            f"{share(all_models.contradicting_alone)}, intervals over models and episodes in "
            f"{share(all_models.contradicting)}."
        )
    if few.half_width and whole.interval:
        half = (whole.interval.high - whole.interval.low) / 2
        lines.append(
            f"The interval is ± {half:.{digits}f} with everything, and ± {few.half_width:.{digits}f} with {MODELS} "
            f"models and {EPISODES} episodes."
        )
    return lines


def panels_of(pair: Pair) -> dict[str, list[Part]]:
    """The panels of the figure: episodes drawn, models drawn, both."""
    few = parts_of(pair, MODELS, EPISODES, 1)
    return {
        f"{pair.models} models, {EPISODES} episodes:\nother episodes": parts_of(pair, pair.models, EPISODES, 1)[:SHOWN],
        f"{MODELS} models, {pair.starts:,} episodes:\nother models": parts_of(pair, MODELS, pair.starts, SHOWN),
        f"{MODELS} models, {EPISODES} episodes:\nother models and episodes": few[:SHOWN],
    }


def render(pair: Pair, found: Sequence[tuple[str, Pair]], about: str, digits: int = 4) -> dict[str, str]:
    """What stands between the marks, by the name of the part: of the example, and of all pairs by task."""
    sizes = [summarise_parts(parts_of(pair, *size), pair.whole) for size in sizes_of(pair)]
    picture = f"![95% intervals of small studies, over that of the whole study]({FIGURE.name})"
    bullets = "\n".join(f"* {line}" for line in sentences(pair, sizes, digits))
    return {
        "example": "\n\n".join([about, picture, named_table(pair, digits).markdown()]),
        "sizes": "\n\n".join([size_table(pair, sizes, digits).markdown(), bullets]),
        "pairs": pair_table(found).markdown(),
    }


def told(comparison: Comparison, pair: Pair) -> str:
    """What the example is."""
    task, design = comparison.task.name, comparison.design
    return (
        f"The example: {' and '.join(pair.names)} on the task [{task}](../tasks/{task}.md), {pair.models} models "
        f"per method, {pair.starts:,} episodes in each of {len(comparison.conditions)} conditions ({comparison.title}, "
        f"episodes of seed {design.seed}). Score: {comparison.primary.short}."
    )


def example_of(comparison: Comparison) -> Pair:
    """The first two methods, or groups; raises `SettingsError` if they are too small to have small studies inside."""
    pairs = pairs_of(comparison)
    pair = next(iter([*of_methods(pairs), *pairs]), None)
    if pair is None or pair.models < 2 * MODELS or pair.starts < 2 * EPISODES:
        raise SettingsError(
            f"{comparison.title}: expected two groups of {2 * MODELS} models or more, evaluated on {2 * EPISODES} "
            "episodes per condition or more, found less. Name another study."
        )
    return pair


@command
def main(words: Sequence[str]) -> int:
    """Renew the page and its figure from the store."""
    name, store = words[0] if words else SUITE, open_store()
    tasks = publish(store, name).suite
    comparisons = list(tasks.values()) or [gather(store, name).comparison]
    pair = example_of(comparisons[0])
    chosen = of_methods if tasks else list  # of many tasks the table would be long
    found = [(each.task.name, pair) for each in comparisons for pair in chosen(pairs_of(each))]
    renew(PAGE, render(pair, found, told(comparisons[0], pair)))
    save_small(draw_small_studies(pair, comparisons[0].primary.short, panels_of(pair)), FIGURE)
    print(f"renewed {PAGE.name} and {FIGURE.name} in docs/explanation/")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
