"""LeRobot's data sets v3.0 and v2.1: a folder with `meta/info.json` and parquet files below `data/`.

v3.0 has many episodes in a file, and says in `meta/episodes/` which frames each has; v2.1 has a file an episode.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.sources.lerobot_episodes import lines, table_v2, table_v3
from pipeline.data.sources.parquet import blocks_of
from pipeline.data.sources.source import (
    MAX_EPISODES,
    MAX_FRAMES,
    MAX_NUMBERS,
    MAX_RATE,
    Episode,
    Feature,
    Format,
    Source,
    fault,
    inside,
    matching,
    object_in,
    readable,
    whole,
)
from pipeline.parse import yaml_values

V3, V2 = "v3.0", "v2.1"
INFO = "meta/info.json"
DATA_PATH = {
    V3: "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    V2: "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
}
INDICES = ("timestamp", "frame_index", "episode_index", "index", "task_index")
LONGEST_LICENCE = 200  # characters
NUMBERS = re.compile(r"float(16|32|64)|u?int(8|16|32|64)|bool")


def open_lerobot(path: Path) -> Source:
    """Read what `meta/` says; raises `DataError`."""
    info_file = inside(path, path / INFO)
    info = object_in(info_file, "a JSON object")
    if (version := info.get("codebase_version")) not in DATA_PATH:
        raise fault(info_file, f"codebase_version {V3} or {V2}", f"{version!r:.100}: convert it with lerobot")
    template = info.get("data_path", DATA_PATH[version])
    if template != DATA_PATH[version]:
        raise fault(info_file, f"data_path '{DATA_PATH[version]}'", f"{template!r:.200}")
    rate = info.get("fps")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < MAX_RATE:
        raise fault(info_file, "fps above 0", f"{rate!r:.100}")
    episodes = whole(info_file, "total_episodes", info.get("total_episodes"), 1, MAX_EPISODES)
    frames = whole(info_file, "total_frames", info.get("total_frames"), 1, MAX_FRAMES)
    features, ignored = _features(info_file, info.get("features"))
    if version == V3:
        table, meta = table_v3(path)
    else:
        size = whole(info_file, "chunks_size", info.get("chunks_size", 1000), 1, MAX_EPISODES)
        table, meta = table_v2(path, size)
    if len(table.lengths) != episodes or int(table.lengths.sum()) != frames:
        found = f"{len(table.lengths):,} and {int(table.lengths.sum()):,} in meta/episodes"
        raise fault(info_file, f"the {episodes:,} episodes and {frames:,} frames that it claims", found)
    names = {"chunk_index": table.chunk, "file_index": table.file}
    if version == V2:
        names = {"episode_chunk": table.chunk, "episode_index": table.file}
    starts = np.flatnonzero(np.diff(table.chunk, prepend=-1) | np.diff(table.file, prepend=-1))
    parts = Parts(path, template, {key: column[starts] for key, column in names.items()}, starts)
    return Source(
        format=f"lerobot {version}",
        features=features,
        ignored=ignored,
        episodes=episodes,
        frames=frames,
        rate=float(rate),
        licence=_licence(path),
        tasks=_tasks(path, version),
        name="episode {}".format,
        files=Files((info_file, *meta), parts),
        read=partial(_read, features, parts, table.lengths),
    )


@dataclass(frozen=True, eq=False)
class Parts:
    """The files of frames, P of them. Their names are made when they are needed: those of many take much memory."""

    folder: Path
    template: str
    numbers: Mapping[str, NDArray[np.int64]]  # (P,) in the template
    first: NDArray[np.int64]  # (P,) the number of the first episode in each

    def __iter__(self) -> Iterator[Path]:
        for each in zip(*(column.tolist() for column in self.numbers.values()), strict=True):
            yield inside(self.folder, self.folder / self.template.format(**dict(zip(self.numbers, each, strict=True))))


@dataclass(frozen=True)
class Files:
    """All files that are read."""

    meta: tuple[Path, ...]
    parts: Parts

    def __iter__(self) -> Iterator[Path]:
        yield from self.meta
        yield from self.parts


def _features(path: Path, found: Any) -> tuple[dict[str, Feature], tuple[str, ...]]:
    """What has one number or a list of numbers for each frame, and the names of what has not."""
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise fault(path, "'features' to be a table of features", f"{found!r:.100}")
    features, ignored = {}, []
    for key, feature in found.items():
        kind, shape = feature.get("dtype"), feature.get("shape")
        if key in INDICES:
            continue
        if not isinstance(kind, str) or not isinstance(shape, list):
            raise fault(path, f"dtype and shape of '{key:.100}'", f"{kind!r:.50} and {shape!r:.50}")
        if not NUMBERS.fullmatch(kind) or len(shape) != 1:
            ignored.append(key)
            continue
        size = whole(path, f"shape of '{key:.100}'", shape[0], 1, MAX_NUMBERS)
        features[key] = Feature(key, size, _names(feature.get("names"), size))
    return features, tuple(ignored)


def _names(found: Any, size: int) -> tuple[str, ...]:
    """The names of a feature's numbers: a list, a list below one key, or their places by name; () for others."""
    if isinstance(found, dict) and len(found) == 1 and isinstance(inner := next(iter(found.values())), list):
        found = inner
    if isinstance(found, dict) and all(type(place) is int for place in found.values()):
        found = sorted(found, key=found.__getitem__)
    good = isinstance(found, list) and len(found) == size and all(isinstance(name, str) for name in found)
    return tuple(found) if good else ()


def _tasks(path: Path, version: str) -> tuple[str, ...]:
    """The texts of what the demonstrator was asked to do, where the file is there."""
    file = path / "meta" / ("tasks.parquet" if version == V3 else "tasks.jsonl")
    if not file.exists():
        return ()
    if version == V2:
        return tuple(str(facts.get("task", "")) for facts in lines(inside(path, file)))
    import pyarrow
    import pyarrow.parquet

    with readable(inside(path, file), "a parquet file of tasks"):
        table = pyarrow.parquet.read_table(file)
        texts = [
            name
            for name, kind in zip(table.column_names, table.schema.types, strict=True)
            if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)
        ]
        return tuple(map(str, table[texts[0]].to_pylist())) if texts else ()  # it is pandas' index, of either name


def _licence(path: Path) -> str:
    """The licence that the card states in its head, if any; of several, in a list, all with commas between."""
    card = path / "README.md"
    if not card.is_file() or not card.resolve().is_relative_to(path.resolve()):
        return ""
    with card.open(encoding="utf-8", errors="replace") as stream:
        head = stream.read(20_000).split("\n---", 1)[0]
    if not head.startswith("---"):
        return ""
    try:
        told = yaml_values(head.removeprefix("---"))
    except ValueError:
        return ""
    named = told.get("license") if isinstance(told, dict) else None
    text = ", ".join(map(str, named if isinstance(named, list) else [named] if named else []))
    return text if text.isprintable() and len(text) <= LONGEST_LICENCE else ""


def _read(
    features: Mapping[str, Feature], parts: Parts, lengths: NDArray[np.int64], choices: Sequence[str]
) -> Iterator[Episode]:
    """Read the files of frames, of episodes of these `lengths (N,)`."""
    wanted = {key: features[key].size for key in matching(features, choices)}
    ends = np.append(parts.first[1:], len(lengths))
    for file, first, last in zip(parts, parts.first.tolist(), ends.tolist(), strict=True):
        with readable(file, "a parquet file of frames"):
            yield from _episodes(file, first, lengths[first:last], wanted)


def _episodes(file: Path, first: int, lengths: NDArray[np.int64], wanted: Mapping[str, int]) -> Iterator[Episode]:
    """Cut the frames of a file into its episodes, numbered from `first`."""
    keys = {**wanted, **dict.fromkeys(("timestamp", "frame_index", "episode_index"), 1)}
    blocks = blocks_of(file, keys, int(lengths.sum()))
    rest = {key: np.empty((0, size)) for key, size in keys.items()}
    for number, length in enumerate(lengths.tolist(), first):
        held, frames = [rest], len(rest["frame_index"])
        while frames < length:
            held.append(next(blocks))
            frames += len(held[-1]["frame_index"])
        joined = {key: np.concatenate([each[key] for each in held if len(each[key])]) for key in keys}
        values, rest = (
            {key: column[part] for key, column in joined.items()} for part in (slice(length), slice(length, None))
        )
        foreign = values.pop("episode_index")[:, 0] != number
        if foreign.any():
            raise fault(file, f"{length:,} frames of episode {number}", f"{int(foreign.sum()):,} of another among them")
        numbers, seconds = values.pop("frame_index")[:, 0], values.pop("timestamp")[:, 0]
        yield Episode(values, numbers, seconds)


LEROBOT = Format(
    about="a folder with meta/info.json",
    recognises=lambda path: (path / INFO).is_file(),
    open=lambda path, _: open_lerobot(path),
    state=("observation.state",),
    action=("action",),
)
