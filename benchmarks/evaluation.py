"""How long an evaluation takes, and on what: one process with one thread, 1,000 episodes in each of nine conditions.

    python -m benchmarks.evaluation [MODEL.pth ...] [--episodes 1000] [--repeats 3]

Seconds are the processor's: without the time that the machine gave to others. Without models it makes the data and
trains one of each method with the default settings, in a temporary folder. Models take turns, and of each the fastest
turn counts. Prints a table and writes benchmarks/results/evaluation.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipeline.cli.console import OUT
from pipeline.evaluation import control, stored
from pipeline.files import whole_file
from pipeline.policies.load import load_policy
from pipeline.policies.policy import Policy
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.task import Array, Controller

CONDITIONS = PENDULUM.conditions

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results" / "evaluation.json"
GOAL = 300  # episodes per second of one process: 600 on two cores
PARTS = ("simulation", "network", "scoring", "writing", "rest")


def train_models(folder: Path) -> list[Path]:
    """Train one model of each method with the default settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    for name in ("train_pi0", "train_pi0_fast"):
        words = [sys.executable, "-m", f"train.{name}"]
        env = kept | {"PYTHONPATH": str(ROOT)}
        subprocess.run(words, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    return sorted((folder / "train" / "trained_models").glob("*.pth"))


class Clock:
    """Processor seconds spent in functions, by name; time inside another timed function counts for that one only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._inner = [0.0]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed."""

        def call(*values: Any, **named: Any) -> Any:
            self._inner.append(0.0)
            started = time.process_time()
            try:
                return function(*values, **named)
            finally:
                spent = time.process_time() - started
                self.seconds[name] += spent - self._inner.pop()
                self._inner[-1] += spent

        return call


def evaluate_once(policy: Policy, episodes: int, path: Path) -> dict[str, float]:
    """Evaluate a model as `python -m pipeline evaluate` does, and write the table; seconds by part."""
    clock, world, score = Clock(), PENDULUM.simulator, PENDULUM.score

    def simulate(controller: Controller, starts: Array, noise: Array, threads: int) -> tuple[Array, Array]:
        return world.simulate(clock.timed("rest", controller), starts, noise, threads)

    timed = replace(
        PENDULUM,
        world=replace(world, simulate=clock.timed("simulation", simulate)),
        score=clock.timed("scoring", score),
    )

    def evaluate() -> None:
        drawn = control.draw_episodes(timed, CONDITIONS, episodes, 0)
        planner = clock.timed("network", control.policy_planner(policy, drawn, 0))
        found = control.evaluate_planner(planner, drawn, threads=1)
        clock.timed("writing", stored.write_episodes)(path, found, found.by_condition())

    clock.timed("rest", evaluate)()
    return clock.seconds


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        policies = [load_policy(path) for path in options.models or train_models(folder)]
        turns: dict[str, list[dict[str, float]]] = {policy.method: [] for policy in policies}
        for _ in range(options.repeats):
            for policy in policies:
                turns[policy.method].append(evaluate_once(policy, options.episodes, folder / "episodes.csv"))
    count, rows = options.episodes * len(CONDITIONS), []
    OUT.print(f"{count:,} episodes, one process, one thread; goal: {GOAL} episodes/s")
    OUT.print(f"{'method':<12} {'episodes/s':>10} " + " ".join(f"{part + ', s':>14}" for part in PARTS))
    for method, found in turns.items():
        best = min(found, key=lambda seconds: sum(seconds.values()))
        rate = count / sum(best.values())
        rows.append({"method": method, "episodes_per_second": rate, "seconds": best})
        OUT.print(f"{method:<12} {rate:>10.0f} " + " ".join(f"{best[part]:>14.2f}" for part in PARTS))
    with whole_file(RESULTS) as temporary:
        temporary.write_text(json.dumps({"episodes": count, "models": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
