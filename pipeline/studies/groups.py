"""The groups of a study, and their members by seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config import AUTO, make
from pipeline.errors import SettingsError
from pipeline.executors.jobs import Resources
from pipeline.executors.run import machines_of
from pipeline.methods.method import Method, Prepared
from pipeline.methods.preset import read_preset
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import NOT_THE_RECIPE, TrainSettings
from pipeline.names import DATA_ASKED, DEVICE, GROUP, METHOD, PAIRS, SEED, SHA256, TASK
from pipeline.studies.settings import EnsembleSettings
from pipeline.training.device import find_device


@dataclass(frozen=True)
class Group:
    """Models of one method that differ only in their seed."""

    name: str  # "pi0", or "pi0 width=64"
    method: Method
    settings: TrainSettings  # of the first seed
    trained: str  # the name of the group that trains its models: its own, or another that differs only in acting
    device: str  # that its models are trained on, for results differ between devices

    @property
    def needs(self) -> Resources:
        """What a training needs of a machine, of one model or of several together."""
        return Resources(float(self.settings.threads), float(self.device == "cuda"))

    def member(self, seed: int) -> "Member":
        """Return the member with a seed; raises `SettingsError` for a seed that is out of range."""
        settings = make(type(self.settings), self.settings.model_dump() | {"seed": seed})
        return Member(self.name, self.method.name, settings, self.trained)

    def recipe(self, prepared: Prepared) -> dict[str, str]:
        """Return what all its models share, as text: the settings without the seed, and the digests of the data."""
        files = set(prepared.source.files) | {PAIRS, DATA_ASKED}  # names and paths may differ: the digests count
        values = self.settings.model_dump(mode="json", exclude={*NOT_THE_RECIPE, *files})
        digests = {what + SHA256: digest for what, digest in prepared.source.digests.items()}
        values[TASK] = prepared.interface.task.name  # however its file is named
        return {name: str(value) for name, value in values.items()} | digests | {DEVICE: self.device}


@dataclass(frozen=True)
class Member:
    """One model of a study."""

    group: str
    method: str
    settings: TrainSettings
    trained: str  # the name of the group that trains it

    @property
    def name(self) -> str:
        """The name within the study."""
        return member_name(self.group, self.settings.seed)

    @property
    def model(self) -> str:
        """The name of the member whose weights it has: its own, if it is trained."""
        return member_name(self.trained, self.settings.seed)

    @property
    def tags(self) -> dict[str, str]:
        """The tags of its run that say which member it is."""
        return {GROUP: self.group, METHOD: self.method, SEED: str(self.settings.seed)}


def plan_members(settings: EnsembleSettings, groups: Sequence[Group]) -> list[Member]:
    """Return all members, ordered by seed, so that an interrupted study has complete pairs; raises `SettingsError`."""
    seeds = range(settings.base_seed, settings.base_seed + settings.models)
    return [group.member(seed) for seed in seeds for group in groups]


def member_name(group: str, seed: int | str) -> str:
    """Return the name of the model of a group and seed."""
    return f"{group} seed {seed}"


def plan_groups(settings: EnsembleSettings) -> list[Group]:
    """Return the groups to compare, in the order given; raises `SettingsError` for inconsistent settings."""
    texts = list(dict.fromkeys(" ".join(text.split()) for text in settings.methods.split(",")))
    names = [text.split()[0] for text in texts]
    for name in names:
        if name not in METHODS:
            raise SettingsError(f"methods: expected some of {', '.join(METHODS)}, found '{name}'. See --help.")
    presets = _presets(settings, names)
    for_all: dict[str, str] = {}
    for_one: dict[str, dict[str, str]] = {name: {} for name in names}
    for word in settings.set:
        path, _, value = word.partition("=")
        method, _, field = path.rpartition(".")
        takers = [name for name in names if method in ("", name) and field in METHODS[name].settings_type.model_fields]
        if not takers:
            among = f"the method '{method}' of this study" if method else "a method of this study"
            raise SettingsError(f"set: expected a setting of {among}, found '{word}'. See --help.")
        (for_one[method] if method else for_all)[field] = value
    groups, machines = [], machines_of(settings.executor)
    for text, name in zip(texts, names, strict=True):
        own = dict(word.split("=", 1) for word in text.split()[1:])
        fields = METHODS[name].settings_type.model_fields
        shared = {field: value for field, value in for_all.items() if field in fields}
        chosen = _settings_of(settings, METHODS[name], presets.get(name, {}) | shared | for_one[name] | own)
        device, chosen = device_for(chosen, machines)
        groups.append(Group(text, METHODS[name], chosen, text, device))
    return [replace(group, trained=_trained(group, groups)) for group in groups]


def _presets(settings: EnsembleSettings, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The settings that presets give, by method; raises `SettingsError`."""
    found: dict[str, dict[str, Any]] = {}
    for file in settings.preset:
        preset = read_preset(Path(file))
        if preset.method not in names or preset.method in found:
            raise SettingsError(
                f"preset: expected at most one of each method of this study ({', '.join(dict.fromkeys(names))}), found "
                f"that {file} is {'another' if preset.method in found else 'one'} of {preset.method}."
            )
        found[preset.method] = preset.values
    return found


def together_groups(settings: EnsembleSettings, groups: Sequence[Group]) -> frozenset[str]:
    """Return the names of the groups whose models are trained together; raises `SettingsError` if one cannot be."""
    found = set()
    for group in groups:
        able = group.method.stacked is not None
        if settings.together == "yes" and not able:
            raise SettingsError(
                f"together: expected methods whose models can be trained together, found '{group.method.name}'. "
                "Use --together no."
            )
        if able and (settings.together == "yes" or (settings.together == AUTO and group.device == "cuda")):
            found.add(group.name)
    return frozenset(found)


def device_for(settings: TrainSettings, machines: Sequence[Resources] | None) -> tuple[str, TrainSettings]:
    """Return the device of a training, and the settings that name it wherever the training is.

    On the machines of a cluster "auto" is `cuda` if one of them has a GPU, or else the CPU: where each of them chose,
    the models of a group would be trained on several. Raises `SettingsError` if this machine is to train, and cannot.
    """
    if machines is None:
        return find_device(settings).type, settings
    gpu = any(each.gpus >= 1 for each in machines)
    device = settings.device if settings.device != AUTO else "cuda" if gpu else "cpu"
    return device, settings.model_copy(update={"device": device})


def _trained(group: Group, groups: Sequence[Group]) -> str:
    """Return which of the groups trains this one's models.

    Of groups that differ only in how they act it is the first that acts by default, or else the first.
    """
    acting = set(group.method.acting_type.model_fields)
    recipe = group.settings.model_dump(exclude=acting)
    same = [
        each for each in groups if each.method == group.method and each.settings.model_dump(exclude=acting) == recipe
    ]
    default = [each for each in same if each.method.acting(each.settings) == each.method.acting_type()]
    return (default or same)[0].name


def _settings_of(settings: EnsembleSettings, method: Method, chosen: dict[str, Any]) -> TrainSettings:
    kind = method.settings_type
    values: dict[str, Any] = {"seed": settings.base_seed, "experiment": settings.experiment}
    shared = ("task", "data")
    values |= {name: getattr(settings, name) for name in (*shared, "horizon")}
    of_study = kind.model_fields["pairs"].default == EnsembleSettings.model_fields["pairs"].default
    if of_study and "horizon" not in chosen:  # another horizon has other chunks, in a folder of their own
        values["pairs"] = settings.pairs
    refused = {"seed", "resume", "run_name", "preset", "experiment", *shared} & chosen.keys()
    if refused:
        raise SettingsError(f"set: expected a setting that all models of a group share, found '{refused.pop()}'.")
    return make(kind, values | chosen)
