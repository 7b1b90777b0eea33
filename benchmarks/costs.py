"""What the commands cost on this machine: wall times of fresh processes, one torch thread, and the share of logging.

    python -m benchmarks.costs

Runs each command in an empty folder of its own. Prints a table and writes benchmarks/results/costs.json.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.cli.console import OUT
from pipeline.files import whole_file
from pipeline.methods.settings import Pi0Settings
from pipeline.names import TRAIN_SECONDS

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results" / "costs.json"
SMALL_STUDY = ["-m", "pipeline", "ensemble", "--n-models", "2", "--epochs", "1", "--episodes", "20"]
COMMANDS = {
    "collect": (["-m", "pipeline", "collect"], 15),
    "tokenize": (["-m", "pipeline", "tokenize"], None),
    "train_pi0": (["-m", "train.train_pi0"], 60),
    "train_pi0_fast": (["-m", "train.train_pi0_fast"], 120),
    "evaluate": (["-m", "pipeline", "evaluate", *10 * ("{tinypi0_*}", "{tinypi0fast_*}")], 90),
    "small study": (SMALL_STUDY, None),
    "the same again": (SMALL_STUDY, None),
    "report": (["-m", "pipeline", "report"], None),
    "info": (["-m", "pipeline", "info"], None),
    "doctor": (["-m", "pipeline", "doctor"], None),
    "import mlflow": (["-c", "from mlflow.tracking import MlflowClient"], None),
}
"""Each with the seconds it may take. The evaluation is of 20 default models: 18,000 episodes, on all cores. The import
of MLflow is the floor of all commands that ask the store."""


def wall_seconds(words: list[str], folder: Path) -> float:
    """Run a command as a fresh process and time it, start and imports included; "{X}" stands for the model file X."""
    models = folder / "train" / "trained_models"
    words = [str(next(models.glob(word[1:-1]))) if word.startswith("{") else word for word in words]
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def logging_share() -> float:
    """Seconds inside the tracked run's methods over seconds of training, for a default pi0 run on an sqlite store."""
    from pipeline.methods.registry import METHODS
    from pipeline.stages.train import train
    from pipeline.tracking.run import TrackedRun

    spent, depth = 0.0, 0

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*values: Any, **named: Any) -> Any:
            nonlocal spent, depth
            started, depth = time.perf_counter(), depth + 1
            try:
                return method(*values, **named)
            finally:
                depth -= 1
                spent += time.perf_counter() - started if depth == 0 else 0.0

        return call

    for name in ("params", "tags", "metrics", "flush", "dataset", "file", "json", "end"):
        setattr(TrackedRun, name, timed(getattr(TrackedRun, name)))
    made = train(METHODS["pi0"], Pi0Settings(), lambda line: None, lambda step: None)
    return spent / made.metrics[TRAIN_SECONDS]


def main() -> None:
    """Measure everything, in a store of its own."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = {command: wall_seconds(words, folder) for command, (words, _) in COMMANDS.items()}
        os.chdir(folder)
        share = logging_share()
        os.chdir(ROOT)
    with whole_file(RESULTS) as temporary:
        temporary.write_text(json.dumps({"wall_seconds": seconds, "logging_share": share}, indent=1) + "\n")
    OUT.print(f"{'command':<16} {'seconds':>8} {'at most':>8}")
    for command, (_, limit) in COMMANDS.items():
        OUT.print(f"{command:<16} {seconds[command]:>8.1f} {limit or '-':>8}")
    OUT.print(f"logging          {share:>8.2%} {'2%':>8}   of training time")


if __name__ == "__main__":
    main()
