"""What the results of a suite show and what they do not, in sentences that the verdicts decide.

A sentence names the tasks on which it holds, and is left out where the suite lacks what it speaks of.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pipeline.report.comparison import Comparison, over_starts
from pipeline.report.leaders import best_of, leaders_of, primary_summary, verdicts_of
from pipeline.report.statistics import ALPHA, group_estimate, holm
from pipeline.report.suite import Suite, planners_of
from pipeline.report.verdicts import Verdict
from pipeline.report.words import listed

PUBLISHED, SAMPLED = " as published", " sampled"
MEAN_OF_ANSWERS = "mean of "  # how the names of yardsticks begin that plan the mean of all good answers
Settings = Mapping[str, Any]


def findings(suite: Suite, settings: Settings) -> list[str]:
    """Return the sentences about a suite; `settings` are those that it was started with."""
    found = (sentence(suite, settings) for sentence in SENTENCES)
    return [sentence for sentence in found if sentence]


def versus(suite: Suite, first: str, second: str) -> str:
    """Say on which tasks the first group is better, worse, equivalent or undecided; empty if no task has both."""
    found = {name: verdict for name, each in suite.items() if (verdict := verdict_between(each, first, second))}
    if not found:
        return ""
    tasks: dict[str, list[str]] = {"better": [], "worse": [], "equivalent": [], "undecided": []}
    for name, verdict in found.items():
        tasks["better" if verdict.better == first else "worse" if verdict.better else verdict.word].append(name)

    def where(word: str) -> str:
        by = f", by {spanned([abs(found[name].difference) for name in tasks[word]], 3)}"
        return f"on {places(tasks[word], found)}{by if word in ('better', 'worse') else ''}"

    begins = {
        "better": f"{first} is better than {second} ",
        "worse": f"{first} is worse than {second} ",
        "equivalent": f"{first} and {second} are equivalent ",
        "undecided": f"it is undecided between {first} and {second} ",
    }
    told = [word for word in tasks if tasks[word]]
    parts = [begins[told[0]] + where(told[0]), *(f"{word} {where(word)}" for word in told[1:])]
    return ", ".join(parts) + "."


def verdict_between(comparison: Comparison, first: str, second: str) -> Verdict | None:
    """Return the verdict on two groups, whichever comes first in it; None if there is none."""
    return next((each for each in verdicts_of(comparison) if {each.first, each.second} == {first, second}), None)


def places(names: Sequence[str], among: Collection[str]) -> str:
    """Return tasks in words."""
    return f"all {len(among)} tasks" if len(names) == len(among) > 1 else listed(names)


def spanned(values: Sequence[float], digits: int) -> str:
    """Return the range of numbers: "0.01 to 0.20", or one number."""
    return " to ".join(dict.fromkeys(f"{each:.{digits}f}" for each in (min(values), max(values))))


def ambiguous(suite: Suite) -> dict[str, float]:
    """Return the tasks whose states have several good answers, with the score of the mean of these."""
    return {
        name: found.mean
        for name, comparison in suite.items()
        for group, found in planners_of(comparison)
        if group.name.startswith(MEAN_OF_ANSWERS)
    }


def mean_of(comparison: Comparison, name: str) -> float | None:
    """Return a group's primary score over all conditions; None if it was not evaluated."""
    group = next((each for each in comparison.of_kind("model") if each.name == name), None)
    found = primary_summary(comparison, group) if group else None
    return found.mean if found else None


def _leaders(suite: Suite, _settings: Settings) -> str:
    leading: dict[str, list[str]] = {}
    shown = {task: comparison for task, comparison in suite.items() if best_of(comparison)}
    for task, comparison in shown.items():
        for name in leaders_of(comparison):
            leading.setdefault(name, []).append(task)
    if not shown:
        return f"**No difference is shown** on any task: {listed(list(suite))}." if suite else ""
    everywhere = [name for name, tasks in leading.items() if len(tasks) == len(suite)]
    if everywhere:
        verb = "is" if len(everywhere) == 1 else "are"
        return f"**{listed(everywhere)} {verb} in front on all tasks**: no other is shown to be better."
    parts = [f"{name} on {listed(tasks)}" for name, tasks in leading.items()]
    silent = [task for task in suite if task not in shown]
    said = f"**No method is in front on all tasks**. In front, with no other shown to be better: {'; '.join(parts)}."
    return f"{said} On {listed(silent)} no difference is shown." if silent else said


def _flow_and_fast(suite: Suite, _settings: Settings) -> str:
    said = versus(suite, "pi0", "pi0_fast")
    return said and f"**Flow matching or tokens**: {said}"


def _flow_and_regression(suite: Suite, _settings: Settings) -> str:
    said = versus(suite, "pi0", "regression")
    return said and f"**Flow matching or least squares**: {said}"


def _several_answers(suite: Suite, _settings: Settings) -> str:
    tasks = ambiguous(suite)
    scores = {name: mean for name in tasks if (mean := mean_of(suite[name], "regression")) is not None}
    if not scores:
        return ""
    behind = [name for name in scores if any(each.better not in (None, "regression") for each in _with(suite[name]))]
    most, reached = max(tasks[name] for name in scores), [f"{each:.2f}" for each in scores.values()]
    return (
        f"**Where a state has several good answers** ({listed(list(scores))}), the mean of the answers scores at most "
        f"{most:.2f}; regression scores {listed(reached)}, and another method is better on {len(behind)} of "
        f"{len(scores)}."
    )


def _with(comparison: Comparison) -> list[Verdict]:
    return [each for each in verdicts_of(comparison) if "regression" in (each.first, each.second)]


def _fast_and_bins(suite: Suite, _settings: Settings) -> str:
    said = versus(suite, "pi0_fast", "binning")
    return said and f"**FAST or a token per action** (recipe and decoding differ too): {said}"


def _acting(suite: Suite, _settings: Settings) -> str:
    said = [versus(suite, f"pi0{PUBLISHED}", "pi0"), versus(suite, f"pi0_fast{SAMPLED}", "pi0_fast")]
    return f"**How a model acts**, with the same weights: {' '.join(filter(None, said))}" if any(said) else ""


def _fast_published(suite: Suite, _settings: Settings) -> str:
    said = versus(suite, f"pi0_fast{PUBLISHED}", "pi0_fast")
    return said and f"**FAST as published**, with one scale and the likeliest token: {said}"


def _yardsticks(suite: Suite, _settings: Settings) -> str:
    gaps: dict[str, float | None] = {task: gap_to_planner(each) for task, each in suite.items() if planners_of(each)}
    ahead = {task: gap for task, gap in gaps.items() if gap is not None}
    if not gaps:
        return ""
    by = f", by {spanned([*ahead.values()], 2)}" if ahead else ""
    where = places([*ahead], gaps) if ahead else "no task"
    return (
        f"**Yardsticks**, which need no training: on {where} a controller that plans in the true simulator is better "
        f"than every method{by}."
    )


def gap_to_planner(comparison: Comparison) -> float | None:
    """How far the best planning yardstick is ahead of the best method; None unless it is shown to be ahead of all.

    The yardstick is fixed, so its difference to a method is drawn as the method's models and the episodes are.
    """
    primary, sign = comparison.design.primary, comparison.primary.better
    planner = over_starts(planners_of(comparison)[0][0], primary)
    methods = [y for group in comparison.of_kind("model") if (y := over_starts(group, primary)) is not None]
    if planner is None or not methods:
        return None
    gains = [group_estimate(sign * (planner - y)) for y in methods]
    ps = holm([gain.p if gain is not None and gain.value > 0 else 1.0 for gain in gains])
    shown = [gain.value for gain, p in zip(gains, ps, strict=True) if gain is not None and p < ALPHA]
    return min(shown) if len(shown) == len(methods) else None


def _one_recipe(_suite: Suite, settings: Settings) -> str:
    if settings.get("set") or settings.get("preset"):
        return ""
    return (
        "**Not shown**: what a method can do at its best. Each has one recipe, searched on the pendulum. No training "
        "setting is tuned on another task."
    )


def _intervals(_suite: Suite, _settings: Settings) -> str:
    return (
        "**Not shown**: other recipes, networks, demonstrations or robots. Intervals are over trainings and episodes "
        "in simulation."
    )


SENTENCES: tuple[Callable[[Suite, Settings], str], ...] = (
    _leaders, _flow_and_fast, _flow_and_regression, _several_answers, _fast_and_bins, _acting, _fast_published,
    _yardsticks, _one_recipe, _intervals,
)  # fmt: skip
