"""Who leads in a comparison, by its primary score, and which pairs of groups deserve a sentence."""

from pipeline.report.comparison import Comparison, Group
from pipeline.report.statistics import Summary
from pipeline.report.verdicts import Verdict
from pipeline.report.words import as_sentence, listed, verdict_words

FEW = 3  # pairs of groups that are all told in sentences; of more only those in front, for tables have all


def primary_summary(comparison: Comparison, group: Group) -> Summary | None:
    """Return a group's primary score over all conditions; None if it was not evaluated."""
    return group.scores.get(comparison.design.primary, {}).get(None)


def best_of(comparison: Comparison) -> set[str]:
    """Return the groups of models that no other is shown to be better than; none if no difference is shown."""
    return set(leaders_of(comparison)) if _shown(comparison) else set()


def leaders_of(comparison: Comparison) -> list[str]:
    """Return the groups of models that no other is shown to be better than, the one with the best mean first."""
    judged = {
        group.name: found.mean for group in comparison.of_kind("model") if (found := primary_summary(comparison, group))
    }
    beaten = {loser for _, loser in _shown(comparison)}
    return sorted(judged.keys() - beaten, key=lambda name: (-comparison.primary.better * judged[name], name))


def verdicts_of(comparison: Comparison) -> list[Verdict]:
    """Return the verdicts by the primary score, of every two groups."""
    return [each.verdict for each in comparison.contrasts if each.verdict is not None]


def _shown(comparison: Comparison) -> set[tuple[str, str]]:
    """Return the better and the worse group of every difference that is shown."""
    return {
        (each.better, each.second if each.better == each.first else each.first)
        for each in verdicts_of(comparison)
        if each.better is not None
    }


def verdict_of(comparison: Comparison) -> str:
    """Return a task's verdict in words: who is best, and what is known of those that no other is better than.

    Letters tell the rest.
    """
    told, leaders, shown = verdicts_of(comparison), leaders_of(comparison), _shown(comparison)
    if len(told) < 2:
        return verdict_words(told[0]) if told else "nothing to compare"
    if len(leaders) == 1:
        (best,) = leaders
        losers = {loser for winner, loser in shown if winner == best}
        others = [
            each.first if each.second == best else each.second for each in told if best in (each.first, each.second)
        ]
        close = [name for name in others if name not in losers]
        return f"{best} leads, not shown to be better than {listed(close)}" if close else f"{best} is best"
    among = [each for each in told if {each.first, each.second} <= set(leaders)]
    equal = [each for each in among if each.word == "equivalent"]
    lead = f"{listed(leaders)} lead" if shown else "no difference shown"
    if len(equal) == len(among):
        return f"{lead}, equivalent within {comparison.design.margin:g}"
    pairs = "; ".join(verdict_words(each) for each in equal)
    return f"{lead}; {pairs}" if equal else f"{lead}, undecided among them" if shown else "undecided between any two"


def has_many_pairs(comparison: Comparison) -> bool:
    """Whether a comparison has more pairs of groups than are all told in sentences."""
    return len(comparison.contrasts) > FEW


def summary_of(comparison: Comparison) -> str:
    """Return a sentence about all groups, if they are more than two; else nothing."""
    if len(verdicts_of(comparison)) < 2:
        return ""
    return f"{as_sentence(verdict_of(comparison))}, by {comparison.design.primary}."


def told_verdicts(comparison: Comparison) -> list[Verdict]:
    """Return the verdicts that are told in sentences: all, or of many those between groups in front."""
    found, leaders = verdicts_of(comparison), set(leaders_of(comparison))
    return [each for each in found if not has_many_pairs(comparison) or {each.first, each.second} <= leaders]
