"""Collect demonstrations: simulate, check, cut into training pairs, write."""

import logging
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.lock import data_lock
from pipeline.data.pairs import save_action_pairs
from pipeline.data.trajectories import Trajectories, cut_pairs, save_trajectories
from pipeline.errors import RunError
from pipeline.files import check_folder, file_digest
from pipeline.stages.settings import CollectSettings
from pipeline.streams import numpy_stream
from pipeline.tasks.dataset import FILE, DataSet, dataset_text, name_of, write_dataset
from pipeline.tasks.facts import KEY, facts_of
from pipeline.tasks.registry import find_task
from pipeline.tasks.settings import at_task, horizon_of, require_demonstrator
from pipeline.tasks.task import Array, Demonstrator, Task
from pipeline.versions import installed_versions

STAGES = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

MAX_ATTEMPTS = 10
TRAJECTORIES_FILE, PAIRS_FILE = "trajectories.npz", "training_pairs_original.npz"
CUT_FROM = "trajectories_sha256"  # in the metadata of pairs: of the trajectories file that they were cut from
BEGIN_AS = "begin_as_sha256"
"""Of pairs with a horizon that lengthens the demonstrations: the trajectories file of the task's own horizon."""


@dataclass(frozen=True)
class Collected:
    """The written files, and their quality."""

    task: str
    trajectories: int
    pairs: int
    primary: float  # the demonstrations' mean of the task's primary score
    label: str  # of that score
    refused: dict[str, int]  # number of faulty trajectories that were replaced, by fault
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Demonstrated:
    """Trajectories without faults, and what they are."""

    trajectories: Trajectories
    lengths: Ints  # (N,) the steps before an episode's end; T where it does not end
    primary: float  # their mean of the task's primary score
    refused: dict[str, int]  # number of refusals, by fault


def demonstrate(settings: CollectSettings, task: Task) -> Demonstrated:
    """Simulate the demonstrator, each trajectory with its own variation, start and noise.

    A trajectory with a fault is refused and replaced by a new one. What is not finite is a fault of any task, except in
    a state after the episode's end: there the last finite observation stays.
    Raises `SettingsError` for a task without a demonstrator, `RunError` if too many are refused, which means that the
    demonstrator itself is wrong.
    """
    demonstrator = require_demonstrator(task)
    dataset_text(describe(settings, task))  # what cannot be told of the data is refused before they are made
    wanted, missing = settings.trajectories, settings.trajectories
    good: list[tuple[Floats, Floats, Floats]] = []
    lengths: list[Ints] = []
    scores: list[NDArray[np.float64]] = []
    refused = Counter[str]()
    for attempt in range(MAX_ATTEMPTS):
        states, actions, variation = _simulate(settings, task, demonstrator, missing, attempt)
        rounded = states[:, :-1].astype(np.float32).astype(np.float64)  # as they are stored
        observed, until = task.simulator.observe(states[:, :-1]).astype(np.float32), _until_end(task, rounded)
        asked = slice(task.demonstration_steps)  # also of longer ones, so that a longer horizon refuses the same
        judged = demonstrator.find_faults(rounded[:, asked], actions[:, asked].astype(np.float32).astype(np.float64))
        faults = {**judged, "not finite": ~_finite(observed, actions, until) | judged.get("not finite", False)}
        refused.update({name: int(found.sum()) for name, found in faults.items() if found.any()})
        keep = ~np.logical_or.reduce([np.zeros(len(states), bool), *faults.values()])
        steps = task.episode_steps
        scores.append(task.score(states[keep, : steps + 1], actions[keep, :steps])[task.primary])
        good.append((_held(observed[keep]), actions[keep].astype(np.float32), variation[keep].astype(np.float32)))
        lengths.append(until[keep])
        missing -= int(keep.sum())
        if missing == 0:
            break
    else:
        raise RunError(
            f"demonstrations: expected {wanted} without faults; after {MAX_ATTEMPTS} attempts refused {dict(refused)}. "
            "Nothing was written; the demonstrator or its simulation has changed."
        )
    metadata = {
        "made_by": "tinypi collect",
        "seed": settings.seed,
        "trajectories": wanted,
        "refused": dict(refused),
        "action_noise": demonstrator.action_noise,
        KEY: facts_of(task).values(),
        "versions": installed_versions("numpy", "mujoco"),
    }
    observed, actions32, drawn = (np.concatenate(column) for column in zip(*good, strict=True))
    made = Trajectories(observed, actions32, drawn, metadata)
    return Demonstrated(made, np.concatenate(lengths), float(np.concatenate(scores).mean()), dict(refused))


def _until_end(task: Task, states: Array) -> Ints:
    """Return how many states of `(N, T, P)` come before the first in which the episode is over: `(N,)`."""
    over = task.simulator.ended(states)
    steps: Ints = np.where(over.any(1), over.argmax(1), over.shape[1])
    return steps


def _finite(observed: Floats, actions: Array, until: Ints) -> NDArray[np.bool_]:
    """Tell of trajectories whether all actions are finite, and the observations up to the end: `(N,)`."""
    past = np.arange(observed.shape[1]) >= until[:, None]
    seen = np.isfinite(observed).all(2) | past
    return np.asarray(seen.all(1) & np.isfinite(actions).all((1, 2)))


def _held(observed: Floats) -> Floats:
    """Return `observed (N, T, S)` with the last finite observation in place of one that is not."""
    steps = np.where(np.isfinite(observed).all(2), np.arange(observed.shape[1]), 0)
    return np.take_along_axis(observed, np.maximum.accumulate(steps, axis=1)[..., None], axis=1)


def _simulate(
    settings: CollectSettings, task: Task, demonstrator: Demonstrator, count: int, attempt: int
) -> tuple[Array, Array, Array]:
    """Return `states (N, T+1, P)`, `actions (N, T, A)` and `variation (N, G)` of new trajectories."""

    def stream(name: str) -> np.random.Generator:
        return numpy_stream(settings.seed, "collect", name, attempt)

    steps, more = task.demonstration_steps, _steps(settings, task) - task.demonstration_steps
    variation = demonstrator.draw_variation(stream("gains"), count)
    largest = demonstrator.action_noise
    noise = stream("noise").uniform(-largest, largest, (count, steps, task.action_dim))
    if more:  # a stream of its own, so that the demonstrations go on from those of the task's own horizon
        longer = stream("noise of a longer horizon").uniform(-largest, largest, (count, more, task.action_dim))
        noise = np.concatenate((noise, longer), axis=1)
    starts = task.simulator.draw_starts(stream("starts"), count)
    blocks = []
    for rows in task.simulator.blocks(count):
        controller = demonstrator.controller(variation[rows], starts[rows])
        blocks.append(task.simulator.simulate(controller, starts[rows], noise[rows], settings.threads))
    states, actions = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return states, actions, variation


def _steps(settings: CollectSettings, task: Task) -> int:
    """The steps of a demonstration."""
    return max(task.demonstration_steps, task.pair_steps[-1] + horizon_of(settings, task))


def describe(settings: CollectSettings, task: Task) -> DataSet:
    """Tell what is collected."""
    command = f"collect --task {settings.task} --trajectories {settings.trajectories} --seed {settings.seed}"
    command += f" --horizon {settings.horizon}" if settings.horizon else ""
    return DataSet(
        name=name_of(settings.out, task.name),
        task=task.name,
        observation=task.observation,
        action=task.action,
        control_seconds=task.control_seconds,
        horizon=horizon_of(settings, task),
        episodes=settings.trajectories,
        frames=settings.trajectories * _steps(settings, task),
        format="collect",
        source=f"python -m pipeline {command}",
        source_sha256=task.digest,
        simulated=True,
    )


def collect(settings: CollectSettings) -> Collected:
    """Write trajectories and training pairs to `settings.out`, and what they are: one seed gives the same arrays."""
    task = find_task(settings.task)
    settings = at_task(settings, task)
    check_folder(settings.out, "trajectories and pairs")
    made = demonstrate(settings, task)
    trajectories = made.trajectories
    STAGES.debug("%s demonstrations simulated and checked", settings.trajectories)
    pairs = cut_pairs(trajectories, task.pair_steps, horizon_of(settings, task), trajectories.metadata, made.lengths)
    files = [settings.out / TRAJECTORIES_FILE, settings.out / PAIRS_FILE]
    settings.out.mkdir(parents=True, exist_ok=True)
    with data_lock(settings.out):
        save_trajectories(files[0], trajectories)
        metadata = trajectories.metadata | {CUT_FROM: file_digest(files[0])}
        if _steps(settings, task) > task.demonstration_steps:
            metadata[BEGIN_AS] = _digest_of_begin(trajectories, task.demonstration_steps)
        save_action_pairs(files[1], replace(pairs, metadata=metadata))
        write_dataset(describe(settings, task), settings.out)
    STAGES.debug("trajectories and pairs written")
    if settings.plots:
        from pipeline.report.trajectory_plots import plot_trajectories  # matplotlib is slow to import

        folder = settings.out / "plots"
        labels = tuple(map(str, (*task.observation, *task.action)))
        files += plot_trajectories(
            trajectories.states, trajectories.actions, labels, task.control_seconds, settings.plots, folder
        )
    label = task.scores[task.primary].label
    files.append(settings.out / FILE)
    return Collected(
        task.name, settings.trajectories, len(pairs.state), made.primary, label, made.refused, tuple(files)
    )


def _digest_of_begin(trajectories: Trajectories, steps: int) -> str:
    """Return the sha256 of the file that the first steps of the trajectories would make."""
    states, actions = trajectories.states[:, :steps], trajectories.actions[:, :steps]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / TRAJECTORIES_FILE
        save_trajectories(path, replace(trajectories, states=states, actions=actions))
        return file_digest(path)
