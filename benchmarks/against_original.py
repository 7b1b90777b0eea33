"""By how much ours is faster than the original system's way, side by side on this machine, one torch thread a process.

    python -m benchmarks.against_original [--train-original SECONDS]

Ours and the original's way take turns in short blocks, so that a busy machine slows both; a ratio is taken in each
round, and its median and range over rounds are given. Prints a table, writes benchmarks/results/against_original.json
and draws docs/speed.png. What is compared:

training        samples/s of the default settings' `fit`, and of the original's network in its own loop
its quality     seconds until our averaged weights control as well as the original's trained ones (see `to_quality`),
                beside the seconds of ONE epoch of the original's loop. Its weights are those of the end of an epoch, so
                they took at least that; its authors allow 200, and how many it took is not known
decision        one plan for one state: ours in memory, by torch and exported; the original as shipped, where every
                decision builds the network and reads the weights, and the original kept in memory
episodes        all at once on MuJoCo, and one Gymnasium environment and one state at a time, with the same policy
demonstrations  all at once, and one Gymnasium environment at a time; both give the same states, to the bit

What needs the original's weights (../shared/reference) is left out where these are absent.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import gymnasium
import numpy as np
import torch

from benchmarks.original_way import (
    SCALE,
    VOCABULARY,
    Floats,
    Task,
    flow_plan,
    flow_task,
    plain_pid,
    read_network,
    replanning,
    rollout,
    token_plan,
    token_task,
)
from benchmarks.side_by_side import ROUNDS, Row, draw, table, take_turns
from benchmarks.to_quality import (
    CONDITIONS,
    EPISODE_SEED,
    EPISODES,
    ORIGINAL_TOKENIZER,
    SEED,
    TITLES,
    describe,
    original_qualities,
    original_weights,
    quality_row,
    train_original,
    train_until,
)
from pipeline.cli.console import OUT
from pipeline.data.pairs import load_action_pairs, load_token_pairs
from pipeline.data.split import split_pairs
from pipeline.evaluation.control import draw_episodes, evaluate_planner, policy_planner
from pipeline.files import whole_file
from pipeline.methods.settings import Pi0FastSettings, Pi0Settings
from pipeline.policies.checkpoint import save_checkpoint
from pipeline.policies.exported import load_exported
from pipeline.policies.load import load_policy
from pipeline.policies.policy import Policy
from pipeline.stages.export import export
from pipeline.stages.make_data import make_missing_data
from pipeline.stages.settings import ExportSettings, TokenizeSettings
from pipeline.stages.tokenize import tokenize
from pipeline.streams import numpy_stream, torch_stream
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.pendulum.demonstrator import DEMONSTRATOR
from pipeline.tasks.pendulum.gymnasium_env import ENV_ID
from pipeline.tasks.pendulum.pid import NestedPID, draw_gains
from pipeline.tasks.pendulum.world import ACTION_DIM, EPISODE_STEPS, WORLD, draw_starts
from pipeline.tokenizer.stored import load_tokenizer
from pipeline.versions import installed_versions

RESULTS = Path(__file__).parent / "results" / "against_original.json"
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "speed.png"
DECISIONS, SINGLE_EPISODES = 30, 10  # of a round; the episodes of each condition
DEMONSTRATIONS, SINGLE_DEMONSTRATIONS = 1000, 50  # of a round

Decide = Callable[[Floats], object]
"""A decision for one state `(1, S)`."""


def original_tasks(folder: Path) -> dict[str, Task]:
    """What the original's loop trains: our pairs, and tokens at its scale and vocabulary, made in the folder."""
    _, (_, token_file) = tokenize(TokenizeSettings(scale=SCALE, fine=0, vocabulary=VOCABULARY, out=folder))
    actions, tokens = load_action_pairs(Pi0Settings().pairs), load_token_pairs(token_file)
    rows = split_pairs(actions.trajectory, len(actions.state)).train
    return {"pi0": flow_task(actions, rows, SEED), "pi0_fast": token_task(tokens, rows, SEED)}


def decision_latency(name: str, ours: Mapping[str, Decide], originals: Mapping[str, Decide]) -> list[Row]:
    """Milliseconds a decision, batch 1, each of ours against each of the original's: p50 of every round, p99 of all.

    The states are those of the test split, so of the whole course of an episode.
    """
    pairs = load_action_pairs(Pi0Settings().pairs)
    test = split_pairs(pairs.trajectory, len(pairs.state)).test
    chosen = numpy_stream(SEED, "against original", "decisions").choice(test, (ROUNDS, DECISIONS, 1), replace=False)
    deciders = dict(ours) | dict(originals)
    spent = {decider: np.empty((ROUNDS, DECISIONS)) for decider in deciders}
    for turn, states in enumerate(pairs.state[chosen]):
        for decider, decide in deciders.items():
            decide(states[0])  # not counted: after the others, caches are cold
            for number, state in enumerate(states):
                started = time.perf_counter()
                decide(state)
                spent[decider][turn, number] = 1000 * (time.perf_counter() - started)
    p50 = {decider: np.median(times, axis=1) for decider, times in spent.items()}
    p99 = {decider: float(np.percentile(times, 99)) for decider, times in spent.items()}
    return [
        Row(TITLES[name], f"one decision, {o} / {t}", "ms", p50[o], p50[t], less_is_better=True, p99=(p99[o], p99[t]))
        for o in ours
        for t in originals
    ]


def original_deciders(name: str) -> dict[str, Decide]:
    """The original's first model of a method, as shipped and in memory; nothing where it is absent."""
    if not original_weights(name):
        return {}
    path = original_weights(name)[0]
    network = read_network(path)
    if name == "pi0":
        plan = flow_plan(torch_stream(SEED, "original", "act"))
    else:
        plan = token_plan(load_tokenizer(ORIGINAL_TOKENIZER))
    return {
        "original as shipped": lambda state: plan(read_network(path), state),
        "original in memory": lambda state: plan(network, state),
    }


def episode_rate(name: str, policy: Policy) -> Row:
    """Episodes/s of one policy: all at once, scored, and one environment and one state at a time."""
    batched = draw_episodes(PENDULUM, CONDITIONS, EPISODES, EPISODE_SEED)
    single = draw_episodes(PENDULUM, CONDITIONS, SINGLE_EPISODES, EPISODE_SEED)
    env = gymnasium.make(ENV_ID)

    def ours() -> int:
        evaluate_planner(policy_planner(policy, batched, SEED), batched, threads=1)
        return len(batched.starts)

    def theirs() -> int:
        for start, noise, interval in zip(single.starts, single.noise, single.replan, strict=True):
            rollout(env, start, noise, replanning(policy.act, int(interval)))
        return len(single.starts)

    rates = take_turns({"ours": ours, "original": theirs})
    return Row(TITLES[name], "closed loop, batched / one at a time", "episodes/s", rates["ours"], rates["original"])


def collection_rate() -> list[Row]:
    """Trajectories/s of the simulated demonstrator; raises `RuntimeError` if the two ways give other states."""
    chance = numpy_stream(SEED, "against original", "collection")
    gains, starts = draw_gains(chance, DEMONSTRATIONS), draw_starts(chance, DEMONSTRATIONS)
    largest = DEMONSTRATOR.action_noise
    noise = chance.uniform(-largest, largest, (DEMONSTRATIONS, EPISODE_STEPS, ACTION_DIM))
    env = gymnasium.make(ENV_ID)

    def ours(threads: int) -> int:
        WORLD.simulate(NestedPID(gains), starts, noise, threads)
        return DEMONSTRATIONS

    def theirs() -> int:
        for number in range(SINGLE_DEMONSTRATIONS):
            rollout(env, starts[number], noise[number], plain_pid(gains[number]))
        return SINGLE_DEMONSTRATIONS

    states, _ = WORLD.simulate(NestedPID(gains), starts, noise, 0)
    for number in range(SINGLE_DEMONSTRATIONS):
        if not np.array_equal(states[number], rollout(env, starts[number], noise[number], plain_pid(gains[number]))):
            raise RuntimeError(f"trajectory {number}: expected equal states in a batch and alone, found others.")

    cores = f"{os.cpu_count()} cores"
    rates = take_turns({"1 core": lambda: ours(1), cores: lambda: ours(0), "original": theirs})
    return [
        Row("demonstrations", f"batched on {name} / one at a time", "episodes/s", rates[name], rates["original"])
        for name in ("1 core", cores)
    ]


def main() -> None:
    """Measure, print, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--train-original", type=float, metavar="SECONDS", help="also train the original's networks for so long each"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    for settings in (Pi0Settings(), Pi0FastSettings()):
        make_missing_data(settings, PENDULUM, OUT.print)
    started = time.perf_counter()
    rows: list[Row] = []
    qualities: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        targets = original_qualities()
        tasks = original_tasks(folder)
        for name, target in targets.items():
            progress = train_until(name, target, tasks[name])
            rows.append(progress.throughput)
            if target:
                rows.append(quality_row(name, progress, len(tasks[name].examples)))
            OUT.print(f"{TITLES[name]}: {describe(progress, target)}")
            qualities[name] = {
                "target": target and asdict(target),
                "reached": progress.reached,
                "evaluations": [asdict(judged) for judged in progress.history],
            }

            path = folder / f"{name}.pth"
            save_checkpoint(path, progress.checkpoint)
            policy = load_policy(path)
            exported = load_exported(export(ExportSettings(checkpoint=path)).path)
            ours = {"ours in torch": policy.act, "ours exported": exported.act}
            rows += decision_latency(name, ours, original_deciders(name))
            rows.append(episode_rate(name, policy))
            if options.train_original:
                samples, quality = train_original(tasks[name], folder / "fast_tokenizer.json", options.train_original)
                OUT.print(f"the original's {TITLES[name]} after {samples:,} samples in its own loop: {quality}")
    rows += collection_rate()

    machine = {"cores": os.cpu_count(), **installed_versions("torch", "mujoco", "gymnasium", "numpy")}
    result = {"machine": machine, "quality": qualities, "rows": [row.as_json() for row in rows]}
    with whole_file(RESULTS) as file:
        file.write_text(json.dumps(result, indent=1) + "\n")
    draw(PICTURE, rows, f"Ours against the original system's way, side by side on {os.cpu_count()} CPU cores")
    OUT.print(
        table(rows, f"Ours against the original's way; {time.perf_counter() - started:.0f} s in all"), markup=False
    )


if __name__ == "__main__":
    main()
