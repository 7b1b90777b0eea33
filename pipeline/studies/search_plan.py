"""The plan of a search: what is asked for, checked, and the terms that it keeps from its first call to its last."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from pipeline.config import make
from pipeline.errors import SettingsError
from pipeline.evaluation.protocol import Protocol
from pipeline.executors.jobs import Resources
from pipeline.names import KIND, STUDY, TASK, Kind
from pipeline.stages.judging import EvaluationSpec
from pipeline.stages.say import Say
from pipeline.studies.groups import Group, plan_groups, together_groups
from pipeline.studies.settings import SearchSettings
from pipeline.studies.space import Params, Space, as_values, find_space, read_spaces
from pipeline.studies.study_plan import Beside, files_read, prepare_data
from pipeline.tasks.settings import at_task, settle
from pipeline.tasks.task import Task
from pipeline.tracking.query import artifact, search
from pipeline.tracking.store import Store
from pipeline.tracking.study import tag_of

PURPOSE = "search"  # of its episodes: nothing else draws from this stream
PLAN_FILE = "plan.json"
TRAINING, ALONE, TOGETHER = "training of ", "alone", "together"  # a term of each method, and its values
EPISODES = "search.episodes"  # tag of the search's run; set after its plan is stored


@dataclass(frozen=True)
class Plan:
    """What a search is to be, checked."""

    task: Task
    settings: SearchSettings
    experiment: str
    groups: Mapping[str, Group]  # by method: the settings around those that are searched
    spaces: Mapping[str, Space]
    terms: Mapping[str, Any]  # what a search keeps from its first call to its last, as JSON has it
    files: tuple[Path, ...]  # that its jobs read

    @property
    def study(self) -> str:
        """The tag `study` of its runs. No study has such a name."""
        return tag_of(self.settings.search, Kind.SEARCH)

    @property
    def evaluation(self) -> EvaluationSpec:
        """How everything is evaluated."""
        settings = self.settings
        return EvaluationSpec(
            settings.task, Protocol(settings.episodes, settings.seed, purpose=PURPOSE), settings.pairs
        )

    @property
    def needs(self) -> dict[str, Resources]:
        """What a training of each method needs, of one model or of a stack."""
        return {name: group.needs for name, group in self.groups.items()}

    @property
    def together(self) -> frozenset[str]:
        """The methods whose models are trained together."""
        return frozenset(name for name in self.groups if self.terms[f"{TRAINING}{name}"] == TOGETHER)

    @property
    def seeds(self) -> range:
        """The training seeds of every trial."""
        return range(self.settings.base_seed, self.settings.base_seed + self.settings.seeds_per_trial)

    def settings_of(self, method: str, params: Params) -> Group:
        """Return the group of a trial's models, without its name; raises `SettingsError` if they cannot be."""
        group = self.groups[method]
        return replace(group, settings=make(type(group.settings), group.settings.model_dump() | params))


def plan_search(settings: SearchSettings, say: Say) -> Plan:
    """Check what is asked for, make missing data, and return the plan; raises `UserError` kinds."""
    settings, task = settle(settings)
    if task.world is None:
        raise SettingsError(
            f"search: expected a task with a simulator, whose episodes nothing else uses, found '{task.name}'. Its "
            "held-out states would choose the recipe and judge it."
        )
    limits = settings.limits  # raises
    groups = {
        group.name: replace(group, settings=at_task(group.settings, task)) for group in plan_groups(settings.study)
    }
    around = [(group.method, group.settings) for group in groups.values()]
    spaces = read_spaces(find_space(settings.space), around, settings.budget == "equal")
    for method, space in spaces.items():
        fixed = {word.partition("=")[0].removeprefix(f"{method}.") for word in settings.set} & space.keys()
        if fixed:
            raise SettingsError(f"set: expected settings that are not searched, found {method}.{min(fixed)}.")
        points = prod(len(entry.grid()) for entry in space.values())
        if settings.sampler == "grid" and points < settings.trials:
            raise SettingsError(f"trials: expected at most {points}, the grid of {method}, found {settings.trials}.")
    assert limits.keys() == spaces.keys(), "a limit or none for every method"
    prepared, _ = prepare_data(task, settings.study, list(groups.values()), say)
    kept = ("sampler", "pruning", "parallel", "seeds_per_trial", "seed", "base_seed", "episodes")
    terms: dict[str, Any] = {name: getattr(settings, name) for name in kept}
    terms |= {TASK: task.name, "score": task.primary}
    together = together_groups(settings.study, [*groups.values()])
    for method, group in groups.items():
        terms[f"space of {method}"] = as_values(spaces[method])
        terms[f"recipe of {method}"] = group.recipe(prepared[method])
        terms[f"{TRAINING}{method}"] = TOGETHER if method in together else ALONE
    files = files_read(settings.study, prepared.values(), Beside([], None))
    return Plan(task, settings, settings.experiment, groups, spaces, json.loads(json.dumps(terms)), files)


def known_terms(store: Store, plan: Plan) -> dict[str, Any]:
    """The terms of the search of this name; none if it is new."""
    earlier = search(store, {STUDY: plan.study, KIND: Kind.SEARCH}, plan.experiment)
    if not earlier or EPISODES not in earlier[-1].tags:  # or it was killed before it had begun
        return {}
    with artifact(store, earlier[-1].run_id, PLAN_FILE) as path:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    methods = [name.removeprefix("recipe of ") for name in found if name.startswith("recipe of ")]
    return {f"{TRAINING}{method}": ALONE for method in methods} | found  # as before searches knew another way


def require_same_terms(plan: Plan, known: Mapping[str, Any]) -> None:
    """Raise `SettingsError` if the search of this name was begun on other terms."""
    for name, value in plan.terms.items():
        had = known.get(name, value)
        if had == value:
            continue
        if isinstance(value, dict) and isinstance(had, dict):  # which of many
            part = next(key for key in (value | had) if value.get(key) != had.get(key))
            name, had, value = f"{name}: {part}", had.get(part), value.get(part)
        same = "or use the same settings and data"
        if name.startswith(TRAINING):
            same = f"for their bits differ, or use --together {'yes' if had == TOGETHER else 'no'}"
        raise SettingsError(
            f"search: '{plan.settings.search}' has {name} {had}, and {value} is asked for. Name another with --search, "
            f"{same}."
        )
