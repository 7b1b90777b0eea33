"""The summary of a comparison: a few sentences and one small table, first on the page."""

from pipeline.report.comparison import Comparison, Group
from pipeline.report.overview import MAIN
from pipeline.report.scores import SCORES
from pipeline.report.tables import Table
from pipeline.report.words import verdict_numbers, verdict_words


def headline(comparison: Comparison) -> list[tuple[str, str]]:
    """Return a verdict and its numbers for each pair of groups; without pairs, each group's mean."""
    primary = comparison.design.primary
    answers = []
    for contrast in comparison.contrasts:
        if (verdict := contrast.verdict) is not None:
            words = verdict_words(verdict)
            answers.append((f"{words[:1].upper()}{words[1:]} in {primary}.", verdict_numbers(verdict)))
    alone = [
        (
            f"{primary.capitalize()}: {SCORES[primary].text(group.scores[primary][None].mean)} for {group.name}.",
            f"On average over the conditions and {len(group.models)} model{'s' * (len(group.models) > 1)}.",
        )
        for group in comparison.of_kind("model")
        if primary in group.scores
    ]
    return answers or alone or [("No answer yet.", "No model here has been evaluated.")]


def averages_table(comparison: Comparison) -> Table:
    """Make the table of each group's main scores: mean and standard deviation over models, averaged over conditions."""

    def cell(group: Group, name: str) -> str:
        found = group.scores.get(name, {}).get(None)
        if found is None:
            return "-"
        spread = "" if found.std is None else f" ± {SCORES[name].text(found.std)}"
        return SCORES[name].text(found.mean) + spread

    rows = [(group.name, str(len(group.models)), *(cell(group, name) for name in MAIN)) for group in comparison.groups]
    columns = ("group", "models", *(SCORES[name].short for name in MAIN))
    return Table(
        "On average over the conditions: mean ± standard deviation over models", columns, rows,
        f"{'; '.join(str(SCORES[name]) for name in MAIN)}.".capitalize(),
    )  # fmt: skip
