"""robomimic's data sets: an HDF5 file with the group `data`, and a group `demo_i` in it for each demonstration."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.sources.hdf5 import described, is_hdf5, make_room, number_of, opened, subgroup, values
from pipeline.data.sources.source import (
    MAX_FRAMES,
    MAX_RATE,
    Episode,
    Feature,
    Format,
    Source,
    fault,
    whole,
)

Integers = NDArray[np.int64]

NOT_OF_A_FRAME = ("next_obs",)  # what is seen after it
NAME, NUMBERED = "demo_{}".format, re.compile("demo_(0|[1-9][0-9]{0,17})")
ACTION, LIMITS = "actions", (-1.0, 1.0)  # within which robomimic's actions lie


def open_robomimic(path: Path) -> Source:
    """Read the names and lengths of all demonstrations, and the arrays of the first; raises `DataError`."""
    with opened(path) as file:
        data = subgroup(path, file, "data")
        make_room(data)
        numbers = np.sort(np.fromiter(_numbers(path, data), np.int64))
        if len(numbers) == 0:
            raise fault(path, "groups 'demo_0', 'demo_1', ... in 'data'", f"only {', '.join(sorted(data)[:20])}")
        counts = np.fromiter((_count(path, subgroup(path, data, NAME(number))) for number in numbers), np.int64)
        frames = int(counts.sum())
        if "total" in data.attrs and (total := number_of(path, data, "total")) != frames:
            raise fault(path, f"the {total} frames that 'total' claims", f"{frames:,} in all demonstrations")
        first = subgroup(path, data, NAME(numbers[0]))
        features, ignored = described(path, first, (name for name in sorted(first) if name not in NOT_OF_A_FRAME))
        if action := features.get(ACTION):
            features[ACTION] = replace(action, limits=(LIMITS,) * action.size)
        rate, task = _environment(path, data)

    return Source(
        format="robomimic",
        features=features,
        ignored=ignored,
        episodes=len(numbers),
        frames=frames,
        rate=rate,
        tasks=task,
        name=partial(_name, numbers),
        files=(path,),
        read=partial(_read, path, features, numbers, counts),
    )


def _read(
    path: Path, features: Mapping[str, Feature], numbers: Integers, counts: Integers, choices: Sequence[str]
) -> Iterator[Episode]:
    with opened(path) as file:
        data = subgroup(path, file, "data")
        make_room(data)
        for number, count in zip(numbers, counts.tolist(), strict=True):
            yield Episode(values(path, subgroup(path, data, NAME(number)), features, choices, count))


def _name(numbers: Integers, episode: int) -> str:
    return NAME(numbers[episode])


def _numbers(path: Path, data: Any) -> Iterator[int]:
    """The numbers of all demonstrations, in the file's order."""
    for name in data:
        if found := NUMBERED.fullmatch(name):
            yield int(found[1])
        elif name.startswith("demo"):
            raise fault(path, "groups 'demo_0', 'demo_1', ... in 'data'", f"'{name:.100}'")


def _count(path: Path, demo: Any) -> int:
    name = demo.name.rpartition("/")[2]
    return whole(path, f"num_samples of {name}", number_of(path, demo, "num_samples"), 1, MAX_FRAMES)


def _environment(path: Path, data: Any) -> tuple[float | None, tuple[str, ...]]:
    """The rate of control and the environment's name, where `env_args` say them."""
    if "env_args" not in data.attrs:
        return None, ()
    found: Any = json.loads(data.attrs["env_args"])
    if not isinstance(found, dict):
        raise fault(path, "'env_args' to be a JSON object", f"{found!r:.100}")
    rate = found["env_kwargs"].get("control_freq") if isinstance(found.get("env_kwargs"), dict) else None
    name = found.get("env_name")
    return (
        float(rate) if isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate < MAX_RATE else None,
        (name,) if isinstance(name, str) and name else (),
    )


ROBOMIMIC = Format(
    about="an HDF5 file with the group data/demo_0",
    recognises=is_hdf5,
    open=lambda path, _: open_robomimic(path),
    state=("obs",),
    action=(ACTION,),
)
