"""The memory that an import needs: peak resident memory of `python -m pipeline import` as a process of its own.

    python -m benchmarks.import_data [SCALE ...]

Sources of 4,000 episodes of 100 steps times SCALE (1, 10, 100 by default) in every format, random numbers, with
states of 4 and actions of 1 number. They are written to a folder that is removed at the end: 100 needs some 10 GB of
disk, and 400,000 files for LeRobot v2.1. Prints a table and writes benchmarks/results/import_data.json.

    python -m benchmarks.import_data 100 --format minari

measures one format. Figures of what is not measured are kept.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.data.npz import Pieces, write_pieces
from pipeline.files import whole_file

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results" / "import_data.json"
EPISODES, STEPS, STATE, ACTION, FPS = 4000, 100, 4, 1, 25
EPISODES_A_FILE = 5000
COMMAND = ["import", "source", "--task", "pendulum", "--out", "data/imported"]
PEAK = (
    "import re, resource, runpy, sys\n"
    "try: runpy.run_module('pipeline', run_name='__main__', alter_sys=False)\n"
    "finally:\n"
    "    own = int(re.search('VmHWM:[^0-9]*([0-9]+) kB', open('/proc/self/status').read())[1])\n"
    "    print(max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss), file=sys.stderr)"
)
"""The peak of the process, or of those that read for it; its own `ru_maxrss` would count what its parent had."""


def numbers(count: int, size: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """Blocks of episodes `(100, 100, size)`."""
    generator = np.random.default_rng(seed)
    for _ in range(count // 100):
        yield generator.uniform(-1, 1, (100, STEPS, size)).astype(np.float32)


def episodes(count: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    for states, actions in zip(numbers(count, STATE, 0), numbers(count, ACTION, 1), strict=True):
        yield from zip(states, actions, strict=True)


FEATURES = {
    "observation.state": {"dtype": "float32", "shape": [STATE], "names": None},
    "action": {"dtype": "float32", "shape": [ACTION], "names": None},
}
STEP = np.arange(STEPS)


def frames(number: int, states: NDArray[np.float32], actions: NDArray[np.float32]) -> pa.Table:
    """An episode as LeRobot keeps it."""
    columns = {
        "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(states.reshape(-1)), STATE),
        "action": pa.array(actions[:, 0]),
        "timestamp": (STEP / FPS).astype(np.float32),
        "frame_index": STEP,
        "episode_index": np.full_like(STEP, number),
        "index": number * STEPS + STEP,
        "task_index": np.zeros_like(STEP),
    }
    return pa.table(columns)


def put_info(path: Path, version: str, count: int, **more: Any) -> None:
    facts = {"codebase_version": version, "fps": FPS, "total_episodes": count, "total_frames": count * STEPS}
    (path / "meta").mkdir(parents=True)
    (path / "meta" / "info.json").write_text(json.dumps(facts | {"features": FEATURES} | more))


def lerobot(path: Path, count: int) -> None:
    """LeRobot v3.0: a group of rows an episode, many episodes a file."""
    put_info(path, "v3.0", count)
    (path / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
    (path / "data" / "chunk-000").mkdir(parents=True)
    writer: Any = None
    for number, demo in enumerate(episodes(count)):
        table = frames(number, *demo)
        if number % EPISODES_A_FILE == 0:
            if writer is not None:
                writer.close()
            file = path / "data" / "chunk-000" / f"file-{number // EPISODES_A_FILE:03d}.parquet"
            writer = pq.ParquetWriter(file, table.schema, compression="snappy")
        writer.write_table(table)
    writer.close()
    index = np.arange(count)
    meta = {
        "episode_index": index, "length": np.full_like(index, STEPS), "data/chunk_index": np.zeros_like(index),
        "data/file_index": index // EPISODES_A_FILE, "dataset_from_index": index * STEPS,
        "dataset_to_index": (index + 1) * STEPS,
    }  # fmt: skip
    pq.write_table(pa.table(meta), path / "meta" / "episodes" / "chunk-000" / "file-000.parquet")


def lerobot_v21(path: Path, count: int) -> None:
    """LeRobot v2.1: a file an episode."""
    place = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    put_info(path, "v2.1", count, chunks_size=1000, data_path=place)
    with (path / "meta" / "episodes.jsonl").open("w") as lines:
        for number, demo in enumerate(episodes(count)):
            file = path / place.format(episode_chunk=number // 1000, episode_index=number)
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(frames(number, *demo), file)
            lines.write(json.dumps({"episode_index": number, "tasks": ["t"], "length": STEPS}) + "\n")
    (path / "meta" / "tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "t"}) + "\n")


def minari(path: Path, count: int) -> None:
    (path / "data").mkdir(parents=True)
    box = json.dumps({"type": "Box"})
    facts = {
        "total_episodes": count, "total_steps": count * STEPS, "data_format": "hdf5", "observation_space": box,
        "action_space": box, "env_spec": json.dumps({"id": "InvertedPendulum-v5"}),
    }  # fmt: skip
    (path / "data" / "metadata.json").write_text(json.dumps(facts))
    with h5py.File(path / "data" / "main_data.hdf5", "w") as file:
        for number, (states, actions) in enumerate(episodes(count)):
            episode = file.create_group(f"episode_{number}")
            episode.attrs.update({"id": number, "total_steps": STEPS, "seed": number})
            episode["observations"], episode["actions"] = np.concatenate([states, states[-1:]]), actions
            episode["rewards"] = np.ones(STEPS)
            episode["terminations"] = episode["truncations"] = np.zeros(STEPS, bool)


def robomimic(path: Path, count: int) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for number, (states, actions) in enumerate(episodes(count)):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = STEPS
            demo["obs/state"], demo["actions"] = states, actions


def npz(path: Path, count: int) -> None:
    sizes = {"states": STATE, "actions": ACTION}
    columns = {
        key: Pieces((count, STEPS, size), np.dtype(np.float32), numbers(count, size, seed))
        for seed, (key, size) in enumerate(sizes.items())
    }
    write_pieces(path, columns, {})


FORMATS: dict[str, Callable[[Path, int], None]] = {
    "lerobot": lerobot, "lerobot v2.1": lerobot_v21, "minari": minari, "robomimic": robomimic, "npz": npz,
}  # fmt: skip


def measured(folder: Path, format: str, scale: int) -> dict[str, float]:
    """Write a source and import it in a process of its own."""
    FORMATS[format](folder / "source", EPISODES * scale)
    (folder / "data").mkdir()
    started = time.perf_counter()
    peak = peak_mib(folder, PEAK, [*COMMAND, "--format", format.split()[0]])
    seconds = time.perf_counter() - started
    pairs = folder / "data" / "imported" / "training_pairs_original.npz"
    size = pairs.stat().st_size / 2**20
    return {"scale": scale, "peak_mib": peak, "seconds": round(seconds, 1), "pairs_mib": round(size)}


def peak_mib(folder: Path, code: str, words: list[str]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return round(int(done.stderr.split()[-1]) / 1024, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scales", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--format", choices=FORMATS)
    words = parser.parse_args()
    for format in [words.format] if words.format else FORMATS:
        for scale in words.scales:
            with tempfile.TemporaryDirectory(prefix="import-") as name:
                row = measured(Path(name), format, scale)
            # read now: another process may have measured another format in the meantime
            rows: dict[str, list[dict[str, float]]] = (
                json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else {}
            )
            kept = [each for each in rows.get(format, []) if each["scale"] != scale]
            rows[format] = sorted([*kept, row], key=lambda each: each["scale"])
            print(f"{format:<12}  {EPISODES * scale:>8,} episodes  {row['peak_mib']:>6} MiB  {row['seconds']:>6} s")
            with whole_file(RESULTS) as path:
                path.write_text(json.dumps({"episodes": EPISODES, "steps": STEPS, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
