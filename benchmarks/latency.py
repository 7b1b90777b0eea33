"""How long one decision takes: a state in, a chunk of actions out, on one core, by torch and by the exported file.

    python -m benchmarks.latency [MODEL.pth ...] [--pairs data/training_pairs_original.npz] [--decisions 3000]

Without models it makes the data and trains one of each method for an epoch, in a temporary folder. States are drawn
from the training pairs, one a decision. Prints a table and writes benchmarks/results/latency.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pipeline
from pipeline.cli.console import OUT
from pipeline.data.pairs import load_action_pairs
from pipeline.files import whole_file
from pipeline.policies.load import load_policy
from pipeline.stages.export import export
from pipeline.stages.settings import ExportSettings
from pipeline.streams import numpy_stream

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results" / "latency.json"
PAIRS = Path("data/training_pairs_original.npz")
TARGETS = {"pi0": 0.3, "pi0_fast": 1.0}  # ms at the median of exported policies; twice that at p99
ROUND, WARM_UP = 100, 100  # decisions of one policy before it is the next one's turn; and before anything counts


def train_briefly(folder: Path) -> list[Path]:
    """Train one model of each method for an epoch, with the default settings but for that."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    for name in ("train_pi0", "train_pi0_fast"):
        words = [sys.executable, "-m", f"train.{name}", "--epochs", "1"]
        env = kept | {"PYTHONPATH": str(ROOT)}
        subprocess.run(words, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    return sorted((folder / "train" / "trained_models").glob("*.pth"))


def time_decisions(policies: list[Any], states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds of each decision for `states (N, S)` by each policy, on the clock and on the processor: `(P, N)`.

    Policies take turns, so that what else the machine does disturbs them alike.
    """
    wall, processor = np.zeros((2, len(policies), len(states)))
    for policy in policies:
        for state in states[:WARM_UP]:
            policy.act(state[None])
    for start in range(0, len(states), ROUND):
        for row, policy in enumerate(policies):
            for number in range(start, min(start + ROUND, len(states))):
                state = states[number : number + 1]
                on_wall, on_processor = time.perf_counter(), time.thread_time()
                policy.act(state)
                wall[row, number] = time.perf_counter() - on_wall
                processor[row, number] = time.thread_time() - on_processor
    return wall * 1e3, processor * 1e3


def measure(models: list[Path], pairs: Path, decisions: int, folder: Path) -> list[dict[str, Any]]:
    """Export the models into `folder` and time both sides."""
    torch.set_num_threads(1)
    known = load_action_pairs(pairs).state
    states = known[numpy_stream(0, "latency").integers(len(known), size=decisions)]
    rows, policies = [], []
    for number, model in enumerate(models):
        exported = export(ExportSettings(checkpoint=model, out=str(folder / f"{number}.onnx")))
        policy = load_policy(model)
        tokens = policy.plan(states[:1000]).tokens
        for runtime, each in (("torch", policy), ("onnx", pipeline.load_policy(exported.path))):
            policies.append(each)
            rows.append(
                {
                    "model": exported.name,
                    "method": policy.method,
                    "runtime": runtime,
                    "tokens": None if tokens is None else {"mean": float(tokens.mean()), "max": int(tokens.max())},
                }
            )
    for row, wall, processor in zip(rows, *time_decisions(policies, states), strict=True):
        for clock, values in (("wall_ms", wall), ("processor_ms", processor)):
            p50, p99 = np.percentile(values, (50, 99))
            row[clock] = {"p50": float(p50), "p99": float(p99), "mean": float(values.mean())}
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--pairs", type=Path, default=PAIRS)
    parser.add_argument("--decisions", type=int, default=3000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models, pairs = options.models, options.pairs
        if not models:
            models, pairs = train_briefly(folder), folder / PAIRS
        rows = measure(models, pairs, options.decisions, folder)
    with whole_file(RESULTS) as temporary:
        temporary.write_text(json.dumps({"decisions": options.decisions, "policies": rows}, indent=1) + "\n")
    OUT.print(f"ms a decision, {options.decisions:,} decisions; processor: without the time the machine gave to others")
    OUT.print(f"{'':<28} {'wall':>8} {'':>8} {'':>8} {'processor':>10}")
    OUT.print(
        f"{'model':<20} {'runtime':<7} {'p50':>8} {'p99':>8} {'mean':>8} {'p50':>10} {'p99':>8} {'p50 target':>11}"
    )
    for row in rows:
        wall, processor = row["wall_ms"], row["processor_ms"]
        target = TARGETS.get(row["method"]) if row["runtime"] == "onnx" else None
        OUT.print(
            f"{row['method']:<20} {row['runtime']:<7} {wall['p50']:>8.3f} {wall['p99']:>8.3f} {wall['mean']:>8.3f} "
            f"{processor['p50']:>10.3f} {processor['p99']:>8.3f} {target or '-':>11}"
        )


if __name__ == "__main__":
    main()
