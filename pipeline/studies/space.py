"""What a search may vary: for each method its settings of training and of acting, each with a range or with choices.

A file of spaces is YAML:

    pi0:
      lr: {low: 0.001, high: 0.016, log: true}
      flow_steps: {choices: [3, 5, 10]}
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import Field

from pipeline.config import Settings, make
from pipeline.errors import SettingsError, one_line
from pipeline.methods.method import Method
from pipeline.methods.preset import NOT_THE_METHODS, read_yaml
from pipeline.methods.settings import TrainSettings

SHIPPED = Path(__file__).with_name("spaces")
DIGITS = 4  # of a suggested number: a recipe that people can read
MOST_CHOICES = 100

Params = dict[str, Any]
"""Values of the searched settings, by their names."""


class _Range(Settings):
    low: float
    high: float
    log: bool = False
    points: int = Field(3, ge=2, le=1000)


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, both possible; whole numbers if `whole`; even in the logarithm if `log`."""

    low: float
    high: float
    log: bool
    whole: bool
    points: int  # of a grid

    def rounded(self, value: float) -> float:
        """Return a value with few digits, within the range."""
        if self.whole:
            return int(value)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def grid(self) -> tuple[float, ...]:
        """Return `points` values over the range, or fewer if there are not so many whole numbers."""
        spread = np.geomspace if self.log else np.linspace
        values = spread(self.low, self.high, self.points).tolist()
        return tuple(dict.fromkeys(self.rounded(round(each) if self.whole else each) for each in values))

    @property
    def ends(self) -> tuple[float, ...]:
        """The values that must be possible for all others to be."""
        return self.low, self.high


@dataclass(frozen=True)
class Choices:
    """Some values, without an order."""

    values: tuple[Any, ...]

    def grid(self) -> tuple[Any, ...]:
        """Return all of them."""
        return self.values

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that must be possible."""
        return self.values


Space = Mapping[str, Range | Choices]
"""What is searched of a method, by the settings' names."""


def find_space(text: str) -> Path:
    """Return the file of a space: the name of one that is shipped, such as "default", or a path."""
    shipped = SHIPPED / f"{text}.yaml"
    return shipped if text.isidentifier() and shipped.exists() else Path(text)


def read_spaces(path: Path, methods: Iterable[tuple[Method, TrainSettings]], equal: bool = True) -> dict[str, Space]:
    """Read the spaces of methods, each with the settings that hold around it.

    Raises `SettingsError` if the file is none, for a method or setting that is unknown or cannot be searched, for a
    range or choice that is impossible, and, if they are to be `equal`, for methods with unequal numbers of settings.
    """
    found = _load(path)
    spaces: dict[str, Space] = {}
    for method, settings in methods:
        entries = found.get(method.name)
        if not isinstance(entries, dict) or not entries:
            raise SettingsError(
                f"{path}: expected settings of {method.name} with their ranges, found {entries or 'none'}. "
                f"It has: {', '.join(map(str, found))}."
            )
        spaces[method.name] = {
            str(name): _entry(f"{path}: {method.name}.{name}", method, settings, str(name), entry)
            for name, entry in entries.items()
        }
    sizes = {name: len(space) for name, space in spaces.items()}
    if equal and len(set(sizes.values())) > 1:
        raise SettingsError(
            f"{path}: expected as many searched settings of every method, found "
            f"{', '.join(f'{size} of {name}' for name, size in sizes.items())}. Give each as many, or say "
            "--budget unequal."
        )
    return spaces


def log_settings(space: Space) -> frozenset[str]:
    """Return the settings that are even in the logarithm."""
    return frozenset(name for name, entry in space.items() if isinstance(entry, Range) and entry.log)


def as_values(space: Space) -> dict[str, Any]:
    """Return a space as plain values, for JSON."""
    return {
        name: [*entry.values]
        if isinstance(entry, Choices)
        else [entry.low, entry.high, entry.points, "log" if entry.log else ""]
        for name, entry in space.items()
    }


def space_text(spaces: Mapping[str, Space]) -> str:
    """Write the spaces of methods as a file that `read_spaces` reads."""
    found = {method: {name: _as_entry(entry) for name, entry in space.items()} for method, space in spaces.items()}
    return yaml.dump(found, sort_keys=False, default_flow_style=None, width=100)


def _as_entry(entry: Range | Choices) -> dict[str, Any]:
    if isinstance(entry, Choices):
        return {"choices": [*entry.values]}
    return {"low": entry.low, "high": entry.high, "log": entry.log, "points": entry.points}


def _load(path: Path) -> dict[Any, Any]:
    found = read_yaml(path, "a space file")
    if not isinstance(found, dict) or not found:
        raise SettingsError(f"{path}: expected methods with their searched settings, found none.")
    return found


def _entry(where: str, method: Method, settings: TrainSettings, name: str, entry: object) -> Range | Choices:
    fields = method.settings_type.model_fields
    if name not in fields or name in NOT_THE_METHODS:
        raise SettingsError(f"{where}: expected a setting of {method.name} that can be searched, found '{name}'.")
    keys = entry.keys() if isinstance(entry, dict) else set()
    if not isinstance(entry, dict) or not ({"choices"} == keys or ({"low", "high"} <= keys and "choices" not in keys)):
        raise SettingsError(f"{where}: expected {{low, high}} or {{choices: [...]}}, found {str(entry)[:100]}.")
    found = _choices(where, entry["choices"]) if "choices" in entry else _range(where, fields[name].annotation, entry)
    typed = [_valid(where, type(settings), settings, name, value) for value in found.ends]
    if isinstance(found, Range):
        return found
    if len(set(typed)) < len(typed):
        raise SettingsError(f"{where}: expected choices that differ, found {typed}.")
    return Choices(tuple(typed))


def _choices(where: str, values: object) -> Choices:
    if not isinstance(values, list) or not 2 <= len(values) <= MOST_CHOICES:
        raise SettingsError(f"{where}: expected 2 to {MOST_CHOICES} choices, found {str(values)[:100]}.")
    return Choices(tuple(values))


def _range(where: str, kind: Any, entry: dict[Any, Any]) -> Range:
    if kind not in (int, float):
        raise SettingsError(f"{where}: expected choices, for it is no number, found a range.")
    try:
        given = make(_Range, entry)
    except SettingsError as error:
        raise SettingsError(f"{where}: {one_line(error).removesuffix(' See --help.')}") from error
    if isinstance(entry["low"], bool) or isinstance(entry["high"], bool) or not given.low < given.high:
        raise SettingsError(f"{where}: expected low < high, found {entry['low']} and {entry['high']}.")
    if given.log and given.low <= 0:
        raise SettingsError(f"{where}: expected low above 0 with log, found {given.low:g}.")
    if kind is int:
        if not (given.low.is_integer() and given.high.is_integer()):
            raise SettingsError(f"{where}: expected whole numbers, found {given.low:g} and {given.high:g}.")
        return Range(int(given.low), int(given.high), given.log, True, given.points)
    return Range(given.low, given.high, given.log, False, given.points)


def _valid(where: str, kind: type[TrainSettings], settings: TrainSettings, name: str, value: object) -> Any:
    """Return the value as the setting's type; raises `SettingsError` if it is none."""
    if isinstance(value, bool) and kind.model_fields[name].annotation is not bool:
        raise SettingsError(f"{where}: expected a value of the setting, found {value}.")
    try:
        return getattr(make(kind, settings.model_dump() | {name: value}), name)
    except SettingsError as error:
        raise SettingsError(f"{where}: {one_line(error).removesuffix(' See --help.')}") from error
