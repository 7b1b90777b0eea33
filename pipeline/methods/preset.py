"""A preset: the recipe of a method as a file, with where it comes from. `--preset FILE` takes it.

It is YAML: the method, all settings of its training, its rule of acting, and what found it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.config import NONE, describe_fault
from pipeline.errors import SettingsError, reason
from pipeline.files import write_text
from pipeline.methods.settings import TrainSettings
from pipeline.parse import small_text, yaml_values

if TYPE_CHECKING:  # it imports torch
    from pipeline.methods.method import Method

OF_THE_RUN = ("seed", "run_name", "resume", "preset", "experiment", "device", "threads", "deterministic")
OF_THE_TASK = ("task", "data", "horizon", "pairs", "tokenizer")
NOT_THE_METHODS = frozenset((*OF_THE_RUN, *OF_THE_TASK))
"""Settings of a training that are not of its recipe."""
ONCE_OF_THE_RECIPE = ("deterministic",)  # earlier versions wrote it
LARGEST_FILE = 2**20  # bytes


class _Dumper(yaml.SafeDumper):
    """Writes each mapping of a list, such as a trial, on as few lines as it takes."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        node = super().represent_sequence(tag, sequence, flow_style)
        for each in node.value:
            if isinstance(each, yaml.MappingNode):
                each.flow_style = True
        return node


class Preset(BaseModel):
    """The recipe of a method, and where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["tinypi-preset-1"] = "tinypi-preset-1"
    method: str
    settings: dict[str, Any]  # of training
    acting: dict[str, Any]
    found: dict[str, Any] = {}

    @property
    def values(self) -> dict[str, Any]:
        """All settings of the recipe."""
        return self.settings | self.acting


def preset_of(method: "Method", settings: TrainSettings, found: Mapping[str, Any]) -> Preset:
    """Make the preset of a method from settings."""
    values = settings.model_dump(mode="json", exclude=set(NOT_THE_METHODS))
    acting = {name: value for name, value in values.items() if name in method.acting_type.model_fields}
    training = {name: value for name, value in values.items() if name not in acting}
    return Preset(method=method.name, settings=training, acting=acting, found=dict(found))


def preset_text(preset: Preset) -> str:
    """Write a preset as YAML."""
    text = yaml.dump(preset.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return f"# --preset of train_{preset.method}, ensemble and suite. Settings on the command line win over it.\n{text}"


def write_preset(path: Path, preset: Preset) -> None:
    """Write a preset as a whole file."""
    write_text(path, preset_text(preset))


def read_yaml(path: Path, what: str) -> Any:
    """Return what a YAML file of limited size holds; raises `SettingsError` that says `what` was expected."""
    try:
        return yaml_values(small_text(path, LARGEST_FILE))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: expected {what} in YAML, found: {reason(error)[:200]}.") from error


def read_preset(path: Path) -> Preset:
    """Read a preset; raises `SettingsError` if it is none, or has settings that are not a recipe's."""
    try:
        preset = Preset.model_validate(read_yaml(path, "a preset"))
    except ValidationError as error:
        raise SettingsError(f"{path}: no preset: {describe_fault(error.errors()[0])}") from error
    settings = {name: value for name, value in preset.settings.items() if name not in ONCE_OF_THE_RECIPE}
    preset = preset.model_copy(update={"settings": settings})
    if foreign := sorted(preset.values.keys() & NOT_THE_METHODS):
        raise SettingsError(f"{path}: expected settings of a recipe, found '{foreign[0]}'.")
    return preset


def preset_for(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a training: those `given`, over those of the preset that they name, if they name one.

    Raises `SettingsError` if it is of another method.
    """
    name = str(given.get("preset", NONE))
    if name == NONE:
        return dict(given)
    preset = read_preset(Path(name))
    if preset.method != method:
        raise SettingsError(f"preset: expected one of {method}, found that {name} is one of {preset.method}.")
    return preset.values | dict(given)
