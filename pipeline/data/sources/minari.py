"""Minari's data sets: a folder with `data/metadata.json` and `data/main_data.hdf5`, as of Minari 0.4 and 0.5."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.sources.hdf5 import described, make_room, number_of, opened, subgroup, values
from pipeline.data.sources.source import (
    MAX_EPISODES,
    MAX_FRAMES,
    Episode,
    Feature,
    Format,
    Source,
    fault,
    inside,
    object_in,
    readable,
    whole,
)

METADATA, MAIN = "metadata.json", "main_data.hdf5"
SPACES = {"observations": "observation_space", "actions": "action_space"}
WITH_LAST = ("observations", "infos")  # one row more than actions: what was seen after the last


def _folder(path: Path) -> Path:
    """The folder of the two files, from itself, the data set's, or the main file."""
    if path.name == MAIN:
        return path.parent
    return path / "data" if (path / "data" / METADATA).exists() or (path / "data" / MAIN).exists() else path


def recognises(path: Path) -> bool:
    """Whether the two files, or one of them, are there."""
    folder = _folder(path)
    return folder.is_dir() and ((folder / MAIN).exists() or (folder / METADATA).exists())


def open_minari(path: Path) -> Source:
    """Read what the metadata and the first episode say; raises `DataError`."""
    folder = _folder(path)
    text, main = inside(folder, folder / METADATA), inside(folder, folder / MAIN)
    facts = object_in(text, "Minari's metadata")
    if (stored := facts.get("data_format", "hdf5")) != "hdf5":
        raise fault(text, "the data_format 'hdf5'", f"{stored!r:.100}: write it with data_format='hdf5' in Minari")
    episodes = whole(text, "total_episodes", facts.get("total_episodes"), 1, MAX_EPISODES)
    frames = whole(text, "total_steps", facts.get("total_steps"), 1, MAX_FRAMES)
    with opened(main) as file:
        first = subgroup(main, file, "episode_0")
        groups = ("observations", "actions", *(["infos"] if "infos" in first else []))
        features, ignored = described(main, first, groups)
    for group, name in SPACES.items():
        with readable(text, f"'{name}' to be a space, as JSON"):
            features |= _limited(text, features, group, name, facts.get(name))
    return Source(
        format="minari",
        features=features,
        ignored=ignored,
        episodes=episodes,
        frames=frames,
        name="episode_{}".format,
        files=(text, main),
        read=partial(_read, main, features, episodes, frames),
    )


def _limited(
    path: Path, features: Mapping[str, Feature], key: str, name: str, space: Any
) -> Iterator[tuple[str, Feature]]:
    """The features below `key` that a space describes, with its limits; a space that is not there has none."""
    space = json.loads(space) if isinstance(space, str) else space
    if not isinstance(space, dict):
        return
    parts = space.get("subspaces", ())
    below = parts if isinstance(parts, dict) else {f"_index_{number}": part for number, part in enumerate(parts)}
    for part, inner in below.items():
        yield from _limited(path, features, f"{key}/{part}", name, inner)
    if key in features and "low" in space and "high" in space:
        feature = features[key]
        limits = np.array([space["low"], space["high"]], np.float64).reshape(2, -1)
        if limits.shape[1] != feature.size or np.isnan(limits).any():
            found = f"limits of {limits.shape[1]}"
            raise fault(path, f"'{name}' to limit the {feature.size} numbers of '{key}'", found)
        yield key, replace(feature, limits=tuple((low, high) for low, high in limits.T.tolist()))


def _read(
    path: Path, features: Mapping[str, Feature], episodes: int, frames: int, choices: Sequence[str]
) -> Iterator[Episode]:
    with opened(path) as file:
        if len(file) != episodes:
            raise fault(path, f"the {episodes:,} episodes of {METADATA}", f"{len(file):,}")
        make_room(file)
        for number in range(episodes):
            group = subgroup(path, file, f"episode_{number}")
            count = whole(path, f"total_steps of episode_{number}", number_of(path, group, "total_steps"), 1, frames)
            yield Episode(values(path, group, features, choices, count, WITH_LAST))


MINARI = Format(
    about="a folder with data/main_data.hdf5",
    recognises=recognises,
    open=lambda path, _: open_minari(path),
    state=("observations",),
    action=("actions",),
)
