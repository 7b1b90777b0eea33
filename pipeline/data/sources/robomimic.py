"""robomimic's data sets: an HDF5 file with the group `data`, and a group `demo_i` in it for each demonstration."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.data.sources.hdf5 import described, is_hdf5, make_room, number_of, opened, subgroup, values
from pipeline.data.sources.source import (
    MAX_FRAMES,
    MAX_RATE,
    Episode,
    Feature,
    Format,
    Source,
    fault,
    natural,
    whole,
)

NOT_OF_A_FRAME = ("next_obs",)  # what is seen after it
ACTION, LIMITS = "actions", (-1.0, 1.0)  # within which robomimic's actions lie


def open_robomimic(path: Path) -> Source:
    """Read the names and lengths of all demonstrations, and the arrays of the first; raises `DataError`."""
    with opened(path) as file:
        data = subgroup(path, file, "data")
        make_room(data)
        names = sorted((name for name in data if name.startswith("demo")), key=natural)
        if not names:
            raise fault(path, "groups 'demo_0', 'demo_1', ... in 'data'", f"only {', '.join(sorted(data)[:20])}")
        counts = [_count(path, subgroup(path, data, name)) for name in names]
        if "total" in data.attrs and (total := number_of(path, data, "total")) != sum(counts):
            raise fault(path, f"the {total} frames that 'total' claims", f"{sum(counts):,} in all demonstrations")
        first = subgroup(path, data, names[0])
        features, ignored = described(path, first, (name for name in sorted(first) if name not in NOT_OF_A_FRAME))
        if action := features.get(ACTION):
            features[ACTION] = replace(action, limits=(LIMITS,) * action.size)
        rate, task = _environment(path, data)

    return Source(
        format="robomimic",
        features=features,
        ignored=ignored,
        episodes=len(names),
        frames=sum(counts),
        rate=rate,
        tasks=task,
        name=names.__getitem__,
        files=(path,),
        read=partial(_read, path, features, names, counts),
    )


def _read(
    path: Path, features: Mapping[str, Feature], names: Sequence[str], counts: Sequence[int], choices: Sequence[str]
) -> Iterator[Episode]:
    with opened(path) as file:
        data = subgroup(path, file, "data")
        make_room(data)
        for name, count in zip(names, counts, strict=True):
            yield Episode(values(path, subgroup(path, data, name), features, choices, count))


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
