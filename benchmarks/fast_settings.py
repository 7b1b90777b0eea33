"""FAST's scales and vocabulary, measured: what each setting costs and how well it controls. Justifies the defaults.

    python -m benchmarks.fast_settings [--seeds 1] [--workers 2]

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

from pipeline.cli.console import OUT
from pipeline.evaluation.control import draw_episodes, evaluate_planner, mean_scores, policy_planner
from pipeline.files import whole_file
from pipeline.methods.pi0_fast import PI0_FAST
from pipeline.methods.settings import Pi0FastSettings
from pipeline.policies.checkpoint import Checkpoint
from pipeline.policies.policy import policy_of
from pipeline.stages.make_data import make_missing_data
from pipeline.stages.settings import TokenizeSettings
from pipeline.stages.tokenize import tokenize
from pipeline.streams import global_torch_stream
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.task import Condition
from pipeline.training.fit import Epoch, fit, problem_of

SETTINGS = (  # scale, scale of the lowest frequencies, how many these are, vocabulary
    (2.0, 2.0, 0, 256),
    (3.0, 3.0, 0, 256),
    (4.0, 4.0, 0, 512),
    (2.0, 8.0, 8, 0),
    (2.0, 12.0, 8, 0),
    (2.0, 12.0, 12, 0),
)
CONDITIONS = (Condition(0.01, 10), Condition(0.03, 13), Condition(0.05, 15))
NAMES = [f"{condition.action_noise}, {condition.replan}" for condition in CONDITIONS]
DECODINGS = ("expected", "greedy")
EPISODES, EPISODE_SEED = 200, 2_000_003
RESULTS = Path(__file__).parent / "results" / "fast_settings.json"


def measure(setting: tuple[float, float, int, int], seed: int) -> list[dict[str, object]]:
    """Tokenize, train and control with one setting and one seed; a row for each way to decode."""
    scale, fine_scale, fine, vocabulary = setting
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        tokens, files = tokenize(
            TokenizeSettings(scale=scale, fine_scale=fine_scale, fine=fine, vocabulary=vocabulary, out=Path(name))
        )
        settings = Pi0FastSettings(seed=seed, tokenizer=files[0], pairs=files[1])
        prepared = PI0_FAST.prepare(settings)
    with global_torch_stream(seed, "weights"):
        network = PI0_FAST.build(settings, prepared.interface)
    started = time.perf_counter()
    problem = problem_of(PI0_FAST, network, prepared, settings)
    best = [event for event in fit(problem, settings) if isinstance(event, Epoch) and event.weights][-1]
    seconds = time.perf_counter() - started
    rows: list[dict[str, object]] = []
    for decoding in DECODINGS:
        acting = settings.model_copy(update={"decoding": decoding})
        policy = policy_of(Checkpoint(PI0_FAST, acting, prepared.interface, best.weights or {}, {}))
        episodes = draw_episodes(PENDULUM, CONDITIONS, EPISODES, EPISODE_SEED)
        evaluation = evaluate_planner(policy_planner(policy, episodes, EPISODE_SEED), episodes, threads=1)
        scores = dict(zip(NAMES, mean_scores(evaluation), strict=True))
        rows.append(
            {
                "setting": setting,
                "decoding": decoding,
                "seed": seed,
                **asdict(tokens),
                "train_seconds": seconds,
                "success": {name: score["success"] for name, score in scores.items()},
                "converge": {name: score["converge"] for name, score in scores.items()},
            }
        )
    return rows


def main() -> None:
    """Measure all settings on a pool of processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    make_missing_data(Pi0FastSettings(), PENDULUM, print)
    jobs = [(setting, seed) for setting in SETTINGS for seed in range(options.seeds)]
    with ProcessPoolExecutor(options.workers) as pool:
        rows = [row for found in pool.map(measure, *zip(*jobs, strict=True)) for row in found]
    with whole_file(RESULTS) as temporary:
        temporary.write_text(json.dumps(rows, indent=1) + "\n")

    OUT.print(f"success / converge over {EPISODES} episodes, mean of {options.seeds} seeds, by action noise, replan")
    header = f"{'scale':>5} {'fine':>9} {'vocab':>5} {'tokens':>6} {'error':>6} {'seconds':>7} {'decoding':>9}  "
    OUT.print(header + "  ".join(f"{name:>13}" for name in NAMES))
    for setting in SETTINGS:
        for decoding in DECODINGS:
            same = [row for row in rows if (row["setting"], row["decoding"]) == (setting, decoding)]
            means = [[np.mean([row[what][c] for row in same]) for what in ("success", "converge")] for c in NAMES]  # type: ignore[index]
            cells = [f"{success:.3f} / {converge:.3f}" for success, converge in means]
            seconds = np.mean([row["train_seconds"] for row in same])
            scale, fine_scale, fine, _ = setting
            grid = f"{fine_scale:g} x {fine}" if fine else "-"
            first = same[0]
            OUT.print(
                f"{scale:>5g} {grid:>9} {first['vocabulary']:>5} {first['tokens_mean']:>6.2f} "
                f"{first['error_mean']:>6.4f} {seconds:>7.0f} {decoding:>9}  "
                + "  ".join(f"{cell:>13}" for cell in cells)
            )


if __name__ == "__main__":
    main()
