"""Demonstrations in the formats that people have, written by hand to the layouts of their makers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Demos = list[tuple[NDArray[Any], NDArray[Any]]]
FPS = 25
NAMES = {"observation.state": ["x", "theta", "v", "omega"], "action": ["force"]}


def demos(lengths: Sequence[int], state_dim: int = 4, action_dim: int = 1, seed: int = 0) -> Demos:
    """States `(T, S)` and actions `(T, A)` of each episode, float32, all different."""
    generator = np.random.default_rng(seed)
    return [
        tuple(generator.uniform(-1, 1, (length, size)).astype(np.float32) for size in (state_dim, action_dim))  # type: ignore[misc]
        for length in lengths
    ]


def column(values: NDArray[Any], fixed: bool) -> pa.Array:
    """Numbers of each frame: one as a plain column, several as lists of one length, said in the type or not."""
    flat = pa.array(values.reshape(-1))
    size = values.shape[1]
    if size == 1 and fixed:
        return flat
    offsets = pa.array(np.arange(0, len(flat) + 1, size, dtype=np.int32))
    return pa.FixedSizeListArray.from_arrays(flat, size) if fixed else pa.ListArray.from_arrays(offsets, flat)


def frames(number: int, first: int, demo: tuple[NDArray[Any], NDArray[Any]], fixed: bool = True) -> dict[str, Any]:
    """The columns of an episode."""
    count = np.arange(len(demo[0]))
    return {
        "observation.state": column(demo[0], fixed),
        "action": column(demo[1], fixed),
        "timestamp": (count / FPS).astype(np.float32),
        "frame_index": count,
        "episode_index": np.full_like(count, number),
        "index": first + count,
        "task_index": np.zeros_like(count),
    }


def info(episodes: Demos, version: str, names: Any = None) -> dict[str, Any]:
    features: dict[str, Any] = {
        key: {"dtype": "float32", "shape": [values.shape[1]], "names": (names or {}).get(key)}
        for key, values in zip(("observation.state", "action"), episodes[0], strict=True)
    }
    features["observation.images.top"] = {"dtype": "video", "shape": [480, 640, 3], "names": ["height", "width", "c"]}
    for key in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        features[key] = {"dtype": "float32" if key == "timestamp" else "int64", "shape": [1], "names": None}
    return {
        "codebase_version": version,
        "robot_type": "so101",
        "total_episodes": len(episodes),
        "total_frames": sum(len(states) for states, _ in episodes),
        "total_tasks": 1,
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": f"0:{len(episodes)}"},
        "features": features,
    }


def lerobot_v3(
    folder: Path,
    episodes: Demos,
    fixed: bool = True,
    per_file: int = 2,
    files_a_chunk: int = 2,
    names: Any = None,
    text_column: str = "task",
) -> Path:
    """A folder of LeRobot v3.0: some episodes in each file, a group of rows an episode."""
    facts = info(episodes, "v3.0", names) | {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "data_files_size_in_mb": 100,
    }
    put(folder / "meta" / "info.json", facts)
    rows: list[dict[str, Any]] = []
    first = 0
    for number, demo in enumerate(episodes):
        file, chunk = number // per_file % files_a_chunk, number // per_file // files_a_chunk
        last = first + len(demo[0])
        rows.append(
            {
                "episode_index": number,
                "tasks": ["balance"],
                "length": len(demo[0]),
                "data/chunk_index": chunk,
                "data/file_index": file,
                "dataset_from_index": first,
                "dataset_to_index": last,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
                "stats/action/mean": demo[1].mean(0).tolist(),
                "file": folder / f"data/chunk-{chunk:03d}/file-{file:03d}.parquet",
                "table": pa.table(frames(number, first, demo, fixed)),
            }
        )
        first = last
    for path in dict.fromkeys(row["file"] for row in rows):
        tables = [row["table"] for row in rows if row["file"] == path]
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(path, tables[0].schema, compression="snappy") as writer:
            for table in tables:
                writer.write_table(table)
    meta = folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    meta.parent.mkdir(parents=True)
    pq.write_table(
        pa.Table.from_pylist([{k: v for k, v in row.items() if k not in ("file", "table")} for row in rows]), meta
    )
    pq.write_table(pa.table({"task_index": [0], text_column: ["balance"]}), folder / "meta" / "tasks.parquet")
    return folder


def lerobot_v2(folder: Path, episodes: Demos, fixed: bool = True, chunks_size: int = 2, names: Any = None) -> Path:
    """A folder of LeRobot v2.1: a file an episode."""
    facts = info(episodes, "v2.1", names) | {
        "chunks_size": chunks_size,
        "total_chunks": -(-len(episodes) // chunks_size),
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    }
    put(folder / "meta" / "info.json", facts)
    first, lines = 0, []
    for number, demo in enumerate(episodes):
        path = folder / f"data/chunk-{number // chunks_size:03d}/episode_{number:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(frames(number, first, demo, fixed)), path)
        lines.append(json.dumps({"episode_index": number, "tasks": ["balance"], "length": len(demo[0])}))
        first += len(demo[0])
    (folder / "meta" / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "meta" / "tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "balance"}) + "\n")
    return folder


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))


def minari(folder: Path, episodes: Demos, **more: Any) -> Path:
    """A folder of Minari: what was seen after the last action is the last row of the observations."""
    facts = {
        "total_episodes": len(episodes),
        "total_steps": sum(len(actions) for _, actions in episodes),
        "data_format": "hdf5",
        "observation_space": json.dumps({"type": "Box"}),
        "action_space": json.dumps({"type": "Box"}),
        "env_spec": json.dumps({"id": "InvertedPendulum-v5"}),
    }
    put(folder / "data" / "metadata.json", facts | more)
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as file:
        for number, (states, actions) in enumerate(episodes):
            group = file.create_group(f"episode_{number}")
            group.attrs.update({"id": number, "total_steps": len(actions), "seed": number})
            group["observations"] = np.concatenate([states, states[-1:] + 1])
            group["actions"] = actions
            group["rewards"] = np.ones(len(actions))
            for name in ("terminations", "truncations"):
                group[name] = np.zeros(len(actions), bool)
            group.create_group("infos")["cost"] = np.zeros(len(actions) + 1)
    return folder


def robomimic(path: Path, episodes: Demos, parts: Sequence[int] = (1, 3)) -> Path:
    """A file of robomimic; `parts` are the sizes of the two observations that make the state."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(len(actions) for _, actions in episodes)
        arguments = {"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": FPS}}
        data.attrs["env_args"] = json.dumps(arguments)
        for number, (states, actions) in enumerate(episodes):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = len(actions)
            demo["actions"], demo["states"] = actions, np.zeros((len(actions), 7))
            demo["rewards"], demo["dones"] = np.zeros(len(actions)), np.zeros(len(actions), np.int64)
            for group in ("obs", "next_obs"):
                demo[f"{group}/cube"], demo[f"{group}/eef"] = states[:, : parts[0]], states[:, parts[0] :]
                demo[f"{group}/agentview_image"] = np.zeros((len(actions), 4, 4, 3), np.uint8)
        file["mask/train"] = np.array([b"demo_0"])
    return path


def npz(path: Path, episodes: Demos, **more: Any) -> Path:
    """Arrays of episodes of one length, or end to end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [[demo[which] for demo in episodes] for which in (0, 1)]
    lengths = [len(actions) for actions in columns[1]]
    if len(set(lengths)) == 1:
        arrays = dict(zip(("states", "actions"), map(np.stack, columns), strict=True))
    else:
        arrays = dict(zip(("states", "actions"), map(np.concatenate, columns), strict=True))
        arrays["episode_ends"] = np.cumsum(lengths)
    np.savez(path, **arrays | more)
    return path


WRITERS = {
    "lerobot v3.0": lerobot_v3,
    "lerobot v2.1": lerobot_v2,
    "minari": minari,
    "robomimic": lambda place, episodes: robomimic(place / "demo.hdf5", episodes),
    "npz": lambda place, episodes: npz(place / "demos.npz", episodes),
}
"""Each writes episodes at a place and returns what to import."""
