"""Groups of models of one task, summarised and compared. Depends on neither MLflow nor torch.

Shapes: n models, C conditions, S starts. All models meet the same starts in every condition.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np

from pipeline.report.design import Design
from pipeline.report.scores import COSTS, LOSSES
from pipeline.report.statistics import (
    ALPHA,
    Bound,
    Difference,
    Estimate,
    Floats,
    Interval,
    Summary,
    compare,
    difference_bound,
    difference_estimate,
    holm,
    holm_levels,
    over_conditions,
    summarise,
)
from pipeline.report.verdicts import Verdict, judge_pairs, letters_of
from pipeline.tasks.score import OF_WAYS, Score, Scores, shares_of
from pipeline.tasks.task import Task

Where = tuple[float, int] | None
"""A condition, (action noise, replan interval), or None for the mean over all conditions."""
KINDS = ("model", "average", "original", "yardstick")


@dataclass(frozen=True, eq=False)
class Model:
    """The results of one model, averaged policy or yardstick, or one set of the reference system's weights."""

    group: str  # models of a group differ only in their seed
    kind: Literal["model", "average", "original", "yardstick"]
    loss_unit: str  # losses are comparable if this is equal
    seed: int | None
    name: str
    run_id: str
    conditions: tuple[tuple[float, int], ...]
    episodes: Mapping[str, Floats]  # (C, S) by score; empty if it was not evaluated
    costs: Mapping[str, float]
    errors: Mapping[str, float] = field(default_factory=dict)  # by dimension, without a simulator: see `error_metrics`
    method: str = ""
    averages: str = ""  # of an averaged policy: the group of its models
    weights: str = ""  # digest; of two models with the same one, one acts by another rule

    @property
    def label(self) -> str:
        """The seed, or the name if there is none."""
        if self.kind == "average":
            return "average"
        return self.name.removeprefix("original ") if self.seed is None else f"seed {self.seed}"

    @property
    def scores(self) -> dict[str, dict[Where, float]]:
        """Means over the episodes of each condition, and over the conditions."""
        return {
            name: dict(zip((*self.conditions, None), map(float, (*by.mean(1), by.mean())), strict=True))
            for name, by in self.episodes.items()
        }


@dataclass(frozen=True)
class Group:
    """Models that differ only in their seed, summarised."""

    name: str
    kind: str
    models: tuple[Model, ...]
    scores: dict[str, dict[Where, Summary]]
    costs: dict[str, Summary]
    errors: dict[str, Summary] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The method of its models."""
        return self.models[0].method

    @property
    def averages(self) -> str:
        """The group whose models an averaged policy has."""
        return self.models[0].averages


@dataclass(frozen=True)
class Cell:
    """A difference among many that are looked at together: its interval and its verdict are by Holm's procedure."""

    value: float
    interval: Interval | None  # None where none can be given
    bound: Bound | None  # there, of a score in [0, 1]
    p: float | None  # corrected; None without an interval
    better: str | None  # the better group, if a difference is shown


@dataclass(frozen=True)
class Contrast:
    """Two groups compared: differences `first - second`."""

    first: str
    second: str
    verdict: Verdict | None  # None without the primary score
    scores: dict[str, dict[Where, Cell]]  # all but the verdict's own: one family with those of the other contrasts
    costs: dict[str, Difference]  # each by itself, over models


@dataclass(frozen=True)
class Comparison:
    """The content of a report."""

    task: Task
    title: str
    protocol: str
    design: Design
    groups: tuple[Group, ...]
    contrasts: tuple[Contrast, ...]
    letters: dict[str, str]  # by group; groups that share a letter are not shown to differ in the primary score
    notes: tuple[str, ...] = field(default=())

    @property
    def scores(self) -> Scores:
        """The table of the task's scores."""
        return self.task.scores

    @property
    def primary(self) -> Score:
        """The score that decides."""
        return self.scores[self.design.primary]

    @property
    def main(self) -> tuple[str, ...]:
        """The scores that are shown first: those in [0, 1], and how the ways of a task with several were chosen."""
        return (*shares_of(self.scores), *(name for name in OF_WAYS if name in self.scores))

    @property
    def conditions(self) -> list[tuple[float, int]]:
        """The conditions that any model was scored in, in order."""
        return sorted({where for group in self.groups for model in group.models for where in model.conditions})

    def of_kind(self, *kinds: str) -> list[Group]:
        """Return the groups of these kinds."""
        return [group for group in self.groups if group.kind in kinds]


def compare_models(
    task: Task, title: str, protocol: str, design: Design, models: Sequence[Model], notes: Sequence[str]
) -> Comparison:
    """Group the models of a task, summarise each group, and compare every two groups of models."""
    names = dict.fromkeys(model.group for model in sorted(models, key=lambda model: KINDS.index(model.kind)))
    groups = [_summarise([model for model in models if model.group == name], task.scores) for name in names]
    pairs = list(combinations([group for group in groups if group.kind == "model"], 2))
    better = task.scores[design.primary].better
    starts = {group.name: over_starts(group, design.primary) for group in groups if group.kind == "model"}
    outcomes = {name: y for name, y in starts.items() if y is not None}
    judged = {group.name: scored(group.models, design.primary) for group in groups}
    paired = [(a.name, b.name) for a, b in pairs if same_weights(judged[a.name], judged[b.name])]
    # a primary score lies in [0, 1]
    verdicts = judge_pairs(outcomes, design.margin, better, design.planned, largest=1, paired=paired)
    of_pair = {(each.first, each.second): each for each in verdicts}
    contrasts = tuple(
        Contrast(first.name, second.name, of_pair.get((first.name, second.name)), found, _costs(first, second))
        for (first, second), found in zip(pairs, _cells(pairs, task.scores, design.primary), strict=True)
    )
    shared = letters_of(outcomes, verdicts, better) if len(outcomes) > 2 else {}
    return Comparison(task, title, protocol, design, tuple(groups), contrasts, shared, tuple(notes))


def scored(models: Iterable[Model], name: str) -> list[Model]:
    """The models that have a score."""
    return [model for model in models if name in model.episodes]


def _stack(models: Iterable[Model], name: str) -> Floats | None:
    """The episodes of the models that have a score, `(n, C, S)`; None if none has."""
    found = [model.episodes[name] for model in scored(models, name)]
    return np.stack(found) if found else None


def same_weights(first: Sequence[Model], second: Sequence[Model]) -> bool:
    """Whether number i of both groups is the same model, which acts by another rule."""
    return all(model.weights for model in first) and [m.weights for m in first] == [m.weights for m in second]


def over_starts(group: Group, name: str) -> Floats | None:
    """The means over the conditions of a group's models, `(n, S)`."""
    y = _stack(group.models, name)
    return None if y is None else over_conditions(y)


def _summarise(models: Sequence[Model], table: Scores) -> Group:
    models = sorted(models, key=lambda model: (model.seed is None, model.seed or 0, model.name))
    scores: dict[str, dict[Where, Summary]] = {}
    for name, score in table.items():
        having = scored(models, name)
        if (y := _stack(having, name)) is None:
            continue
        labels, shares = [model.label for model in having], name in shares_of(table)
        scores[name] = {
            where: summarise(y[:, c], labels, score.better, shares) for c, where in enumerate(having[0].conditions)
        } | {None: summarise(over_conditions(y), labels, score.better, shares)}
    costs = {
        name: summarise(
            np.array([model.costs[name] for model in having]), [model.label for model in having], cost.better
        )
        for name, cost in COSTS.items()
        if (having := [model for model in models if name in model.costs])
    }
    errors = {
        name: summarise(np.array([model.errors[name] for model in having]), [model.label for model in having], -1)
        for name in dict.fromkeys(name for model in models for name in model.errors)
        if (having := [model for model in models if name in model.errors])
    }
    return Group(models[0].group, models[0].kind, tuple(models), scores, costs, errors)


def _cells(pairs: Sequence[tuple[Group, Group]], table: Scores, primary: str) -> list[dict[str, dict[Where, Cell]]]:
    """All other differences of all pairs: one family."""
    found: list[tuple[int, str, Where, float, Estimate | None, Bound | None]] = []
    shares = shares_of(table)

    def add(number: int, name: str, where: Where, a: Floats, b: Floats, paired: bool) -> None:
        estimate = difference_estimate(a, b, paired)
        bound = difference_bound(a, b) if estimate is None and name in shares else None
        found.append((number, name, where, float(a.mean() - b.mean()), estimate, bound))

    for number, (first, second) in enumerate(pairs):
        for name, score in table.items():
            a, b = _stack(first.models, name), _stack(second.models, name)
            if a is None or b is None or not score.better:
                continue
            having = scored(first.models, name)
            paired = same_weights(having, scored(second.models, name))
            for c, condition in enumerate(having[0].conditions):
                add(number, name, condition, a[:, c], b[:, c], paired)
            if name != primary:
                add(number, name, None, over_conditions(a), over_conditions(b), paired)
    ps = [estimate.p if estimate else 1.0 for *_, estimate, _ in found]
    cells: list[dict[str, dict[Where, Cell]]] = [{} for _ in pairs]
    for (number, name, where, value, estimate, bound), p, level in zip(found, holm(ps), holm_levels(ps), strict=True):
        first, second = pairs[number]
        better = (first.name if value * table[name].better > 0 else second.name) if p < ALPHA else None
        interval = estimate.interval(1 - level, 1 if name in shares else math.inf) if estimate else None
        cells[number].setdefault(name, {})[where] = Cell(value, interval, bound, p if estimate else None, better)
    return cells


def _costs(first: Group, second: Group) -> dict[str, Difference]:
    """Differences of losses and costs; losses in different units are not compared."""
    units = {model.loss_unit for model in (*first.models, *second.models)}
    costs = {}
    for name, cost in COSTS.items():
        if (name in LOSSES and len(units) > 1) or not cost.better:
            continue
        having = [[model for model in group.models if name in model.costs] for group in (first, second)]
        if all(having):
            a, b = (np.array([model.costs[name] for model in models]) for models in having)
            costs[name] = compare(a, b, same_weights(*having))
    return costs
