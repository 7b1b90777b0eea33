"""Minari's data sets: a folder with `data/metadata.json` and `data/main_data.hdf5`, as of Minari 0.4 and 0.5."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from pipeline.data.sources.hdf5 import described, number_of, opened, subgroup, values
from pipeline.data.sources.source import (
    MAX_EPISODES,
    MAX_FRAMES,
    Episode,
    Feature,
    Format,
    Source,
    fault,
    inside,
    json_object,
    whole,
)

METADATA, MAIN = "metadata.json", "main_data.hdf5"
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
    facts = json_object(text, "Minari's metadata")
    if (stored := facts.get("data_format", "hdf5")) != "hdf5":
        raise fault(text, "the data_format 'hdf5'", f"{stored!r:.100}: write it with data_format='hdf5' in Minari")
    episodes = whole(text, "total_episodes", facts.get("total_episodes"), 1, MAX_EPISODES)
    frames = whole(text, "total_steps", facts.get("total_steps"), 1, MAX_FRAMES)
    with opened(main) as file:
        first = subgroup(main, file, "episode_0")
        groups = ("observations", "actions", *(["infos"] if "infos" in first else []))
        features, ignored = described(main, first, groups)
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


def _read(
    path: Path, features: Mapping[str, Feature], episodes: int, frames: int, choices: Sequence[str]
) -> Iterator[Episode]:
    with opened(path) as file:
        if len(file) != episodes:
            raise fault(path, f"the {episodes:,} episodes of {METADATA}", f"{len(file):,}")
        for number in range(episodes):
            group = subgroup(path, file, f"episode_{number}")
            count = whole(path, f"total_steps of episode_{number}", number_of(path, group, "total_steps"), 1, frames)
            yield Episode(values(path, group, features, choices, count, WITH_LAST))


MINARI = Format(
    about="a folder with data/main_data.hdf5",
    recognises=recognises,
    open=open_minari,
    state=("observations",),
    action=("actions",),
)
