"""The loss curves of one run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.files import whole_file
from pipeline.report.plotting import Figure, MaxNLocator, plain

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
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120)
