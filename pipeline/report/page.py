"""One self-contained HTML page: no other file and no network, readable without its script.

Names from the store are always text: the template escapes them, and the page's Content-Security-Policy allows only its
own style and script, each identified by its digest.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.report import episodes as drawings
from pipeline.report.comparison import Comparison
from pipeline.report.comparison_tables import (
    averages_table,
    condition_table,
    contrast_table,
    cost_contrast_table,
    cost_table,
    dimension_table,
    score_table,
    verdict_table,
)
from pipeline.report.episodes import Drawing
from pipeline.report.headline import headline
from pipeline.report.overview import by_condition, cautions, unit_of
from pipeline.report.scenes import inks_css
from pipeline.report.tables import Table
from pipeline.report.words import NO_CONTROL
from pipeline.tasks.task import Task

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Caption:
    """A figure's title, caption and alternative text."""

    title: str
    text: str
    alternative: str


CAPTIONS = {
    "verdicts": Caption(
        "The verdict",
        "Differences of the primary score on average over the conditions, with the intervals over models and episodes "
        "that are in the table of verdicts. Within the band, differences are too small to matter.",
        "A row for each pair of groups: a dot and its interval beside a band around zero. The table of verdicts has "
        "the same numbers.",
    ),
    "scores": Caption(
        "Main scores in every condition",
        "Mean over models with its 95% interval over models and episodes, one dot per model. Hollow marks are trained "
        "weights of the reference system, grey lines are baseline controllers.",
        "A row of line charts for each main score, one column for each action noise, against the replan interval. The "
        "tables of these scores have the same numbers.",
    ),
    "paths": Caption(
        "The ways that are taken",
        "Paths of all models' episodes in the condition with the least noise and the longest replan interval, up to "
        "200 a model, in colour, over paths of the demonstrators, in grey; a cross marks an early end. Where "
        "several ways are good, a method that takes them all spreads as the demonstrators do.",
        "A panel for each group, with the paths of its episodes over those of the demonstrators. The table "
        "of the entropy over the ways has a number for it.",
    ),
    "errors": Caption(
        "Errors along the plan",
        "Mean |error| of each action at each step of a plan, on held-out episodes. Thin lines are models; dotted lines "
        "are the tokenizer's reconstruction of what was demonstrated.",
        "A line chart for each action: the mean absolute error of plans at each step, for every group. The table of "
        "errors by action has the means over the steps.",
    ),
    "plans": Caption(
        "Plans and the expert's chunks",
        "Above, plans of every model from four states of the test split, with the expert's actions. Below, the mean "
        "absolute error along the chunk.",
        "Line charts of planned actions over time, a column for each state and a row for each action dimension, with "
        "the expert's dotted line, and one chart of the mean absolute error along the chunk. The table of losses and "
        "costs has the mean errors.",
    ),
    "losses": Caption(
        "Losses of all models",
        "Thin lines are models, thick lines their mean. Losses of different methods have different units.",
        "Line charts of training, validation and test loss over epochs, one panel per group. The table of losses and "
        "costs has the best losses.",
    ),
    "fast_tradeoff": Caption(
        "The trade-off of FAST",
        "Reconstruction error, size of the alphabet and tokens per chunk against the scale of quantisation.",
        "Three line charts against the scale: the error falls, the alphabet and the number of tokens per chunk grow.",
    ),
}

CAPTIONS_OF_PLANS = {
    "scores": Caption(
        "Main scores by the number of first actions",
        "Mean over models with its 95% interval over models and held-out episodes, one dot per model, against how many "
        "first actions of a plan are judged.",
        "A line chart for each main score against the number of first actions of a plan. The tables of these scores "
        "have the same numbers.",
    ),
    "plans": Caption(
        "Plans and what was demonstrated",
        "Plans of every model from four states of held-out episodes, with the demonstrated actions.",
        "Line charts of planned actions over time, a column for each state and a row for each action, with the "
        "demonstrated actions dotted.",
    ),
}
"""Of a task without a simulator, in place of those of the same names."""

IN_SIMULATION = (
    "One task, {task}, in simulation, and one set of demonstrations by one kind of expert. No real machine, no other "
    "task, no other amount of data.",
)
OF_DATA_ALONE = (
    NO_CONTROL,
    "One set of demonstrations, {task}: no other task, no other amount of data, and only states that the "
    "demonstrations visit.",
)
LIMITS = (
    "Intervals and their p-values are over training seeds and episodes; p of the permutation test is over training "
    "seeds alone, for these episodes.",
    "'No difference shown' does not mean that there is none: the interval tells how large it could still be.",
    "One recipe per method. With other tuning a method may do better; only the settings below were compared.",
    "Times and samples per second depend on the machine, and on what else ran on it.",
)


ANIMATED = (
    "The animated episodes are a few of thousands, chosen by the rule above them. They are examples; the tables tell "
    "how often they happen.",
)


MOST_LINES = 12  # of differences by condition; more of them are folded away


def captions_of(task: Task) -> dict[str, Caption]:
    """Return what is said of each figure, in the order of the page."""
    known = CAPTIONS if task.world else CAPTIONS | CAPTIONS_OF_PLANS
    steps = {
        f"{name}s": Caption(
            f"When episodes have {score.event}",
            f"Share of all episodes that have {score.event} by each step and do not end early. Thin lines are models.",
            f"Rising curves, one panel for each condition: the share of episodes that have {score.event} by each step, "
            f"for every group. The table of the {score.label} has their averages.",
        )
        for name, score in task.scores.items()
        if score.event
    }
    return {name: known[name] for name in ("verdicts", "scores")} | steps | known


def limits_of(task: Task) -> list[str]:
    """Return what a comparison on a task cannot show, one sentence each."""
    found = (*IN_SIMULATION, *LIMITS, *ANIMATED) if task.world else (*OF_DATA_ALONE, *LIMITS)
    return [limit.format(task=task.name) for limit in found]


@dataclass(frozen=True)
class Page:
    """The content of a page; figures are SVG by name."""

    comparison: Comparison
    figures: Mapping[str, bytes]
    episodes: Sequence[Drawing]
    choice: str  # how the episodes were chosen
    settings: Table
    provenance: Sequence[Table]
    missing: Sequence[str] = field(default=())


def render_page(page: Page) -> str:
    """Return the page as HTML. Equal pages give equal text."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sheet, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    style, comparison = sheet + inks_css(), page.comparison
    models = [group.name for group in comparison.of_kind("model")]
    episodes: dict[str, list[Drawing]] = {}
    for drawing in page.episodes:
        episodes.setdefault(drawing.episode.group, []).append(drawing)
    return environment.get_template("page.html").render(
        page=page,
        comparison=comparison,
        heading=f"{' and '.join(models)} compared" if len(models) == 2 else f"Comparison of {comparison.title}",
        style=style,  # our own files: the template does not escape them
        script=script,
        policy=f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'",
        headline=headline(comparison),
        averages=averages_table(comparison),
        figures=[
            (caption, _data_uri(svg), _size(svg))
            for name, caption in captions_of(comparison.task).items()
            if (svg := page.figures.get(name))
        ],
        episodes=episodes,
        tables=main_tables(comparison),
        more=more_tables(comparison),
        most_lines=MOST_LINES,
        by_condition=[line for each in comparison.contrasts for line in by_condition(comparison, each)],
        judged="" if comparison.task.world else NO_CONTROL,
        limits=[*cautions(comparison), *limits_of(comparison.task)],
        left_out=[*comparison.notes, *page.missing],
        unit=unit_of(comparison),
        drawing=drawings,
    )


def main_tables(comparison: Comparison) -> list[Table]:
    """Return the main tables."""
    if not comparison.conditions:
        return [cost_table(comparison)]
    judged = [verdict_table(comparison)] if any(each.verdict for each in comparison.contrasts) else []
    errors = [table] if (table := dimension_table(comparison)) else []
    conditions = [condition_table(comparison, name) for name in comparison.main]
    return [*judged, *conditions, *errors, cost_table(comparison)]


def more_tables(comparison: Comparison) -> list[Table]:
    """Return the other tables: every score of every group, and every other difference."""
    groups = comparison.of_kind("model", "original")
    scored = [name for name in comparison.scores if any(name in group.scores for group in groups)]
    contrasts = [
        contrast_table(comparison, contrast, name)
        for contrast in comparison.contrasts
        for name in comparison.scores
        if contrast.scores.get(name)
    ]
    costs = [cost_contrast_table(contrast) for contrast in comparison.contrasts if contrast.costs]
    return [*(score_table(comparison, name) for name in scored), *contrasts, *costs]


def _source(text: str) -> str:
    """Return the Content-Security-Policy source of an inline style or script."""
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


def _data_uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _size(svg: bytes) -> tuple[int, int]:
    """Return width and height of a picture, so that the page does not jump when it loads."""
    found = re.search(rb'<svg[^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert found, "matplotlib writes the size of its pictures"
    return round(float(found[1])), round(float(found[2]))
