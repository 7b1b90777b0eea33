"""What one GPU does: models trained together, alone, the same bits twice, evaluation, memory. In five minutes.

    python -m benchmarks.gpu [--data data] [--out benchmarks/results/gpu.json] [--device cpu]

It needs torch, this project's light packages and its default data: both files of pairs and the tokenizer. Evaluation
needs MuJoCo, and the default study MLflow too: they are left out without. The JSON is written anew after each part, and
no part goes on for longer than there is time, so what fails or comes too late costs no other part. `--device cpu` tries
the script itself, with tiny models: its seconds mean nothing.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch

from pipeline.config import ROOT, make
from pipeline.errors import one_line
from pipeline.files import arrays_digest, whole_file
from pipeline.methods.method import Method, Prepared
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import TrainSettings
from pipeline.streams import global_torch_stream
from pipeline.training.device import use_device
from pipeline.training.fit import Epoch, Problem, fit, problem_of
from pipeline.training.together import Broken, fit_together

RESULTS = Path(__file__).parent / "results" / "gpu.json"
NAMES = ("pi0", "pi0_fast")
MOST_SECONDS = 270.0  # of all parts
GOALS = {"20 trainings": 15.0, "200 trainings": 60.0, "the default study": 60.0}  # seconds on one H100
TINY_STUDY = "--methods pi0 --n-models 2 --epochs 1 --width 16 --layers 1 --episodes 3 --together yes --executor serial"
NEAR = 1e-3  # of the validation loss: together against alone
TINY = {"epochs": 1, "width": 16, "layers": 1}
TINY_PAIRS, EPISODES = 60, 300


E = TypeVar("E")


class LeftOutError(Exception):
    """A part that is not measured, and why."""


@dataclass(frozen=True)
class Bench:
    """The data of each method, how its models are trained here, and until when."""

    device: str
    data: Path
    end: float  # of `time.perf_counter`
    prepared: dict[str, Prepared]
    values: dict[str, dict[str, Any]]  # settings

    def models(self, name: str, count: int, **values: object) -> list[tuple[Problem, TrainSettings]]:
        """Make models of a method with the seeds 0, 1, ..."""
        method, prepared = METHODS[name], self.prepared[name]
        found = []
        for seed in range(count):
            settings = make(method.settings_type, self.values[name] | {"seed": seed} | values)
            device = use_device(settings)
            with global_torch_stream(seed, "weights"):
                network = method.build(settings, prepared.interface).to(device)
            found.append((problem_of(method, network, prepared, settings), settings))
        return found

    def in_time(self, events: Iterable[E]) -> Iterator[E]:
        """Yield the events of a training; raises `LeftOutError` when there is no time left."""
        for event in events:
            self.left()
            yield event

    def left(self) -> float:
        """Return the seconds that are left; raises `LeftOutError` if there are none."""
        seconds = self.end - time.perf_counter()
        if seconds <= 0:
            raise LeftOutError("there was no time left")
        return seconds

    def wait(self) -> None:
        """Wait until the device has done all it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def open_bench(device: str, data: Path, end: float) -> Bench:
    """Read the default data; on the CPU, little of it."""
    files = {
        "pi0": {"pairs": data / "training_pairs_original.npz"},
        "pi0_fast": {"pairs": data / "training_pairs_fast.npz", "tokenizer": data / "fast_tokenizer.json"},
    }
    small = TINY if device == "cpu" else {}
    values = {name: {**files[name], "device": device, **small} for name in NAMES}
    prepared = {name: METHODS[name].prepare(make(METHODS[name].settings_type, values[name])) for name in NAMES}
    if device == "cpu":
        prepared = {name: _few(one) for name, one in prepared.items()}
    return Bench(device, data, end, prepared, values)


def _few(prepared: Prepared) -> Prepared:
    parts = prepared.train, prepared.val, prepared.test
    train, val, test = (tuple(rows[:TINY_PAIRS] for rows in part) for part in parts)
    return replace(prepared, starts=prepared.starts[:TINY_PAIRS], train=train, val=val, test=test)


def train_together(bench: Bench, name: str, count: int) -> dict[str, Any]:
    """Train models together; returns seconds, memory, best validation losses by seed and a digest of all weights."""
    if bench.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    models = bench.models(name, count)
    bench.wait()
    begun = time.perf_counter()
    best: dict[int, Epoch] = {}
    failed: dict[int, str] = {}
    events = fit_together([problem for problem, _ in models], [settings for _, settings in models])
    for number, event in bench.in_time(events):
        if isinstance(event, Epoch) and event.weights is not None:
            best[number] = event
        elif isinstance(event, Broken):
            failed[number] = event.reason
    bench.wait()
    seconds = time.perf_counter() - begun
    memory = torch.cuda.max_memory_allocated() / 2**30 if bench.device == "cuda" else None
    losses = {number: best[number].val_loss for number in sorted(best)}
    digest = sha256("".join(_digest(best[number]) for number in sorted(best)).encode()).hexdigest()
    return {"seconds": seconds, "gib": memory, "val": losses, "weights": digest, "failed": failed}


def _digest(epoch: Epoch) -> str:
    assert epoch.weights is not None
    return arrays_digest({name: tensor.numpy() for name, tensor in epoch.weights.items()})[:16]


def train_alone(bench: Bench, name: str, **values: object) -> dict[str, Any]:
    """Train the model of seed 0 alone; returns seconds, best validation loss and a digest of its weights."""
    ((problem, settings),) = bench.models(name, 1, **values)
    bench.wait()
    begun = time.perf_counter()
    epochs = [event for event in bench.in_time(fit(problem, settings)) if isinstance(event, Epoch)]
    bench.wait()
    best = [epoch for epoch in epochs if epoch.weights is not None][-1]
    return {"seconds": time.perf_counter() - begun, "val": best.val_loss, "weights": _digest(best)}


def many(bench: Bench, each: int) -> dict[str, Any]:
    """Train `each` models of both methods."""
    found = {name: train_together(bench, name, each) for name in NAMES}
    return {"seconds": sum(one["seconds"] for one in found.values()), **found}


def near(bench: Bench, count: int) -> dict[str, Any]:
    """Compare the validation loss of seed 0 together and alone; it is not near if it failed together."""
    found: dict[str, Any] = {}
    for name in NAMES:
        alone, together = train_alone(bench, name), train_together(bench, name, count)
        difference = abs(alone["val"] - together["val"][0]) if 0 in together["val"] else None
        is_near = difference is not None and difference <= NEAR
        found[name] = {"alone": alone, "together": together, "difference": difference, "near": is_near}
    return found


def same_bits(bench: Bench, count: int) -> dict[str, Any]:
    """Train twice, together and alone with `--deterministic yes`, and compare the weights."""
    found: dict[str, Any] = {}
    for name in NAMES:
        twice = [train_together(bench, name, count)["weights"] for _ in range(2)]
        alone = [train_alone(bench, name, deterministic="yes") for _ in range(2)]
        found[name] = {
            "together": twice[0] == twice[1],
            "alone, deterministic": alone[0]["weights"] == alone[1]["weights"],
            "seconds alone, deterministic": alone[1]["seconds"],
        }
    return found


def evaluate(bench: Bench, episodes: int) -> dict[str, Any]:
    """Evaluate a model of each method, of seed 0, in the middle condition, on one thread."""
    from pipeline.evaluation.control import draw_episodes, evaluate_planner, mean_scores, policy_planner
    from pipeline.policies.checkpoint import Checkpoint
    from pipeline.policies.policy import policy_of
    from pipeline.tasks.registry import find_task

    task = find_task("pendulum")
    found: dict[str, Any] = {}
    for name in NAMES:
        method: Method = METHODS[name]
        ((problem, settings),) = bench.models(name, 1)
        epochs = [event for event in bench.in_time(fit(problem, settings)) if isinstance(event, Epoch)]
        weights = [epoch.weights for epoch in epochs if epoch.weights][-1]
        policy = policy_of(Checkpoint(method, settings, bench.prepared[name].interface, weights, {}))
        drawn = draw_episodes(task, (task.middle_condition,), episodes, 0)
        begun = time.perf_counter()
        (scores,) = mean_scores(evaluate_planner(policy_planner(policy, drawn, 0), drawn, 1))
        found[name] = {"seconds": time.perf_counter() - begun, "episodes": episodes, task.primary: scores[task.primary]}
    return found


def default_study(bench: Bench, words: Sequence[str]) -> dict[str, Any]:
    """Run a study by its command in a folder of its own: trainings, all evaluations, files and report; on all cores."""
    if missing := [name for name in ("mlflow", "mujoco") if find_spec(name) is None]:
        raise LeftOutError(f"{' and '.join(missing)} is not installed")
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder, "data").symlink_to(bench.data.absolute())
        command = [sys.executable, "-m", "pipeline", "ensemble", "--device", bench.device, *words]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        environment = kept | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        begun = time.perf_counter()
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        ) as study:  # fmt: skip
            try:
                _, said = study.communicate(timeout=bench.left())
            except subprocess.TimeoutExpired as error:
                os.killpg(study.pid, signal.SIGKILL)  # with its workers, which write into the folder
                raise LeftOutError(f"it was not done after {error.timeout:.0f} s, which were left") from error
        seconds = time.perf_counter() - begun
        if study.returncode:
            raise RuntimeError(f"the study ended with code {study.returncode}: {said[-400:]}")
        report = json.loads(next(Path(folder).glob("train/reports/*/report.json")).read_text())
    models = {group["name"]: len(group["models"]) for group in report["groups"] if group["kind"] == "model"}
    return {"seconds": seconds, "cores": os.cpu_count(), "models": models}


def about(device: str) -> dict[str, Any]:
    """Return the machine."""
    gpu = torch.cuda.get_device_name() if device == "cuda" else "none: tiny models on the CPU, to try the script"
    return {"gpu": gpu, "torch": torch.__version__, "cuda": torch.version.cuda, "python": platform.python_version()}


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Run all parts, and write the JSON after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args(words)
    begun = time.perf_counter()
    torch.set_num_threads(1)
    bench = open_bench(chosen.device, chosen.data, begun + MOST_SECONDS)
    tiny = chosen.device == "cpu"
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "20 trainings": lambda: many(bench, 2 if tiny else 10),
        "200 trainings": lambda: many(bench, 3 if tiny else 100),
        "the same bits twice": lambda: same_bits(bench, 2 if tiny else 3),
        "together against alone": lambda: near(bench, 2 if tiny else 3),
        "evaluation": lambda: evaluate(bench, 4 if tiny else EPISODES),
        # the last, for it may take all the time that is left
        "the default study": lambda: default_study(bench, TINY_STUDY.split() if tiny else ()),
    }
    report: dict[str, Any] = {"about": about(chosen.device), "goals, seconds": GOALS}
    for name, part in parts.items():
        try:
            bench.left()
            report[name] = part()
        except LeftOutError as error:
            report[name] = {"left out": str(error)}
        except Exception as error:  # whatever it is: the other parts are worth as much
            report[name] = {"failed": one_line(error)[:500]}
        report["seconds in all"] = time.perf_counter() - begun
        with whole_file(chosen.out) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {json.dumps(report[name])[:300]}", flush=True)
    return report


if __name__ == "__main__":
    main()
