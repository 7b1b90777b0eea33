"""What the pendulum's demonstrator can teach: the mean of its plans, known as exactly as demonstrations allow.

    python -m benchmarks.imitation_limit [--episodes 1000] [--demonstrations 4000]

Close to rest the demonstrator is linear, so the mean of its next actions is a linear function of the state, and least
squares over all demonstrations find it better than a network can. Elsewhere, and at an episode's start, the plan is
that of the demonstrator itself in the true simulator. Plans are executed open-loop, as those of a policy are. So this
is about what a policy can reach that imitates well. Prints a table and writes benchmarks/results/imitation_limit.json.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cli.console import OUT
from pipeline.evaluation.control import Episodes, Ints, Planner, draw_episodes, evaluate_planner, mean_scores
from pipeline.evaluation.yardsticks import yardstick_planner
from pipeline.files import whole_file
from pipeline.methods.method import Plans
from pipeline.streams import numpy_stream
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.pendulum.pid import BASE_GAINS, NestedPID, draw_gains
from pipeline.tasks.task import Array, Yardstick

RESULTS = Path(__file__).parent / "results" / "imitation_limit.json"
SEED = 3_000_003  # of demonstrations and episodes: nothing else uses it
STEPS, HORIZON, NOISE = 200, 50, 0.05
CLOSE = 0.1  # rad: here a plan is by the linear map
FITS = {
    "pairs of the training data, from step 20": range(21, 49, 3),
    "the last pairs of the training data, from step 40": range(42, 49, 3),
    "at rest, from step 50, which the training data do not have": range(50, 146, 5),
}


def demonstrate(count: int) -> tuple[Array, Array]:
    """Return `states (N, T+1, S)` and `actions (N, T, A)` of demonstrations that are twice as long as an episode."""
    simulator = PENDULUM.simulator
    noise = numpy_stream(SEED, "limit", "noise").uniform(-NOISE, NOISE, (count, STEPS, 1))
    starts = simulator.draw_starts(numpy_stream(SEED, "limit", "starts"), count)
    demonstrator = NestedPID(draw_gains(numpy_stream(SEED, "limit", "gains"), count))
    states, actions = simulator.simulate(demonstrator, starts, noise, 1)
    return states, actions


def with_one(states: Array) -> Array:
    """Put a column of ones before `states (B, S)`."""
    return np.concatenate((np.ones((len(states), 1)), states), axis=1)


def fit_map(states: Array, actions: Array, steps: Iterable[int]) -> Array:
    """Return the linear map `(1 + S, H)` from a state to the mean of its next actions, over these steps."""
    state = np.concatenate([states[:, step] for step in steps])
    chunk = np.concatenate([actions[:, step : step + HORIZON, 0] for step in steps])
    close = np.abs(state[:, 1]) < CLOSE
    found: Array = np.linalg.lstsq(with_one(state[close]), chunk[close], rcond=None)[0]
    return found


def linear_planner(found: Array, episodes: Episodes) -> Planner:
    """Plan by the linear map close to rest, and elsewhere as the demonstrator does."""

    def demonstrator(kick: bool) -> Planner:
        yardstick = Yardstick(lambda states: [NestedPID(np.tile(BASE_GAINS, (len(states), 1)), kick)])
        return yardstick_planner(yardstick, episodes, 1)

    start, later = demonstrator(kick=True), demonstrator(kick=False)

    def plan(states: Array, due: Ints, step: int) -> Plans:
        actions = (later if step else start)(states, due, step).actions
        close = (np.abs(states[:, 1]) < CLOSE) & (step > 0)
        actions[close] = (with_one(states[close]) @ found)[:, : actions.shape[1], None]
        return Plans(actions)

    return plan


def measure(planner: Planner, episodes: Episodes) -> dict[str, float]:
    """Return calm by condition, and their mean."""
    rows = mean_scores(evaluate_planner(planner, episodes, 1))
    by_condition = {str(condition): row["calm"] for condition, row in zip(PENDULUM.conditions, rows, strict=True)}
    return by_condition | {"mean": float(np.mean(list(by_condition.values())))}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=1000, help="per condition")
    parser.add_argument("--demonstrations", type=int, default=4000)
    asked = parser.parse_args()
    episodes = draw_episodes(PENDULUM, PENDULUM.conditions, asked.episodes, SEED)
    states, actions = demonstrate(asked.demonstrations)
    found: dict[str, Any] = {}
    for name in ("PID, planned", "LQR, planned"):
        found[name] = measure(yardstick_planner(PENDULUM.yardsticks[name], episodes, 1), episodes)
    for name, steps in FITS.items():
        found[f"mean plan: {name}"] = measure(linear_planner(fit_map(states, actions, steps), episodes), episodes)
    for name, calm in found.items():
        OUT.print(f"{name:75}  {calm['mean']:.3f}")
    made = {"episodes": asked.episodes, "demonstrations": asked.demonstrations, "seed": SEED, "calm": found}
    with whole_file(RESULTS) as path:
        path.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
