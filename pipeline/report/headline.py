"""The summary of a comparison: a few sentences and one small table, first on the page."""

from pipeline.report.comparison import Comparison, Contrast, Group
from pipeline.report.overview import ALPHA, MAIN, interval_text, winner
from pipeline.report.scores import SCORES
from pipeline.report.tables import Table

ANSWERED = {"success": "Success", "converge": "Convergence"}


def headline(comparison: Comparison) -> list[tuple[str, str]]:
    """Return a verdict and its numbers for each pair of groups and score, on average over the conditions."""
    answers = [
        _answer(contrast, comparison, name)
        for contrast in comparison.contrasts
        for name in ANSWERED
        if None in contrast.scores.get(name, {})
    ]
    alone = [
        (
            f"{ANSWERED[name]}: {SCORES[name].text(group.scores[name][None].mean)} for {group.name}.",
            f"On average over the conditions and {len(group.models)} model{'s' * (len(group.models) > 1)}.",
        )
        for group in comparison.of_kind("model")
        for name in ANSWERED
        if None in group.scores.get(name, {})
    ]
    return answers or alone or [("No answer yet.", "No model here has been evaluated in all conditions.")]


def _answer(contrast: Contrast, comparison: Comparison, name: str) -> tuple[str, str]:
    found, digits = contrast.scores[name][None], SCORES[name].digits
    first, second, better = contrast.first, contrast.second, winner(contrast, name, None)
    if 2 ** (1 - found.n) >= ALPHA:  # the smallest p of the exact test
        verdict = f"{found.n} pair{'s' * (found.n > 1)} of models cannot tell {first} and {second} apart"
    elif better is None:
        verdict = f"no difference is shown between {first} and {second}"
    else:
        verdict = f"{better} is better than {second if better == first else first}"
    scores = {group.name: group.scores.get(name, {}) for group in comparison.groups}
    summaries = [scores[group][None] for group in (first, second)]
    means = " against ".join(SCORES[name].text(summary.mean) for summary in summaries)
    # The means are over all models, the difference over those with a partner.
    paired = f" in {found.n} pairs of one seed" if any(summary.n > found.n for summary in summaries) else ""
    between = f", 95% interval {interval_text(found.interval, digits)}" if found.interval else ""
    places = [where for where in contrast.scores[name] if where]
    shown = sum(winner(contrast, name, where) is not None for where in places)
    return (
        f"{ANSWERED[name]}: {verdict}.",
        f"{means} on average over {len(places)} conditions: "
        f"{first} minus {second} is {found.mean:+.{digits}f}{paired}{between}. "
        f"Taken one by one, a difference is shown in {shown or 'none'} of them.",
    )


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
