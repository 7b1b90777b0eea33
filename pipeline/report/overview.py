"""A comparison as text, for a terminal and as Markdown: sentences and tables."""

from collections.abc import Callable, Sequence
from statistics import fmean

from pipeline.report.comparison import Comparison, Contrast
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
from pipeline.report.leaders import has_many_pairs, summary_of, told_verdicts, verdicts_of
from pipeline.report.statistics import outlier
from pipeline.report.tables import Table
from pipeline.report.verdicts import Verdict
from pipeline.report.words import NO_CONTROL, interval_text, verdict_sentence
from pipeline.tasks.score import Score

MET = (
    "A model's score is its mean over the episodes of a condition, failures included. All models meet the same starts "
    "in every condition."
)
PLANNED_FROM = (
    "A model's score is its mean over held-out episodes, of each the mean over its states. All models plan from the "
    "same states. A condition is how many first actions of a plan are judged. Agreement is the mean of 1 - min(1, e), "
    "where e is |planned - demonstrated| of an action, in standard deviations of the training split."
)
UNIT = (
    "Models and episodes are both drawn: intervals are over both. Means and standard deviations (ddof=1) are over the "
    "models of a group. {met} Models of two groups are not paired, but where they are the same. 'by episodes' is the "
    "part of the standard deviation that the draw of episodes alone explains. Where outcomes are too much alike for an "
    "interval, an exact bound (Clopper-Pearson) for these models on new episodes stands with an asterisk, and how many "
    "episodes have a model below 1 (as a failure), or above 0, or in a difference models that come out differently. "
    "The primary score decides. All other differences are one family: their intervals and p-values are by Holm's "
    "procedure."
)


def unit_of(comparison: Comparison) -> str:
    """Return how the numbers are to be read."""
    return UNIT.format(met=MET if comparison.task.world else PLANNED_FROM)


def told(comparison: Comparison) -> list[str]:
    """Return what is told of the groups: of all by the primary score, of each two in front, or of every two if few."""
    sentences = [_sentence(comparison, verdict) for verdict in told_verdicts(comparison)]
    return [summary, *sentences] if (summary := summary_of(comparison)) else sentences


def verdicts(comparison: Comparison) -> list[str]:
    """Return a sentence for the primary score of each contrast, and one for each other main score."""
    lines = []
    for contrast in comparison.contrasts:
        if contrast.verdict is not None:
            lines.append(_sentence(comparison, contrast.verdict))
        lines += by_condition(comparison, contrast)
    return lines


def by_condition(comparison: Comparison, contrast: Contrast) -> list[str]:
    """Return a sentence for each main score of a contrast: in how many conditions a group is better."""
    found = [name for name in comparison.main if contrast.scores.get(name)]
    return [_secondary(contrast, name, comparison.scores[name]) for name in found]


def _sentence(comparison: Comparison, verdict: Verdict) -> str:
    return verdict_sentence(verdict, comparison.design.primary, comparison.primary.digits)


def _secondary(contrast: Contrast, name: str, score: Score) -> str:
    cells, digits = contrast.scores[name], score.digits
    places = [where for where in cells if where]
    parts = [
        f"{group} is better in {count} of {len(places)} conditions"
        for group in (contrast.first, contrast.second)
        if (count := sum(cells[where].better == group for where in places))
    ]
    line = f"{contrast.first} and {contrast.second}, {score}: "
    line += ("; ".join(parts) or "no difference shown in any condition") + "."
    if (mean := cells.get(None)) is not None:
        between = f" {interval_text(mean.interval, digits)}" if mean.interval else ""
        line += f" On average the difference is {mean.value:+.{digits}f}{between}"
        line += f": {mean.better} is better." if mean.better else ", none shown."
    return line


def as_text(comparison: Comparison, names: Sequence[str] | None = None) -> str:
    """Return the text for a terminal: verdict, overview, the scores `names` in detail, losses and costs.

    By default these are the main scores, and of many groups no table of each two; files have all.
    """
    pairs = names is not None or not has_many_pairs(comparison)
    return "\n\n".join(_parts(comparison, comparison.main if names is None else names, Table.text, pairs))


def as_markdown(comparison: Comparison) -> str:
    """Return all scores as Markdown."""
    return "\n\n".join(_parts(comparison, tuple(comparison.scores), Table.markdown, pairs=True)) + "\n"


def _parts(comparison: Comparison, names: Sequence[str], render: Callable[[Table], str], pairs: bool) -> list[str]:
    """All parts of the text; with `pairs`, every two groups are compared by every score."""
    parts = [f"Comparison of {comparison.title}. Evaluation: {comparison.protocol}."]
    parts += [] if comparison.task.world else [NO_CONTROL]
    contrasts = comparison.contrasts if pairs else ()
    if verdicts_of(comparison):
        parts += [*told(comparison), render(verdict_table(comparison))]
    parts += [f"Note: {note}" for note in comparison.notes]
    if comparison.conditions:
        parts += [render(averages_table(comparison)), render(condition_table(comparison, comparison.design.primary))]
        parts += [line for contrast in contrasts for line in by_condition(comparison, contrast)]
    parts += cautions(comparison)
    for name in names:
        if any(name in group.scores for group in comparison.of_kind("model", "average", "original")):
            parts.append(render(score_table(comparison, name)))
        parts += [
            render(contrast_table(comparison, contrast, name)) for contrast in contrasts if contrast.scores.get(name)
        ]
    parts += [render(table)] if (table := dimension_table(comparison)) else []
    parts.append(render(cost_table(comparison)))
    parts += [render(cost_contrast_table(contrast)) for contrast in contrasts if contrast.costs]
    return [*parts, unit_of(comparison)]


def cautions(comparison: Comparison) -> list[str]:
    """Return what the models of a group cannot show, one sentence each."""
    primary, found = comparison.design.primary, []
    for group in comparison.of_kind("model"):
        if len(group.models) == 1:
            found.append(f"{group.name} has one seed: no spread and no interval can be given.")
        judged = [model for model in group.models if primary in model.episodes]
        means = [model.scores[primary][None] for model in judged]
        far = outlier(means)
        others = [mean for number, mean in enumerate(means) if number != far]
        if far is not None and abs(means[far] - fmean(others)) > comparison.design.margin:  # or one fall is enough
            found.append(
                f"{group.name} {judged[far].label} is far from its group's other models in {primary} (Grubbs' test at "
                f"1%): where a few models differ so much, {len(judged)} do not tell how far the next one will be, "
                "and intervals may be too narrow."
            )
    return found
