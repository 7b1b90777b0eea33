"""The plan of a study: what is asked for, checked, and the data of its groups."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import NONE
from pipeline.data.pairs import load_action_pairs
from pipeline.errors import DataError, SettingsError
from pipeline.evaluation.protocol import Protocol
from pipeline.executors.jobs import Resources
from pipeline.executors.run import require_room
from pipeline.methods.method import Prepared
from pipeline.names import KIND, TOGETHER, Kind
from pipeline.own_code import files_of
from pipeline.policies.load import load_policy
from pipeline.report.design import Design
from pipeline.stages.held_out import most_episodes
from pipeline.stages.judging import EvaluationSpec
from pipeline.stages.make_data import (
    default_pairs,
    make_missing_data,
    require_same_data,
    require_same_trajectories,
)
from pipeline.stages.say import Say
from pipeline.stages.train import prepare
from pipeline.studies.groups import Group, Member
from pipeline.studies.settings import EnsembleSettings
from pipeline.tasks.task import Task
from pipeline.tokenizer.fast import FastTokenizer
from pipeline.tracking.query import group_of, search_study
from pipeline.tracking.store import Store
from pipeline.training.fit import training_warnings


@dataclass(frozen=True)
class Beside:
    """What a study evaluates beside its models: the reference system's weights, each with its tokenizer, and FAST."""

    originals: Sequence[tuple[Path, str]]
    tokenizer: FastTokenizer | None  # of a method with tokens


@dataclass(frozen=True)
class Plan:
    """What a study is to be, checked: its groups with their data, and what is evaluated beside them."""

    task: Task
    settings: EnsembleSettings
    experiment: str
    groups: Sequence[Group]
    members: Sequence[Member]
    recipes: Mapping[str, Mapping[str, str]]  # what all models of each group share
    beside: Beside
    design: Design
    together: frozenset[str]  # the groups whose models are trained together
    files: tuple[Path, ...]  # that its jobs read

    @property
    def study(self) -> str:
        """The name of the study."""
        return self.settings.study

    @property
    def evaluation(self) -> EvaluationSpec:
        """How everything is evaluated."""
        return EvaluationSpec(self.settings.task, Protocol(self.design.episodes, self.design.seed), self.settings.pairs)

    @property
    def needs(self) -> dict[str, Resources]:
        """What a training of each group needs, of one model or of several together."""
        return {group.name: group.needs for group in self.groups}

    @property
    def looks(self) -> tuple[int, ...]:
        """The numbers of models per group at which the study may stop; the last is the planned end."""
        looks = self.design.looks
        return (self.settings.n_models,) if looks == NONE else tuple(map(int, looks.split(",")))


def prepare_data(
    task: Task, settings: EnsembleSettings, groups: Sequence[Group], say: Say
) -> tuple[dict[str, Prepared], int | None]:
    """Make missing default data, and check each group's data before anything is started; raises `UserError` kinds.

    Returns each group's, and how many episodes a condition can have, see `most_episodes`.
    """
    prepared: dict[str, Prepared] = {}
    warnings: list[str] = []
    require_room(settings.executor, (group.needs for group in groups))
    for group in groups:
        make_missing_data(group.settings, task, say)
        prepared[group.name] = prepare(group.method, group.settings, task)
        warnings += (*prepared[group.name].warnings, *training_warnings(group.settings, prepared[group.name]))
    for warning in dict.fromkeys(warnings):
        say(f"warning: {warning}")
    expert = load_action_pairs(settings.pairs)  # whatever the methods
    if len({one.split.digest for one in prepared.values()}) > 1:
        files = " and ".join(str(one.source.files["data"]) for one in prepared.values())
        raise DataError(f"{files}: expected the same trajectories, found others: the groups would not compare.")
    for group in groups:
        one, pairs = prepared[group.name], settings.pairs
        if one.interface.horizon != expert.action_chunk.shape[1]:
            pairs = one.source.files["data"] if one.interface.tokenizer is None else default_pairs(group.settings, task)
            require_same_trajectories(pairs, settings.pairs, expert)
        if one.interface.tokenizer is not None:
            require_same_data(one.source.files["data"], pairs)
    return prepared, most_episodes(task, settings.pairs, expert)


def files_read(settings: EnsembleSettings, prepared: Iterable[Prepared], beside: Beside) -> tuple[Path, ...]:
    """The files that the jobs of a study read."""
    found = [path for one in prepared for path in one.source.files.values()] + [settings.pairs]
    found += [Path(name) for original in beside.originals for name in original if name != NONE]
    return tuple(dict.fromkeys([*found, *files_of(settings.task)]))


def find_originals(settings: EnsembleSettings) -> list[tuple[Path, str]]:
    """The reference system's weights to evaluate beside ours, each with its tokenizer; raises `UserError` kinds."""
    if settings.originals == NONE:
        return []
    folder = Path(settings.originals)
    tokenizer = next((str(path) for path in sorted(folder.glob("*tokenizer*.json"))), NONE)
    found = [(path, tokenizer) for path in sorted(folder.glob("*.pth"))]
    if not found:
        raise SettingsError(f"originals: expected a folder with .pth files, found none in '{folder}'.")
    for path, _ in found:
        load_policy(path, None if tokenizer == NONE else tokenizer)
    return found


def require_same_recipes(store: Store, plan: Plan) -> None:
    """Raise `SettingsError` if a study of this name has trained a group otherwise."""
    study = plan.study
    runs = search_study(store, study, plan.experiment)
    for name, ours in plan.recipes.items():
        for run in runs:
            trained = run.tags.get(KIND) == Kind.MODEL and run.status == "FINISHED"
            if group_of(run) != name or not (trained or run.tags.get(KIND) == Kind.GROUP):
                continue
            was, ours_is = ("together" if is_so else "alone" for is_so in (TOGETHER in run.tags, name in plan.together))
            if trained and was != ours_is:
                raise SettingsError(
                    f"study: '{study}' has {name} models trained {was}, and {ours_is} is asked for: their bits differ. "
                    f"Use --together {'yes' if was == 'together' else 'no'}, or name another study with --study."
                )
            known = run.params | run.tags  # the tag device is where it was trained, not "auto"
            for setting, value in ours.items():
                if known.get(setting, value) != value:
                    raise SettingsError(
                        f"study: '{study}' has {name} models with {setting} {known[setting]}, and {value} is asked "
                        "for. Name another study with --study, or use the same settings and data."
                    )
