"""Would other episodes change the verdict? Intervals of the difference over seeds alone, and over seeds and episodes.

    python -m benchmarks.episode_draws [STUDY]

The report's intervals are over training seeds, for the episodes that all models met. Here episodes are drawn again too:
rows (seeds) and columns (episodes) of a condition's table of differences are resampled at once. Reads a finished
study's runs from the store. Prints a table and writes benchmarks/results/episode_draws.json.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.cli.console import OUT
from pipeline.evaluation.protocol import CONDITIONS
from pipeline.evaluation.stored import EPISODES_FILE, FOLDER
from pipeline.files import whole_file
from pipeline.report.tables import Table
from pipeline.stages.evaluate import models_of_study
from pipeline.streams import numpy_stream
from pipeline.tracking.query import artifact, is_average
from pipeline.tracking.store import open_store

RESAMPLES = 4000
METHODS = ("pi0", "pi0_fast")
RESULTS = Path(__file__).parent / "results" / "episode_draws.json"


def read(study: str) -> dict[str, dict[int, pd.DataFrame]]:
    """Every model's episodes, by method and seed."""
    store = open_store()
    found: dict[str, dict[int, pd.DataFrame]] = {}
    for run in models_of_study(store, study):
        if is_average(run):
            continue
        with artifact(store, run.run_id, f"{FOLDER}/{EPISODES_FILE}") as path:
            found.setdefault(run.tags["method"], {})[int(run.params["seed"])] = pd.read_csv(path)
    return found


def interval(differences: NDArray[np.float64], episodes_too: bool) -> tuple[float, float]:
    """The 95% percentile interval of the mean of `differences (seeds, episodes)`."""
    chance = numpy_stream(0, "episode draws")
    seeds, episodes = differences.shape
    means = []
    for _ in range(RESAMPLES):
        rows = differences[chance.integers(0, seeds, seeds)]
        means.append(rows[:, chance.integers(0, episodes, episodes)].mean() if episodes_too else rows.mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Compare both kinds of interval in every condition."""
    models = read(sys.argv[1] if len(sys.argv) > 1 else "ensemble")
    seeds = sorted(models[METHODS[0]].keys() & models[METHODS[1]].keys())
    rows, cells = [], []
    for score in ("success", "converge"):
        for condition in CONDITIONS:
            where = f"action_noise == {condition.action_noise} and replan == {condition.replan}"
            first, second = (
                np.array([models[method][seed].query(where)[score].to_numpy(float) for seed in seeds])
                for method in METHODS
            )
            found = {kind: interval(first - second, kind == "both") for kind in ("seeds", "both")}
            mean = float((first - second).mean())
            rows.append({"score": score, "condition": str(condition), "difference": mean, **found})
            texts = [f"[{low:+.3f}, {high:+.3f}]" for low, high in found.values()]
            cells.append((score, f"{condition.action_noise:g}, {condition.replan}", f"{mean:+.3f}", *texts))
    columns = ("score", "noise, replan", "difference", "95%, seeds", "95%, seeds and episodes")
    OUT.print(Table(f"{' minus '.join(METHODS)}, {len(seeds)} seeds", columns, cells).text(), markup=False)
    with whole_file(RESULTS) as temporary:
        temporary.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
