"""Groups of models, summarised and compared in every condition. Depends on neither MLflow nor torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.report.bootstraps import Difference, Summary, compare, holm, summarise
from pipeline.report.scores import COSTS, LOSSES, SCORES

Where = tuple[float, int] | None
"""A condition, (action noise, replan interval), or None for the mean over all conditions."""


@dataclass(frozen=True)
class Model:
    """The results of one model, averaged policy or yardstick, or one set of the reference system's weights."""

    group: str  # models of a group differ only in their seed
    kind: Literal["model", "average", "original", "yardstick"]
    loss_unit: str  # losses are comparable if this is equal
    seed: int | None
    name: str
    run_id: str
    scores: dict[str, dict[Where, float]]  # by score, then by condition: means over the episodes
    costs: dict[str, float]
    episodes: Mapping[str, NDArray[np.float64]] = field(default_factory=dict, compare=False, repr=False)
    """By score, `(C, S)`: C conditions in order, S starts, which are the same in all of them and for all models."""

    @property
    def label(self) -> str:
        """The seed, or the name if there is none."""
        if self.kind == "average":
            return "average"
        return self.name.removeprefix("original ") if self.seed is None else f"seed {self.seed}"


@dataclass(frozen=True)
class Group:
    """Models that differ only in their seed, summarised."""

    name: str
    kind: str
    models: tuple[Model, ...]
    scores: dict[str, dict[Where, Summary]]
    costs: dict[str, Summary]


@dataclass(frozen=True)
class Contrast:
    """Two groups compared: differences `first - second`, and p-values corrected over the conditions by Holm."""

    first: str
    second: str
    pairs: int  # of models that share a seed
    scores: dict[str, dict[Where, Difference]]
    corrected: dict[str, dict[Where, float]]
    costs: dict[str, Difference]


@dataclass(frozen=True)
class Comparison:
    """The content of a report."""

    title: str
    protocol: str
    groups: tuple[Group, ...]
    contrasts: tuple[Contrast, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def conditions(self) -> list[tuple[float, int]]:
        """The conditions that any model was scored in, in order."""
        return sorted({where for group in self.groups for by in group.scores.values() for where in by if where})

    def of_kind(self, *kinds: str) -> list[Group]:
        """Return the groups of these kinds."""
        return [group for group in self.groups if group.kind in kinds]


def compare_models(title: str, protocol: str, models: Sequence[Model], notes: Sequence[str]) -> Comparison:
    """Group the models, summarise each group, and compare every two groups of models on the seeds they share."""
    models = [replace(model, scores=with_means(model.scores)) for model in models]
    groups = [_summarise([model for model in models if model.group == name]) for name in _in_order(models)]
    ours = [group for group in groups if group.kind == "model"]
    contrasts = [_contrast(first, second) for first, second in combinations(ours, 2)]
    return Comparison(title, protocol, tuple(groups), tuple(c for c in contrasts if c is not None), tuple(notes))


def with_means(scores: dict[str, dict[Where, float]]) -> dict[str, dict[Where, float]]:
    """Add the mean over the conditions to each score that has a value in all of them."""
    count = max((len(by) for by in scores.values()), default=0)
    return {
        name: by | ({None: sum(by.values()) / count} if len(by) == count else {}) for name, by in scores.items() if by
    }


def _in_order(models: Sequence[Model]) -> list[str]:
    kinds = ("model", "average", "original", "yardstick")
    return list(dict.fromkeys(model.group for model in sorted(models, key=lambda model: kinds.index(model.kind))))


def _summarise(models: Sequence[Model]) -> Group:
    models = sorted(models, key=lambda model: (model.seed is None, model.seed or 0, model.name))
    scores: dict[str, dict[Where, Summary]] = {}
    for name, score in SCORES.items():
        for where in dict.fromkeys(where for model in models for where in model.scores.get(name, {})):
            having = [model for model in models if where in model.scores.get(name, {})]
            values = [model.scores[name][where] for model in having]
            scores.setdefault(name, {})[where] = summarise(values, [model.label for model in having], score.better)
    costs = {
        name: summarise([model.costs[name] for model in having], [model.label for model in having], cost.better)
        for name, cost in COSTS.items()
        if (having := [model for model in models if name in model.costs])
    }
    return Group(models[0].group, models[0].kind, tuple(models), scores, costs)


def _contrast(first: Group, second: Group) -> Contrast | None:
    """Compare on the shared seeds; None if there are none."""
    one, other = ({model.seed: model for model in group.models} for group in (first, second))
    pairs = [(one[seed], other[seed]) for seed in one if seed in other and seed is not None]
    if not pairs:
        return None
    scores: dict[str, dict[Where, Difference]] = {}
    corrected: dict[str, dict[Where, float]] = {}
    for name, score in SCORES.items():
        for where in first.scores.get(name, {}):
            both = [
                (a.scores[name][where], b.scores[name][where])
                for a, b in pairs
                if where in a.scores.get(name, {}) and where in b.scores.get(name, {})
            ]
            if both:
                values_a, values_b = zip(*both, strict=True)
                scores.setdefault(name, {})[where] = compare(values_a, values_b, score.better)
        tested = {where: found.p for where, found in scores.get(name, {}).items() if where and found.p is not None}
        corrected[name] = dict(zip(tested, holm(list(tested.values())), strict=True))
    costs = {}
    same_loss = len({model.loss_unit for pair in pairs for model in pair}) == 1
    for name, cost in COSTS.items():
        if (name in LOSSES and not same_loss) or not cost.better:  # other units, or no better direction
            continue
        both = [(a.costs[name], b.costs[name]) for a, b in pairs if name in a.costs and name in b.costs]
        if both:
            values_a, values_b = zip(*both, strict=True)
            costs[name] = compare(values_a, values_b, cost.better)
    return Contrast(first.name, second.name, len(pairs), scores, corrected, costs)
