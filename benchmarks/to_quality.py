"""Training ours to the quality of the original's trained weights, with the original's loop taking turns beside it.

Quality is success and converge, means over three conditions of 100 episodes that no reported evaluation uses. Ours has
to be at or above the better of the original's models in both (for pi0-FAST success within 0.02), in two evaluations in
a row. How long the original's took is not known, only that it was at least one epoch of its loop.
"""

import copy
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.original_way import BATCH, Task, training
from benchmarks.side_by_side import Row
from pipeline.evaluation.control import draw_episodes, evaluate_planner, mean_scores, policy_planner
from pipeline.methods.registry import METHODS
from pipeline.policies.checkpoint import Checkpoint
from pipeline.policies.load import load_policy
from pipeline.policies.original import import_original
from pipeline.policies.policy import Policy, policy_of
from pipeline.streams import global_torch_stream
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.task import Condition
from pipeline.training.fit import Epoch, Step, fit, problem_of

ORIGINALS = Path(__file__).resolve().parent.parent.parent / "shared" / "reference"
ORIGINAL_TOKENIZER = ORIGINALS / "original_fast_tokenizer.json"
TITLES = {"pi0": "pi0", "pi0_fast": "pi0-FAST"}
SEED = 0
CONDITIONS, EPISODES, EPISODE_SEED = (Condition(0.01, 10), Condition(0.03, 13), Condition(0.05, 15)), 100, 2_000_003
SLACK = {"pi0": 0.0, "pi0_fast": 0.02}  # of success
ROUND_STEPS, ORIGINAL_STEPS = 100, {"pi0": 4, "pi0_fast": 5}  # of training, in a round


@dataclass(frozen=True)
class Quality:
    """How well a model controls: means over CONDITIONS, fallen episodes included."""

    success: float
    converge: float

    def reaches(self, target: "Quality", slack: float) -> bool:
        """Whether both are at or above the target's, success but for the slack."""
        return self.success >= target.success - slack and self.converge >= target.converge

    def __str__(self) -> str:
        return f"success {self.success:.3f}, converge {self.converge:.3f}"


@dataclass(frozen=True)
class Judged:
    """What training had come to on its way."""

    steps: int
    seconds: float
    quality: Quality


@dataclass(frozen=True)
class Progress:
    """Our training, with the original's beside it."""

    checkpoint: Checkpoint
    throughput: Row
    history: list[Judged]
    reached: bool


def judge(policy: Policy) -> Quality:
    """Control the episodes of all conditions."""
    episodes = draw_episodes(PENDULUM, CONDITIONS, EPISODES, EPISODE_SEED)
    scores = mean_scores(evaluate_planner(policy_planner(policy, episodes, EPISODE_SEED), episodes, threads=1))
    return Quality(*(float(np.mean([score[name] for score in scores])) for name in ("success", "converge")))


def judge_original(path: Path) -> Quality:
    """The same for weights of the original, in a process of its own."""
    torch.set_num_threads(1)
    return judge(load_policy(path, ORIGINAL_TOKENIZER))


def original_weights(name: str) -> list[Path]:
    """The files of the original's trained weights of a method; none where they are absent."""
    return sorted(ORIGINALS.glob(f"{METHODS[name].prefix}_*.pth"))


def original_qualities() -> dict[str, Quality | None]:
    """The best success and the best converge of the original's models of each method, judged on all cores."""
    with ProcessPoolExecutor() as pool:
        judged = {name: pool.map(judge_original, original_weights(name)) for name in TITLES}
        return {name: best(list(qualities)) for name, qualities in judged.items()}


def best(qualities: list[Quality]) -> Quality | None:
    """The best of each score, if there is any."""
    if not qualities:
        return None
    return Quality(max(quality.success for quality in qualities), max(quality.converge for quality in qualities))


def our_fit(name: str) -> tuple[Iterator[Step | Epoch], Callable[[dict[str, Tensor]], Checkpoint]]:
    """The default training of a method, and what makes a checkpoint of weights."""
    method = METHODS[name]
    settings = method.settings_type(seed=SEED)
    prepared = method.prepare(settings)
    with global_torch_stream(SEED, "weights"):
        network = method.build(settings, prepared.interface)
    problem = problem_of(method, network, prepared, settings)
    return fit(problem, settings), lambda weights: Checkpoint(method, settings, prepared.interface, weights, {})


def train_until(name: str, target: Quality | None, task: Task) -> Progress:
    """Train ours until it reaches the target, or to the end; after every ROUND_STEPS it is judged, off the clock.

    In between the original's loop has its turn on the task, so both run under the same load.
    """
    events, checkpoint_of = our_fit(name)
    original = training(replace(task, network=copy.deepcopy(task.network)), SEED)
    history: list[Judged] = []
    rates: list[tuple[float, float]] = []
    seconds, good_in_a_row = 0.0, 0
    started = time.perf_counter()
    for event in events:
        if not isinstance(event, Step) or event.steps_done % ROUND_STEPS:
            continue
        spent = time.perf_counter() - started
        seconds += spent
        started = time.perf_counter()
        samples = sum(islice(original, ORIGINAL_STEPS[name]))
        rates.append((ROUND_STEPS * BATCH / spent, samples / (time.perf_counter() - started)))

        checkpoint = checkpoint_of(event.snapshot().averaged)
        quality = judge(policy_of(checkpoint))
        history.append(Judged(event.steps_done, seconds, quality))
        good_in_a_row = good_in_a_row + 1 if target and quality.reaches(target, SLACK[name]) else 0
        if good_in_a_row == 2:
            break
        started = time.perf_counter()
    ours, theirs = np.array(rates[1:]).T  # the first round warms up
    return Progress(checkpoint, Row(TITLES[name], "training", "samples/s", ours, theirs), history, good_in_a_row == 2)


def train_original(task: Task, tokenizer: Path, seconds: float) -> tuple[int, Quality]:
    """Train the original's network in its own loop for so long; the samples it saw, and what it came to."""
    steps, samples, started = training(task, SEED), 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        samples += next(steps)
    return samples, judge(import_original(Path("original.pth"), task.network.state_dict(), tokenizer))


def quality_row(name: str, progress: Progress, epoch_samples: int) -> Row:
    """Our seconds to the original's quality, measured once, beside those of one epoch of its loop."""
    ours, epoch = np.array([progress.history[-1].seconds]), epoch_samples / progress.throughput.original
    measure = "to the original's quality / its 1st epoch"
    failed = "" if progress.reached else "not reached"
    return Row(TITLES[name], measure, "s", ours, epoch, less_is_better=True, at_least=True, failed=failed)


def describe(progress: Progress, target: Quality | None) -> str:
    """What came of the race to the original's quality."""
    last = progress.history[-1]
    if target is None:
        return "the original's weights are not here, so nothing is measured against them"
    if progress.reached:
        return (
            f"the original's weights have {target}; ours {last.quality} after {last.steps} steps, {last.seconds:.0f} s"
        )
    return (
        f"the original's weights have {target}; ours did NOT reach it in its {last.steps} steps, {last.seconds:.0f} s: "
        f"{last.quality}"
    )
