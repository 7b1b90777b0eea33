"""The figure of a report across tasks: a row per task, in it a mark per method on the axis of the primary score."""

import textwrap
from collections.abc import Mapping, Sequence

from pipeline.report.comparison import Comparison, Group
from pipeline.report.group_styles import Style, mark_of, styles_of
from pipeline.report.leaders import best_of, primary_summary, verdict_of
from pipeline.report.plotting import Axes, Figure, Line2D, plain
from pipeline.report.statistics import Interval
from pipeline.report.suite import Suite, methods_of, planners_of

YARDSTICK = "#6e7781"
AXIS = (-0.03, 1.05)
LETTER = 0.0125  # the width of a yardstick's letter on this axis
VERDICT_WIDTH = 26  # letters in a line of a task's verdict
INCHES = 0.165  # the height of a method


@plain()
def draw_suite(title: str, suite: Suite) -> Figure:
    """The primary score of every method on every task: mean, 95% interval or bound, and a dot per model.

    A method has the same place, colour and marker in all rows; those that are best have bold numbers. Grey lines are
    yardsticks that plan as a policy does.
    """
    names = methods_of(suite)
    styles = styles_of({group.name: group.method for each in suite.values() for group in each.of_kind("model")})
    columns = 4
    height = len(suite) * (0.36 + INCHES * len(names)) + 1 + 0.25 * -(-(len(names) + 1) // columns)
    figure = Figure(figsize=(9.5, height), layout="constrained")
    rows = figure.subplots(max(1, len(suite)), 1, squeeze=False, sharex=True)[:, 0].tolist()
    for axes, (name, comparison) in zip(rows, suite.items(), strict=False):
        _draw_task(axes, name, comparison, styles)
    rows[-1].set_xlabel("primary score of the task")
    marks = [Line2D([], [], **mark_of(styles[name]), markersize=8, label=name) for name in names]
    marks.append(Line2D([], [], color=YARDSTICK, linestyle=":", label="a controller that plans in the simulator"))
    legend = figure.legend(handles=marks, loc="outside lower center", ncols=columns, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.suptitle(
        f"{title}: mean with 95% interval over models and episodes, a dot per model", fontsize=11, parse_math=False
    )
    return figure


def without_overlap(places: Sequence[float], widths: Sequence[float], first: float, last: float) -> list[float]:
    """Move the sorted middles of things so wide between `first` and `last`, so that neighbours do not overlap.

    Too many reach below `first`.
    """
    found: list[float] = []
    for place, width in zip(places, widths, strict=True):
        found.append(max(place, first + width / 2))
        first = found[-1] + width / 2
    for index in reversed(range(len(found))):
        found[index] = min(found[index], last - widths[index] / 2)
        last = found[index] - widths[index] / 2
    return found


def _draw_task(axes: Axes, name: str, comparison: Comparison, styles: Mapping[str, Style]) -> None:
    groups, best = {group.name: group for group in comparison.of_kind("model")}, best_of(comparison)
    _draw_yardsticks(axes, comparison)
    for row, method in enumerate(styles):
        if method in groups and primary_summary(comparison, groups[method]):
            _draw_method(axes, comparison, groups[method], row, styles[method], method in best)
        else:
            axes.text(
                0.5,
                row,
                f"{method}: not evaluated",
                ha="center",
                va="center",
                fontsize=8,
                color="0.6",
                parse_math=False,
            )
    axes.set_xlim(*AXIS)
    axes.set_ylim(len(styles) - 0.4, -0.6)
    what = comparison.primary.short if comparison.task.world else f"{comparison.primary.short}, plans only"
    axes.set_yticks([(len(styles) - 1) / 2], [f"{name}\n{what}"], fontsize=11, parse_math=False)
    verdict = "\n".join(textwrap.wrap(verdict_of(comparison), VERDICT_WIDTH))
    axes.annotate(
        verdict, (1, 0.5), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points", va="center",
        fontsize=9, parse_math=False,
    )  # fmt: skip
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["right", "top"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _draw_method(axes: Axes, comparison: Comparison, group: Group, row: int, style: Style, best: bool) -> None:
    found = group.scores[comparison.design.primary][None]
    between: Interval | None = found.interval or found.bound
    end = found.mean
    if between:
        axes.hlines(row, between.low, between.high, color=style["color"], linewidth=3, alpha=0.5)
        end = max(end, min(between.high, 1.0))
    values = [model.scores[comparison.design.primary][None] for model in group.models if model.episodes]
    axes.plot(values, [row] * len(values), ".", color=style["color"], markersize=4, alpha=0.5)
    axes.plot(found.mean, row, **mark_of(style), markersize=8, markeredgewidth=1.6, zorder=3)
    axes.annotate(
        comparison.primary.text(found.mean), (end, row), xytext=(8, 0), textcoords="offset points", va="center",
        fontsize=8, fontweight="bold" if best else "normal", color="black" if best else "0.35",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
    )  # fmt: skip


def _draw_yardsticks(axes: Axes, comparison: Comparison) -> None:
    """Lines at the yardsticks that plan as a policy does, their names above the row."""
    yardsticks = sorted(planners_of(comparison), key=lambda each: each[1].mean)
    widths = [LETTER * (len(yardstick.name) + 1) for yardstick, _ in yardsticks]
    places = without_overlap([reached.mean for _, reached in yardsticks], widths, *AXIS)
    for (yardstick, reached), place in zip(yardsticks, places, strict=True):
        axes.axvline(reached.mean, color=YARDSTICK, linewidth=1.2, linestyle=":", zorder=0)
        axes.annotate(
            yardstick.name, (place, 1), xycoords=("data", "axes fraction"), xytext=(0, 1),
            textcoords="offset points", ha="center", va="bottom", fontsize=8, color=YARDSTICK, parse_math=False,
        )  # fmt: skip
