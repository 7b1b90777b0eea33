"""The table of a LeRobot data set's episodes: parquet files in `meta/episodes/` (v3.0), or a file of lines (v2.1).

Shapes: N episodes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.sources.parquet import blocks_of
from pipeline.data.sources.source import LARGEST_JSON, MAX_FRAMES, fault, inside, readable, whole
from pipeline.parse import json_object


@dataclass(frozen=True)
class Table:
    """The episodes: where each is, in their order."""

    lengths: NDArray[np.int64]  # (N,)
    chunk: NDArray[np.int64]  # (N,) the numbers in the name of its file
    file: NDArray[np.int64]


def table_v3(path: Path) -> tuple[Table, list[Path]]:
    """Read the table of v3.0 and return its files too; raises `DataError` if episodes overlap or leave gaps."""
    folder = path / "meta" / "episodes"
    files = [inside(path, file) for file in sorted(folder.glob("*/*.parquet"))]
    if not files:
        raise fault(folder, "chunk-000/file-000.parquet", "none")
    keys = ("episode_index", "length", "data/chunk_index", "data/file_index", "dataset_from_index", "dataset_to_index")
    kept = [np.empty((3, 0), np.int64)]
    episodes = frames = 0
    for file in files:
        with readable(file, "a parquet file of episodes"):
            for columns in blocks_of(file, dict.fromkeys(keys, 1)):
                block = np.stack([columns[key][:, 0] for key in keys])
                if block.dtype.kind not in "iu":
                    raise fault(file, "whole numbers of episodes and frames", block.dtype)
                index, lengths, chunk, number, first, last = block.astype(np.int64)
                wrong = (index != np.arange(len(index)) + episodes) | (lengths < 1) | (lengths > MAX_FRAMES)
                wrong |= (last - first != lengths) | (first != np.cumsum(lengths) - lengths + frames)
                wrong |= (chunk < 0) | (number < 0)
                if wrong.any():
                    at = int(np.flatnonzero(wrong)[0])
                    found = f"episode_index {index[at]}, length {lengths[at]}, frames {first[at]} to {last[at]}"
                    expected = f"episode {episodes + at} to follow on the one before, without gap or overlap"
                    raise fault(folder, expected, found)
                kept.append(np.stack([lengths, chunk, number]))
                episodes, frames = episodes + len(index), frames + int(lengths.sum())
    return Table(*np.concatenate(kept, 1)), files


def table_v2(path: Path, chunk_size: int) -> tuple[Table, list[Path]]:
    """Read the table of v2.1, with `chunk_size` files a folder, and return its file too; raises `DataError`."""
    file = inside(path, path / "meta" / "episodes.jsonl")
    lengths = []
    for number, facts in enumerate(lines(file)):
        if facts.get("episode_index") != number:
            raise fault(file, f"the episode {number}", f"episode_index {facts.get('episode_index')!r:.100}")
        lengths.append(whole(file, f"length of episode {number}", facts.get("length"), 1, MAX_FRAMES))
    numbers = np.arange(len(lengths))
    return Table(np.array(lengths, np.int64), numbers // chunk_size, numbers), [file]


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a `.jsonl` file, one at a time."""
    with readable(path, "a JSON object on each line"), path.open(encoding="utf-8") as stream:
        while line := stream.readline(LARGEST_JSON):
            if line.strip():
                yield json_object(line)
