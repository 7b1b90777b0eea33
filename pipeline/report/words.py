"""A verdict in words."""

from collections.abc import Sequence

from pipeline.report.planning import Need
from pipeline.report.verdicts import Verdict

NO_CONTROL = (
    "No control was judged: the task has no simulator. Plans are compared with what was demonstrated from the same "
    "states of held-out episodes. A plan that goes another good way counts as wrong, and small errors need not mean "
    "good control."
)


def verdict_words(verdict: Verdict) -> str:
    """Return the verdict alone: "pi0 is better than regression", "a and b are equivalent within 0.01", "undecided"."""
    first, second = verdict.first, verdict.second
    match verdict.word:
        case "better":
            return f"{first} is better than {second}"
        case "worse":
            return f"{second} is better than {first}"
        case "equivalent":
            return f"{first} and {second} are equivalent within {verdict.margin:g}"
        case "undecided":
            return f"undecided between {first} and {second}"


def verdict_label(verdict: Verdict) -> str:
    """Return the verdict where its two methods are named beside it: "pi0 is better", "equivalent within 0.01"."""
    if verdict.better is not None:
        return f"{verdict.better} is better"
    return f"equivalent within {verdict.margin:g}" if verdict.word == "equivalent" else verdict.word


def verdict_numbers(verdict: Verdict, digits: int) -> str:
    """Return what the verdict rests on, with so many digits, and what would decide if it is undecided."""
    means = " against ".join(f"{mean:.{digits}f}" for mean in verdict.means)
    text = f"{means}; {verdict.first} minus {verdict.second} is {verdict.difference:+.{digits}f}"
    if verdict.interval is None or verdict.inner is None:
        return f"{text}. So few models, or outcomes so much alike, give no interval."
    shown, level = (verdict.inner, verdict.inner_percent) if verdict.word == "equivalent" else (verdict.interval, 95)
    text += f", {level:.3g}% interval [{shown.low:.{digits}f}, {shown.high:.{digits}f}] over models and episodes."
    if verdict.word == "equivalent" and verdict.ahead is not None:
        text += f" {verdict.ahead} is ahead, by less than the margin."
    if verdict.looks:
        text += f" Looks at {', '.join(str(look.models) for look in verdict.looks)} models a group."
    if verdict.word == "undecided":
        text += f" {needs_words(verdict.needs)}"
    return text


def p_text(p: float | None) -> str:
    """Return a p-value with four digits; a smaller one is not shown as zero."""
    if p is None:
        return "-"
    return "< 0.0001" if p < 0.00005 else f"{p:.4f}"


def needs_words(needs: Sequence[Need]) -> str:
    """Return what would probably decide, if the difference is what it seems."""
    if not needs:
        return "No number of models and episodes within reach would decide, if the difference is what it seems."
    shown = [needs[0], needs[-1]] if len(needs) > 1 else needs
    options = ", or ".join(
        f"{need.models} models per group on {need.episodes:,} episodes per condition" for need in shown
    )
    return f"What would probably decide: {options}."


def verdict_sentence(verdict: Verdict, primary: str, digits: int) -> str:
    """Return the verdict by the score `primary` and its numbers in one line."""
    words = verdict_words(verdict)
    return f"{words[:1].upper()}{words[1:]} in {primary}: {verdict_numbers(verdict, digits)}"
