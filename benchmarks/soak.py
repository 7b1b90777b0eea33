"""Many short trainings in one store, by one process: do memory, open files and time a run stay flat?

    python -m benchmarks.soak [--runs 200]

Prints the mean of each tenth of the runs, and the slopes; writes benchmarks/results/soak.json.
"""

import argparse
import contextlib
import gc
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline.cli.console import OUT
from pipeline.files import whole_file
from pipeline.methods.pi0 import PI0
from pipeline.methods.settings import Pi0Settings
from pipeline.stages.collect import collect
from pipeline.stages.settings import CollectSettings
from pipeline.stages.train import train
from pipeline.tracking.query import search
from pipeline.tracking.store import open_store

RESULTS = Path(__file__).parent / "results" / "soak.json"
PAGE = os.sysconf("SC_PAGE_SIZE")


def measure() -> tuple[float, int]:
    """MiB of memory that this process holds, and how many files it has open."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * PAGE / 2**20, len(list(Path("/proc/self/fd").iterdir()))


def soak(runs: int) -> list[dict[str, float]]:
    """Train so many models, and measure after each."""
    collect(CollectSettings(trajectories=60))
    rows = []
    for seed in range(runs):
        begun = time.perf_counter()
        settings = Pi0Settings(seed=seed, epochs=1, width=16, layers=1, heads=1)
        train(PI0, settings, lambda _line: None, lambda _step: None)
        seconds = time.perf_counter() - begun
        memory, files = measure()
        rows.append({"seconds": seconds, "memory_mib": memory, "open_files": files})
    stored = search(open_store())
    assert len(stored) == runs and all(run.status == "FINISHED" for run in stored)
    return rows


def main() -> None:
    """Soak in a temporary folder with a store of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    options = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        rows = soak(options.runs)
    with whole_file(RESULTS) as temporary:
        temporary.write_text(json.dumps(rows, indent=1) + "\n")

    OUT.print(f"{'runs':>9}  {'seconds':>8} {'memory, MiB':>12} {'open files':>11}")
    for part in np.array_split(np.arange(options.runs), 10):
        means = [np.mean([rows[number][name] for number in part]) for name in rows[0]]
        OUT.print(f"{part[0] + 1:>4}-{part[-1] + 1:<4}  {means[0]:>8.2f} {means[1]:>12.1f} {means[2]:>11.1f}")
    later = np.arange(options.runs // 5, options.runs)  # imports and caches are filled by then
    for name, unit in (("seconds", "s"), ("memory_mib", "MiB"), ("open_files", "files")):
        slope = np.polyfit(later, [rows[number][name] for number in later], 1)[0]
        OUT.print(f"from run {later[0] + 1} on, {name} change by {slope * 100:+.3f} {unit} in 100 runs")


if __name__ == "__main__":
    main()
