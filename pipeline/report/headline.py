"""The summary of a comparison: a few sentences, first on the page."""

from pipeline.report.comparison import Comparison
from pipeline.report.leaders import summary_of, told_verdicts
from pipeline.report.words import as_sentence, verdict_numbers, verdict_words


def headline(comparison: Comparison) -> list[tuple[str, str]]:
    """Return what holds of all groups, then a verdict and its numbers for each two, of many groups those in front.

    Without pairs, each group's mean.
    """
    primary, score = comparison.design.primary, comparison.primary
    summary = summary_of(comparison)
    answers = [(summary, "Every two are in the table.")] if summary else []
    for verdict in told_verdicts(comparison):
        answer = f"{as_sentence(verdict_words(verdict))} in {primary}."
        answers.append((answer, verdict_numbers(verdict, score.digits)))
    alone = [
        (
            f"{primary.capitalize()}: {score.text(group.scores[primary][None].mean)} for {group.name}.",
            f"On average over the conditions and {len(group.models)} model{'s' * (len(group.models) > 1)}.",
        )
        for group in comparison.of_kind("model")
        if primary in group.scores
    ]
    return answers or alone or [("No answer yet.", "No model here has been evaluated.")]
