"""What a format of demonstrations is, and what a reader of one gives.

Shapes: T frames of an episode, D numbers of a feature in one frame.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, RunError, UserError, reason
from pipeline.parse import json_object, small_text

LARGEST_JSON = 50_000_000  # bytes of a JSON file, or of a line of one
MAX_FRAMES, MAX_EPISODES, MAX_NUMBERS, MAX_RATE = 10**10, 10**8, 10_000, 10**6


@dataclass(frozen=True)
class Feature:
    """Numbers that a source has for each frame."""

    key: str
    size: int  # D
    names: tuple[str, ...] = ()  # of its numbers; empty where the source names none
    limits: tuple[tuple[float, float], ...] = ()  # least and largest of each number; empty where the source has none


@dataclass(frozen=True)
class Episode:
    """A demonstration, as the source has it."""

    values: Mapping[str, NDArray[Any]]  # (T, D) by the key of the feature
    numbers: NDArray[np.int64] | None = None  # (T,) of the frames, where the source numbers them
    seconds: NDArray[np.float64] | None = None  # (T,) since the start, where the source has them


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a source says of itself, and how its episodes are read. It can be pickled: another process opens it."""

    format: str  # with its version
    features: Mapping[str, Feature]
    ignored: tuple[str, ...] = ()  # videos, pictures, texts
    episodes: int
    frames: int
    rate: float | None = None  # frames a second
    licence: str = ""
    tasks: tuple[str, ...] = ()  # what the demonstrator was asked to do
    files: Iterable[Path]  # all that are read, the same at each turn; raises `DataError` for one that is not there
    name: Callable[[int], str]  # of an episode, by its place among all
    read: Callable[[Sequence[str]], Iterator[Episode]]
    """`read(choices)`: the episodes in their order, with the features that these keys and groups mean.

    Every episode has the same ones, each of the same size. Raises `DataError` naming the episode.
    """


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format: how it is recognised and opened, and what its states and actions are usually called."""

    about: str  # what a path of it is, for help and errors
    recognises: Callable[[Path], bool]
    open: Callable[[Path, Sequence[str]], Source]
    """`open(path, keys)`: the keys are those that will be asked for. Where a file holds arrays of several kinds, they
    tell which are meant. Raises `DataError`, `MissingExtraError`."""
    state: tuple[str, ...]  # keys or groups of keys, of which one is expected
    action: tuple[str, ...]


@contextmanager
def readable(path: Path, expected: str) -> Iterator[None]:
    """In this context, what a library raises on a damaged file becomes one line."""
    try:
        yield
    except (UserError, RunError):
        raise
    except Exception as error:  # damage can surface as nearly anything
        raise fault(path, expected, f"a damaged or foreign file ({reason(error)[:200]})") from error


def object_in(path: Path, expected: str) -> dict[str, Any]:
    """Return the JSON object that a file of limited size is; raises `DataError` that says what was expected."""
    with readable(path, expected):
        return json_object(small_text(path, LARGEST_JSON))


def fault(path: Path, expected: str, found: object) -> DataError:
    """The error of a source that is not what it should be."""
    return DataError(f"{path}: expected {expected}, found {found}. Nothing was imported.")


def inside(folder: Path, path: Path) -> Path:
    """Return `path` after checking that it is a file and no link leads out of the folder."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise fault(path, f"a file within {folder}", "a link that leads out of it: copy the data with 'cp -rL'")
    if not path.is_file():
        raise fault(path, "a file", "none")
    return path


def whole(path: Path, where: str, value: Any, least: int, most: int) -> int:
    """Return a whole number of a source after checking its range."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise fault(path, f"'{where}' to be a whole number of {least:,} to {most:,}", f"{value!r:.100}")
    return value


def natural(text: str) -> list[Any]:
    """A key that sorts `demo_2` before `demo_10`: texts and numbers by turns."""
    return [int(part) if number % 2 else part for number, part in enumerate(re.split(r"([0-9]{1,18})", text))]


def matching(features: Collection[str], choices: Sequence[str]) -> list[str]:
    """The keys that choices mean: each a feature, or all in a group."""
    return [key for choice in choices for key in ([choice] if choice in features else _group(features, choice))]


def _group(features: Collection[str], name: str) -> list[str]:
    return sorted((key for key in features if key.startswith(f"{name}/")), key=natural)


def chosen(source: Source, what: str, given: Sequence[str], usual: Sequence[str]) -> list[str]:
    """The keys or groups of the states or of the action: those given, or the usual one; raises `DataError`.

    It lists what there is if a key is missing, or if none or several of the usual ones are there.
    """
    there = ", ".join(f"{each.key} ({each.size})" for each in source.features.values()) or "nothing"
    there = there if len(there) <= 300 else f"{there[:300]}..."
    option = f"Choose by --{what}."
    choices = list(given) or [key for key in usual if matching(source.features, [key])]
    if not given and len(choices) != 1:
        wrong = f"{' and '.join(choices)}: more than one" if choices else "none"
        raise DataError(f"{what}: expected one of {', '.join(usual)}, found {wrong}. The source has {there}. {option}")
    for choice in choices:
        if not matching(source.features, [choice]):
            raise DataError(f"{what}: expected keys of the source, found '{choice}'. The source has {there}. {option}")
    keys = matching(source.features, choices)
    if len(set(keys)) < len(keys):
        raise DataError(f"{what}: expected each key once, found {', '.join(choices)}. The source has {there}. {option}")
    if (size := sum(source.features[key].size for key in keys)) > MAX_NUMBERS:
        raise DataError(f"{what}: expected at most {MAX_NUMBERS:,} numbers a frame, found {size:,}. {option}")
    return choices
