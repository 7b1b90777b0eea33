"""A verdict in words."""

from collections.abc import Iterable, Sequence

from pipeline.report.statistics import ALPHA, Interval
from pipeline.report.verdicts import Verdict

HOLM, LOOKS = "95% interval (Holm)", "95% interval (looks)"

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
        text += ". So few models, or outcomes so much alike, give no interval."
        if (bound := verdict.bound) is not None:
            text += (
                f" Of the episodes {bound.count}: on new ones these models differ by {bound.high:.{digits}f} at most."
            )
        return text
    shown, name = verdict.interval, interval_name([verdict])
    if verdict.word == "equivalent":
        shown, name = verdict.inner, f"{verdict.inner_percent:.3g}% interval"
    text += f", {name} {interval_text(shown, digits)} over models and episodes."
    if verdict.word == "equivalent" and verdict.ahead is not None:
        text += f" {verdict.ahead} is ahead, by less than the margin."
    if verdict.looks:
        models, spent = _listed(look.models for look in verdict.looks), verdict.looks[-1].spent
        text += f" Looks at {models} models per group; of alpha {spent:.3g} of {ALPHA / verdict.pairs:.3g} is spent."
    if verdict.word == "undecided":
        text += f" {needs_words(verdict)}"
    return text


def interval_name(verdicts: Iterable[Verdict]) -> str:
    """What the intervals of verdicts are called: those of several pairs or looks are wider than of one by itself."""
    told = list(verdicts)
    if any(each.planned for each in told):
        return LOOKS
    return HOLM if any(each.pairs > 1 for each in told) else "95% interval"


def interval_note(verdicts: Sequence[Verdict]) -> str:
    """Say how wide the intervals of verdicts are; nothing of one pair that is judged once."""
    name, pairs = interval_name(verdicts), max((each.pairs for each in verdicts), default=1)
    if name == HOLM:
        most = 100 * (1 - ALPHA / pairs)
        return f"{HOLM}: at the levels of Holm's procedure over all pairs, up to {most:.3g}% for a pair by itself."
    if name == LOOKS:
        level = 100 * (1 - ALPHA / pairs / max(len(each.planned) for each in verdicts))
        return f"{LOOKS}: 95% for all pairs and looks together, {level:.3g}% for one by itself."
    return ""


def letters_note(what: str, margin: str) -> str:
    """Say what letters mean."""
    return f"{what} share a letter where no difference is shown, or only one that is within {margin}."


def interval_text(interval: Interval | None, digits: int) -> str:
    """Return an interval as "[0.1, 0.2]", or "-" for None."""
    return "-" if interval is None else f"[{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def p_name(verdicts: Iterable[Verdict]) -> str:
    """What the p-values of verdicts, which are those of their intervals, are called."""
    return "p, Holm" if any(each.pairs > 1 for each in verdicts) else "p"


def p_text(p: float | None) -> str:
    """Return a p-value with four digits; a smaller one is not shown as zero."""
    if p is None:
        return "-"
    return "< 0.0001" if p < 0.00005 else f"{p:.4f}"


def would_decide(verdict: Verdict) -> str:
    """Return what would probably decide, if the difference is what it seems, for a cell of a table."""
    needs = verdict.needs
    if verdict.left:
        if needs:
            return f"the look at {needs[0].models} models per group"
        return f"The looks that are left, {_listed(verdict.left)}, would probably not decide"
    over = "No look is left. " if verdict.planned else ""
    if not needs:
        return f"{over}No number of models and episodes within reach would decide, if the difference is what it seems"
    shown = [needs[0], needs[-1]] if len(needs) > 1 else needs
    options = ", or ".join(
        f"{need.models} models per group on {need.episodes:,} episodes per condition" for need in shown
    )
    return f"{over}A new study would need: {options}" if verdict.planned else options


def needs_words(verdict: Verdict) -> str:
    """Return what would probably decide, if the difference is what it seems, in sentences."""
    if verdict.needs and (verdict.left or not verdict.planned):
        return f"What would probably decide: {would_decide(verdict)}."
    return f"{would_decide(verdict)}."


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def verdict_sentence(verdict: Verdict, primary: str, digits: int) -> str:
    """Return the verdict by the score `primary` and its numbers in one line."""
    return f"{as_sentence(verdict_words(verdict))} in {primary}: {verdict_numbers(verdict, digits)}"


def as_sentence(text: str) -> str:
    """Return a text with its first letter large, unless it begins with a name such as pi0_fast."""
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    return text if "_" in first or any(map(str.isdigit, first)) else text[:1].upper() + text[1:]


def listed(words: Iterable[object]) -> str:
    """Return what there is as a list: "10, 13 and 15"."""
    texts = [*map(str, words)]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
