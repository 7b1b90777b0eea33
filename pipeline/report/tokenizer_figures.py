"""What FAST costs on given demonstrations, as a picture of four panels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.report.plotting import LOOKS, Axes, Figure, MaxNLocator, logarithmic, look, plain, save
from pipeline.report.tokenizer_cost import ENOUGH, Fitted, TokenizerCost, family


def draw_tokenizer_cost(found: TokenizerCost, path: Path) -> None:
    """Write the picture: error and score against tokens, the spectrum, tokens of a chunk."""
    save(_draw(found), path)


@plain()
def _draw(found: TokenizerCost) -> Figure:
    figure = Figure(figsize=(12, 8), layout="constrained")
    panels = figure.subplots(2, 2)
    _errors(panels[0, 0], found)
    if found.expert is None:
        _dimensions(panels[0, 1], found)
    else:
        _control(panels[0, 1], found)
    _spectrum(panels[1, 0], found)
    _lengths(panels[1, 1], found)
    for axes in panels.flat:
        axes.grid(alpha=0.25)
    figure.suptitle(f"FAST on {found.held_out:,} held-out chunks of {found.task}; in detail: {found.shown.options}")
    return figure


def _families(axes: Axes, found: TokenizerCost, value: str) -> None:
    """Draw one line for two scales and one for a single scale, over tokens; mark the tokenizer that is shown."""
    for number, (mixed, label) in enumerate(((True, "a finer scale for low frequencies"), (False, "one scale"))):
        rows = family(found.rows, mixed)
        heights = [_height(row, value) for row in rows]
        axes.plot([row.cost.tokens.mean() for row in rows], heights, **look(number), label=label)
        for row, height in zip(rows, heights, strict=True):
            axes.annotate(
                f"{row.tokenizer.scale:g}",
                (row.cost.tokens.mean(), height),
                xytext=(5, 5),
                textcoords="offset points",
                fontsize=8,
            )
    mark = "recommended" if found.recommended else "most exact"
    tokens = float(found.shown.cost.tokens.mean())
    axes.plot(
        [tokens], [_height(found.shown, value)], "o", markersize=15, markerfacecolor="none", color="black", label=mark
    )
    axes.set_xlabel("tokens a chunk, mean; beside a mark: the scale")


def _height(row: Fitted, value: str) -> float:
    return row.cost.overall if value == "error" or row.control is None else row.control


def _errors(axes: Axes, found: TokenizerCost) -> None:
    _families(axes, found, "error")
    axes.axhline(ENOUGH, color="0.4", linestyle=":", label=f"enough: {ENOUGH:g}")
    axes.set(title="reconstruction", ylabel="root mean square error, standard deviations")
    logarithmic(axes)
    axes.margins(y=0.12)
    axes.legend(fontsize=8)


def _control(axes: Axes, found: TokenizerCost) -> None:
    assert found.alone is not None, "where there is an expert, its plans are scored"
    _families(axes, found, "control")
    axes.axhline(found.alone, color="black", linewidth=1, label="as planned")
    axes.set(title=f"'{found.expert}', plans encoded and decoded", ylabel=found.short)
    scores = [found.alone, *(row.control for row in found.rows if row.control is not None)]
    axes.set_ylim(min(scores) - 0.1, max(scores) + 0.05)
    axes.legend(fontsize=8, loc="lower right")


def _dimensions(axes: Axes, found: TokenizerCost) -> None:
    error = found.shown.cost.error
    axes.barh(np.arange(len(error)), error, color="#0072B2")
    axes.axvline(ENOUGH, color="0.4", linestyle=":", label=f"enough: {ENOUGH:g}")
    axes.set_yticks(np.arange(len(error)), [channel.label for channel in found.channels])
    axes.invert_yaxis()
    axes.set(title="error by action dimension", xlabel="root mean square error, standard deviations")
    axes.legend(fontsize=8)


def _spectrum(axes: Axes, found: TokenizerCost) -> None:
    cost = found.shown.cost
    for number, (values, label) in enumerate(((cost.spectrum, "chunks"), (cost.error_by_frequency, "error"))):
        over = np.sqrt(np.square(values).mean(1))
        axes.plot(np.arange(len(over)), over, **{**look(number), "marker": ""}, label=label)
    bottom = cost.error_by_frequency[cost.error_by_frequency > 0]
    axes.set(
        title="by frequency, all dimensions", xlabel="frequency of the DCT", ylabel="coefficient, standard deviations"
    )
    if len(bottom):
        logarithmic(axes)
    axes.legend(fontsize=8)


def _lengths(axes: Axes, found: TokenizerCost) -> None:
    tokens = found.shown.cost.tokens
    axes.hist(
        tokens, bins=(np.arange(tokens.min(), tokens.max() + 2) - 0.5).tolist(), color="#56B4E9", edgecolor="white"
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.axvline(float(np.quantile(tokens, 0.99)), color="#D55E00", linestyle="--", label="99th percentile")
    used = f"{found.shown.cost.used} of {found.shown.tokenizer.vocabulary} tokens occur"
    axes.set(
        title=f"length; {used}, {found.shown.cost.entropy:.1f} bits each", xlabel="tokens a chunk", ylabel="chunks"
    )
    axes.legend(fontsize=8, framealpha=1)


@plain()
def draw_tokenizer_tradeoff(rows: Sequence[Mapping[str, float]], chosen: str) -> Figure:
    """FAST with one scale: reconstruction error, alphabet and tokens per chunk against it, one line per vocabulary.

    `chosen` describes the study's tokenizer, if it has one.
    """
    figure = Figure(figsize=(12, 4), layout="constrained")
    error, alphabet, tokens = figure.subplots(1, 3)
    scales = sorted({row["scale"] for row in rows})
    by_scale = [next(row for row in rows if row["scale"] == scale) for scale in scales]
    error.plot(scales, [row["error_mean"] for row in by_scale], **LOOKS[0], label="mean")
    error.plot(scales, [row["error_p99"] for row in by_scale], **LOOKS[1], label="99th percentile")
    error.set(title="reconstruction error", ylabel="|decoded - original|, standard units")
    logarithmic(error)
    error.legend()
    alphabet.plot(scales, [row["alphabet"] for row in by_scale], **LOOKS[0])
    alphabet.set(title="alphabet", ylabel="integers of the training range")
    for number, vocabulary in enumerate(sorted({row["vocabulary"] for row in rows})):
        found = sorted((row["scale"], row["tokens_mean"]) for row in rows if row["vocabulary"] == vocabulary)
        tokens.plot(*zip(*found, strict=True), **look(number), label=f"vocabulary {vocabulary:g}")
    tokens.set(title="tokens per chunk", ylabel="tokens, mean")
    tokens.set_ylim(bottom=0)
    tokens.legend()
    for axes in (error, alphabet, tokens):
        axes.set_xlabel("scale, steps per standard unit")
        axes.grid(alpha=0.25)
    about = f"; this study: {chosen}" if chosen else ""
    figure.suptitle(f"Trade-off of FAST with one scale for all frequencies{about}")
    return figure
