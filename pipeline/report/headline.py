"""The summary of a comparison: a few sentences, first on the page."""

from pipeline.report.comparison import Comparison
from pipeline.report.words import as_sentence, verdict_numbers, verdict_words


def headline(comparison: Comparison) -> list[tuple[str, str]]:
    """Return a verdict and its numbers for each pair of groups; without pairs, each group's mean."""
    primary, score = comparison.design.primary, comparison.primary
    answers = []
    for contrast in comparison.contrasts:
        if (verdict := contrast.verdict) is not None:
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
