"""The figure of small studies: their intervals, over that of the study that they are parts of."""

from collections.abc import Mapping, Sequence

from pipeline.report.plotting import LOOKS, Axes, Figure, Line2D, plain
from pipeline.report.small_studies import Pair, Part
from pipeline.report.statistics import Word

STYLES: Mapping[Word, tuple[str, str]] = {
    "better": (LOOKS[0]["color"], "o"),
    "worse": (LOOKS[1]["color"], "s"),
    "equivalent": (LOOKS[2]["color"], "^"),
    "undecided": ("0.55", "D"),
}
"""Colour and marker of each word; the markers tell the words apart without colours."""


def words_for(pair: Pair) -> dict[Word, str]:
    """Each verdict as a heading that names the better group."""
    first, second = pair.names
    return {
        "better": f"{first} is better",
        "equivalent": f"equivalent within {pair.margin:g}",
        "undecided": "undecided",
        "worse": f"{second} is better",
    }


@plain()
def draw_small_studies(pair: Pair, score: str, panels: Mapping[str, Sequence[Part]]) -> Figure:
    """Draw the 95% intervals of the parts of each panel, by its title, over the whole study's; the margin is shaded."""
    whole, words = pair.whole, words_for(pair)
    rows = max(map(len, panels.values()))
    figure = Figure(figsize=(3.6 * len(panels) + 0.4, 0.26 * rows + 2.2), layout="constrained")
    row_of_axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (title, parts) in zip(row_of_axes, panels.items(), strict=True):
        axes.axvspan(-pair.margin, pair.margin, color="0.92", zorder=0)
        axes.axvline(0, color="0.5", linewidth=1, zorder=1)
        if whole.interval:
            axes.axvspan(whole.interval.low, whole.interval.high, color=STYLES[whole.word][0], alpha=0.18, zorder=1)
        for row, part in enumerate(parts):
            _draw_part(axes, row, part)
        _draw_part(axes, rows + 1, whole, width=4)
        axes.set_title(title, fontsize=10)
        axes.set_yticks([rows + 1], ["whole study"])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(rows + 1.8, -0.8)
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.set_xlabel(f"{pair.names[0]} minus {pair.names[1]}, {score}")
    shown = {part.word for parts in panels.values() for part in parts} | {whole.word}
    handles = [
        Line2D([], [], color=colour, marker=marker, linewidth=2.5, label=words[word])
        for word, (colour, marker) in STYLES.items()
        if word in shown
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(f"Each line is a study that could have been made: 95% interval. Grey: within ±{pair.margin:g}")
    return figure


def _draw_part(axes: Axes, row: int, part: Part, width: float = 2.5) -> None:
    colour, marker = STYLES[part.word]
    if part.interval:
        axes.hlines(row, part.interval.low, part.interval.high, color=colour, linewidth=width, zorder=2)
    axes.plot(part.difference, row, marker, color=colour, markersize=6, zorder=3)
