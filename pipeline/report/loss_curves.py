"""Loss curves: of one run, and of all models of a comparison."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.report.group_styles import Style
from pipeline.report.plotting import Figure, MaxNLocator, plain, save

# Okabe and Ito's colours, which the colour-blind can distinguish; line styles and markers differ as well.
STYLES = {
    "train": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "val": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "test": {"color": "#009E73", "linestyle": ":", "marker": "^"},
}
LOG_RATIO = 8  # above this ratio of largest to smallest loss, a linear axis would hide the end


def is_wide(values: Sequence[float]) -> bool:
    """Tell whether losses need a logarithmic axis."""
    return min(values, default=0) > 0 and max(values) > LOG_RATIO * min(values)


@plain()
def draw_loss_curves(
    path: Path, title: str, losses: Mapping[str, Sequence[float]], best_epoch: int, quantity: str
) -> None:
    """Write a picture of the losses per epoch (keys train, val, test) to `path`, with the kept epoch marked."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    epochs = range(1, len(losses["train"]) + 1)
    for name, values in losses.items():
        axes.plot(epochs, values, label=name, markersize=4, linewidth=1.6, **STYLES[name])  # type: ignore[arg-type]
    axes.axvline(best_epoch, color="0.6", linewidth=1, zorder=0)
    best = losses["val"][best_epoch - 1]
    axes.annotate(
        f"kept: epoch {best_epoch}, val {best:.4f}",
        (best_epoch, best),
        xytext=(-8, 28),
        textcoords="offset points",
        horizontalalignment="right" if best_epoch > len(epochs) / 2 else "left",
        arrowprops={"arrowstyle": "-", "color": "0.5"},
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},  # it may lie on a line
    )
    if is_wide([value for values in losses.values() for value in values]):
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title=title, xlabel="epoch", ylabel=quantity)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")
    save(figure, path)


CURVES = {"train": ":", "val": "-", "test": "--"}


@plain()
def draw_losses(
    title: str, curves: Mapping[str, Mapping[str, Sequence[Sequence[float]]]], styles: Mapping[str, Style]
) -> Figure:
    """Loss curves of all models, thin, and their mean, thick: `curves[group]["val"]` has one list per model."""
    figure = Figure(figsize=(5.4 * len(curves), 4.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(curves)))
    for axes, (group, parts) in zip(panels, curves.items(), strict=True):
        colour = styles[group]["color"]
        for part, line in CURVES.items():
            members = [values for values in parts.get(part, ()) if len(values)]
            for values in members:
                epochs = range(1, len(values) + 1)
                axes.plot(epochs, values, line, color=colour, linewidth=0.6, alpha=0.5)
            if members:
                longest = max(map(len, members))
                table = np.array([[*values, *[np.nan] * (longest - len(values))] for values in members])
                mean = np.nanmean(table, axis=0)
                marker = {"train": "^", "val": "o", "test": "s"}[part]
                axes.plot(
                    range(1, longest + 1), mean, line, color=colour, linewidth=2.2, marker=marker, markersize=5,
                    label=f"{part}, mean of {len(members)}",
                )  # fmt: skip
        every = [value for members in parts.values() for values in members for value in values]
        if is_wide(every):
            axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set(title=group, xlabel="epoch", ylabel="loss (units differ between methods)")
        axes.grid(alpha=0.25)
        axes.legend()
    figure.suptitle(f"Losses of {title}: thin lines are models")
    return figure
