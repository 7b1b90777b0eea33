"""FAST's scale and vocabulary, measured: what each setting costs and how well it controls. Justifies the defaults.

    python -m benchmarks.fast_settings [--seeds 2] [--workers 2]

Each setting is tokenized and trained with the default training settings, one thread a process, and judged on
episodes that no reported evaluation uses. Prints a table and writes benchmarks/results/fast_settings.json.
"""

import argparse
import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from pipeline.config import Pi0FastSettings, TokenizeSettings
from pipeline.console import OUT
from pipeline.evaluation.control import Condition, draw_episodes, evaluate_planner, mean_scores
from pipeline.files import whole_file
from pipeline.methods.pi0_fast import PI0_FAST
from pipeline.policies.checkpoint import Checkpoint
from pipeline.policies.policy import policy_of
from pipeline.streams import global_torch_stream
from pipeline.training.fit import Epoch, Problem, fit
from pipeline.workflows.make_data import make_missing_data
from pipeline.workflows.tokenize import tokenize

SETTINGS = ((5.0, 96), (5.0, 160), (10.0, 128), (10.0, 160), (10.0, 256), (15.0, 256), (20.0, 256), (20.0, 512))
CONDITIONS = (Condition(0.01, 10), Condition(0.03, 13), Condition(0.05, 15))
NAMES = [f"{condition.action_noise}, {condition.replan}" for condition in CONDITIONS]
EPISODES, EPISODE_SEED = 200, 2_000_003
RESULTS = Path(__file__).parent / "results" / "fast_settings.json"


def measure(scale: float, vocabulary: int, seed: int) -> dict[str, object]:
    """Tokenize, train and control with one setting and one seed."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        tokens, files = tokenize(TokenizeSettings(scale=scale, vocabulary=vocabulary, out=Path(name)))
        settings = Pi0FastSettings(seed=seed, tokenizer=files[0], pairs=files[1])
        prepared = PI0_FAST.prepare(settings)
    with global_torch_stream(seed, "weights"):
        network = PI0_FAST.build(settings, prepared.interface)
    started = time.perf_counter()
    problem = Problem(network, PI0_FAST.loss, prepared.train, prepared.val, prepared.test)
    best = [event for event in fit(problem, settings) if isinstance(event, Epoch) and event.weights][-1]
    seconds = time.perf_counter() - started
    policy = policy_of(Checkpoint(PI0_FAST, settings, prepared.interface, best.weights or {}, {}))
    evaluation = evaluate_planner(policy.plan, draw_episodes(CONDITIONS, EPISODES, EPISODE_SEED), threads=1)
    scores = dict(zip(NAMES, mean_scores(evaluation), strict=True))
    return {
        "seed": seed,
        **asdict(tokens),
        "train_seconds": seconds,
        "success": {name: score["success"] for name, score in scores.items()},
        "converge": {name: score["converge"] for name, score in scores.items()},
    }


def main() -> None:
    """Measure all settings on a pool of processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    make_missing_data(Pi0FastSettings(), print)
    jobs = [(scale, vocabulary, seed) for scale, vocabulary in SETTINGS for seed in range(options.seeds)]
    with ProcessPoolExecutor(options.workers) as pool:
        rows = list(pool.map(measure, *zip(*jobs, strict=True)))
    with whole_file(RESULTS) as temporary:
        temporary.write_text(json.dumps(rows, indent=1) + "\n")

    OUT.print(f"success / converge over {EPISODES} episodes, mean of {options.seeds} seeds, by action noise, replan")
    OUT.print(
        f"{'scale':>5} {'vocab':>5} {'tokens':>6} {'error':>6} {'seconds':>7}  " + "  ".join(f"{c:>13}" for c in NAMES)
    )
    for scale, vocabulary in SETTINGS:
        same = [row for row in rows if (row["scale"], row["vocabulary"]) == (scale, vocabulary)]
        cells = [
            f"{np.mean([row['success'][c] for row in same]):.3f} / {np.mean([row['converge'][c] for row in same]):.3f}"  # type: ignore[index]
            for c in NAMES
        ]
        seconds = np.mean([row["train_seconds"] for row in same])  # type: ignore[arg-type]
        first = same[0]
        OUT.print(
            f"{scale:>5g} {vocabulary:>5} {first['tokens_mean']:>6.2f} {first['error_mean']:>6.4f} {seconds:>7.0f}  "
            + "  ".join(f"{cell:>13}" for cell in cells)
        )


if __name__ == "__main__":
    main()
