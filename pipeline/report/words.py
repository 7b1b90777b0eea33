"""A verdict in words."""

from pipeline.report.comparison import Verdict
from pipeline.report.scores import SCORES


def verdict_words(verdict: Verdict) -> str:
    """Return the verdict alone: "pi0 is better than regression", "a and b are equivalent within 0.01", "undecided"."""
    first, second = verdict.first, verdict.second
    if verdict.better is not None:
        other = second if verdict.better == first else first
        less = f", by less than {verdict.margin:g}" if verdict.equivalent else ""
        return f"{verdict.better} is better than {other}{less}"
    if verdict.equivalent:
        return f"{first} and {second} are equivalent within {verdict.margin:g}"
    return f"undecided between {first} and {second}"


def verdict_numbers(verdict: Verdict) -> str:
    """Return what the verdict rests on, and what would decide if it is undecided."""
    digits = SCORES[verdict.score].digits
    means = " against ".join(f"{mean:.{digits}f}" for mean in verdict.means)
    text = f"{means}; {verdict.first} minus {verdict.second} is {verdict.difference:+.{digits}f}"
    if verdict.interval is None:
        return f"{text}. So few models, or outcomes so much alike, give no interval."
    shown, level = (verdict.inner, 90) if verdict.word == "equivalent" else (verdict.interval, 95)
    assert shown is not None, "both intervals are of one estimate"
    text += f", {level}% interval [{shown.low:.{digits}f}, {shown.high:.{digits}f}] over models and episodes."
    if verdict.word == "undecided" and verdict.needed is not None:
        text += f" To tell differences of {verdict.margin:g}: {verdict.needed}."
    return text


def verdict_sentence(verdict: Verdict) -> str:
    """Return the verdict and its numbers in one line."""
    words = verdict_words(verdict)
    return f"{words[:1].upper()}{words[1:]} in {verdict.score}: {verdict_numbers(verdict)}"
