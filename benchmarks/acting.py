"""What a way to act is worth: the models of a study, with the same weights, acting on a sample or on the expectation.

    python -m benchmarks.acting [--study ensemble] [--workers 2]

The models are those of MLflow's store; the episodes are those of a default evaluation, so they pair with the study's.
Prints means and deviations over the models, and writes benchmarks/results/acting.json.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.cli.console import OUT
from pipeline.evaluation.control import draw_episodes, evaluate_planner, mean_scores, policy_planner
from pipeline.evaluation.protocol import CONDITIONS
from pipeline.files import whole_file
from pipeline.policies.checkpoint import load_checkpoint
from pipeline.policies.policy import policy_of
from pipeline.stages.evaluate import models_of_study
from pipeline.tracking.query import artifact, is_average
from pipeline.tracking.store import open_store

WAYS: dict[str, list[dict[str, Any]]] = {
    "pi0": [{"start_noise": 0.0}, {"start_noise": 0.3}, {"start_noise": 1.0}, {"flow_steps": 1}, {"flow_steps": 2}],
    "pi0_fast": [{"decoding": "expected"}, {"decoding": "greedy"}],
}
EPISODES, EPISODE_SEED = 100, 0
RESULTS = Path(__file__).parent / "results" / "acting.json"


def measure(run_id: str, method: str, way: dict[str, Any]) -> dict[str, Any]:
    """Success and converge of one model in each condition, acting in one way."""
    torch.set_num_threads(1)
    store = open_store()
    name = store.get_run(run_id).data.tags["name"]
    with artifact(store, run_id, f"{name}.pth") as path:
        checkpoint = load_checkpoint(path)
    acting = replace(checkpoint, settings=checkpoint.settings.model_copy(update=way))
    episodes = draw_episodes(CONDITIONS, EPISODES, EPISODE_SEED)
    scores = mean_scores(
        evaluate_planner(policy_planner(policy_of(acting), episodes, EPISODE_SEED), episodes, threads=1)
    )
    means = {what: [score[what] for score in scores] for what in ("success", "converge")}
    return {"method": method, "way": way, "seed": checkpoint.settings.seed, **means}


def main() -> None:
    """Measure all models in all ways on a pool of processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="ensemble")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    models = [
        (run.run_id, run.tags["method"]) for run in models_of_study(open_store(), options.study) if not is_average(run)
    ]
    jobs = [(run_id, method, way) for run_id, method in models for way in WAYS.get(method, [])]
    with ProcessPoolExecutor(options.workers) as pool:
        rows = list(pool.map(measure, *zip(*jobs, strict=True)))
    with whole_file(RESULTS) as temporary:
        temporary.write_text(json.dumps(rows, indent=1) + "\n")

    OUT.print(f"{'method':<10} {'acting':<24} {'models':>6}  {'success':>15} {'worst':>6}  {'converge':>15}")
    for method, ways in WAYS.items():
        for way in ways:
            found = [row for row in rows if row["method"] == method and row["way"] == way]
            if not found:
                continue
            success, converge = (np.array([row[what] for row in found]) for what in ("success", "converge"))
            cells = [f"{each.mean():.3f} ± {each.mean(1).std(ddof=1):.3f}" for each in (success, converge)]
            label = ", ".join(f"{name}={value}" for name, value in way.items())
            worst = success.mean(0).min()
            OUT.print(f"{method:<10} {label:<24} {len(found):>6}  {cells[0]:>15} {worst:>6.3f}  {cells[1]:>15}")


if __name__ == "__main__":
    main()
