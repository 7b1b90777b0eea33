"""Demonstrations as a LeRobot data set, version 3.0 of the format, with state and action and without video.

The layout is that of `lerobot.datasets` v0.6 (dataset_metadata.py, dataset_writer.py, compute_stats.py): Parquet files
of frames with a row group per episode, one of episodes with their statistics, one of tasks, and JSON for the rest.
Quantiles are exact, those of the whole set too; lerobot reads its own off histograms and averages them over episodes.

Shapes: F frames of all episodes, T of one, D numbers of a feature.
"""

import json
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.data.trajectories import Trajectories
from pipeline.errors import DataError
from pipeline.tasks.task import Task

Columns = dict[str, NDArray[Any]]  # by feature, (F,) or (F, D)

VERSION = "v3.0"
STATE, ACTION = "observation.state", "action"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
CHUNKS_SIZE = 1000  # files of a folder `chunk-...`
DATA_MB, VIDEO_MB = 100, 200  # largest file, in 2^20 bytes
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
AT_ONCE = 500  # rows of a row group of the table of episodes


def write_lerobot(
    folder: Path,
    task: Task,
    demonstrations: Trajectories,
    watch: Callable[[int], None],
    instruction: str = "",
    licence: str = "",
) -> None:
    """Fill an empty folder; raises `DataError` where the steps of a second are no whole number.

    The text of what was to be done is `instruction`, or else the task's description. A card states the licence, if any.
    """
    instruction = instruction or task.description
    fps = frames_per_second(task)
    states, actions, numbers = demonstrations.end_to_end()
    columns, ends = _columns(states, actions, numbers, fps), numbers.tolist()
    rows: list[dict[str, Any]] = []
    with closing(Files(folder, DATA_PATH)) as frames, closing(Files(folder, EPISODES_PATH)) as table:
        for number, (start, end) in enumerate(pairwise([0, *ends])):
            own = {name: values[start:end] for name, values in columns.items()}
            chunk, file = frames.place(end - start)
            frames.write(pa.table({name: _arrow(values) for name, values in own.items()}))
            row = {"episode_index": number, "tasks": [instruction], "length": end - start}
            row |= {"data/chunk_index": chunk, "data/file_index": file}
            row |= {"dataset_from_index": start, "dataset_to_index": end}
            for name, found in statistics(own).items():
                row |= {f"stats/{name}/{statistic}": values for statistic, values in found.items()}
            rows.append(row)
            if len(rows) == AT_ONCE or end == ends[-1]:
                chunk, file = table.place(len(rows))
                places = {"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file}
                table.write(pa.Table.from_pylist([row | places for row in rows]))
                rows = []
            watch(number + 1)
    tasks = pd.DataFrame({"task_index": [0]}, index=pd.Index([instruction], name="task"))
    tasks.to_parquet(folder / "meta" / "tasks.parquet")
    _write_json(folder / "meta" / "stats.json", statistics(columns))
    _write_json(folder / "meta" / "info.json", _info(task, fps, columns, len(ends)))
    if licence:
        card = f"---\nlicense: {json.dumps(licence, ensure_ascii=False)}\n---\n\n# {instruction}\n"
        (folder / "README.md").write_text(card, encoding="utf-8")


def frames_per_second(task: Task) -> int:
    """Return the control steps of a second; raises `DataError` unless they are a whole number."""
    fps = round(1 / task.control_seconds)
    if fps < 1 or abs(fps * task.control_seconds - 1) > 1e-6:
        raise DataError(
            f"{task.name}: expected a whole number of frames a second, which LeRobot's format needs, found "
            f"{1 / task.control_seconds:g}, for steps of {task.control_seconds:g} s. Bring your data at another rate."
        )
    return fps


def statistics(columns: Columns) -> dict[str, dict[str, list[Any]]]:
    """Return each feature's minimum, maximum, mean, deviation (of the population), count and quantiles: lists of D."""
    wide = {name: values[:, None] if values.ndim == 1 else values for name, values in columns.items()}
    numbers = np.concatenate([values.astype(np.float64) for values in wide.values()], 1)
    found = {"min": numbers.min(0), "max": numbers.max(0), "mean": numbers.mean(0), "std": numbers.std(0)}
    found |= dict(zip(QUANTILES, np.quantile(numbers, list(QUANTILES.values()), axis=0), strict=True))
    every: dict[str, dict[str, list[Any]]] = {}
    last = 0
    for name, values in wide.items():
        first, last = last, last + values.shape[1]
        every[name] = {
            key: each[first:last].astype(values.dtype if key in ("min", "max") else np.float64).tolist()
            for key, each in found.items()
        } | {"count": [len(numbers)]}
    return every


class Files:
    """Parquet files of one kind, numbered: the next one begins before a file would exceed its size."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self._folder, self._pattern = folder, pattern
        self._number = 0  # of the current file, over all chunks
        self._rows = 0  # in it
        self._stream: BinaryIO | None = None
        self._writer: pq.ParquetWriter | None = None

    def place(self, rows: int) -> tuple[int, int]:
        """Return the chunk and the number of the file for so many more rows, judged by the size of those before."""
        if self._stream and self._stream.tell() * (1 + rows / self._rows) >= DATA_MB * 2**20:
            self.close()
            self._number += 1
        return divmod(self._number, CHUNKS_SIZE)

    def write(self, table: pa.Table) -> None:
        """Write a row group into the current file."""
        if self._writer is None:
            chunk, file = divmod(self._number, CHUNKS_SIZE)
            path = self._folder / self._pattern.format(chunk_index=chunk, file_index=file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("wb")
            self._writer = pq.ParquetWriter(self._stream, table.schema, compression="snappy")
        self._writer.write_table(table, row_group_size=len(table))
        self._rows += len(table)

    def close(self) -> None:
        """Finish the current file."""
        if self._writer and self._stream:
            self._writer.close()
            self._stream.close()
        self._stream = self._writer = None
        self._rows = 0


def _columns(states: NDArray[np.float32], actions: NDArray[np.float32], ends: NDArray[np.int64], fps: int) -> Columns:
    lengths, count = np.diff(ends, prepend=0), len(states)
    frame = np.arange(count) - np.repeat(ends - lengths, lengths)
    return {
        STATE: _vector(states),
        ACTION: _vector(actions),
        "timestamp": (frame / fps).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.repeat(np.arange(len(lengths)), lengths),
        "index": np.arange(count),
        "task_index": np.zeros(count, np.int64),
    }


def _vector(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A feature of one number is a plain column."""
    return values[:, 0] if values.shape[1] == 1 else values


def _arrow(values: NDArray[Any]) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _info(task: Task, fps: int, columns: Columns, episodes: int) -> dict[str, Any]:
    names = {STATE: task.observation, ACTION: task.action}
    features = {
        name: {
            "dtype": str(values.dtype),
            "shape": [*values.shape[1:]] or [1],
            "names": [channel.name for channel in names[name]] if name in names else None,
        }
        for name, values in columns.items()
    }
    return {
        "codebase_version": VERSION,
        "fps": fps,
        "features": features,
        "total_episodes": episodes,
        "total_frames": len(columns["index"]),
        "total_tasks": 1,
        "chunks_size": CHUNKS_SIZE,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "data_path": DATA_PATH,
        "video_path": None,
        "robot_type": task.name,
        "splits": {"train": f"0:{episodes}"},
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False), encoding="utf-8")
