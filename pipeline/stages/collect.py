"""Collect demonstrations: simulate, check, cut into training pairs, write."""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.lock import data_lock
from pipeline.data.pairs import save_action_pairs
from pipeline.data.trajectories import Trajectories, cut_pairs, save_trajectories
from pipeline.errors import RunError, SettingsError
from pipeline.files import check_folder, file_digest
from pipeline.stages.settings import CollectSettings
from pipeline.streams import numpy_stream
from pipeline.tasks.dataset import FILE, DataSet, dataset_text, name_of, write_dataset
from pipeline.tasks.facts import KEY, facts_of
from pipeline.tasks.registry import find_task
from pipeline.tasks.settings import at_task, horizon_of
from pipeline.tasks.task import Array, Demonstrator, Task
from pipeline.versions import installed_versions

STAGES = logging.getLogger(__name__)

Floats = NDArray[np.float32]

MAX_ATTEMPTS = 10
TRAJECTORIES_FILE, PAIRS_FILE = "trajectories.npz", "training_pairs_original.npz"


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


def demonstrate(settings: CollectSettings, task: Task) -> tuple[Trajectories, float, dict[str, int]]:
    """Simulate the demonstrator, each trajectory with its own variation, start and noise.

    A trajectory with a fault is refused and replaced by a new one. Returns the trajectories, their mean of the primary
    score, and the number of refusals by fault.
    Raises `SettingsError` for a task without a demonstrator, `RunError` if too many are refused, which means that the
    demonstrator itself is wrong.
    """
    demonstrator = task.demonstrator
    if demonstrator is None:
        raise SettingsError(
            f"task: '{task.name}' has no demonstrator, so its data are imported, not collected. See 'import --help'."
        )
    dataset_text(describe(settings, task))  # what cannot be told of the data is refused before they are made
    wanted, missing = settings.trajectories, settings.trajectories
    good: list[tuple[Floats, Floats, Floats]] = []
    scores: list[NDArray[np.float64]] = []
    refused = Counter[str]()
    for attempt in range(MAX_ATTEMPTS):
        states, actions, variation = _simulate(settings, task, demonstrator, missing, attempt)
        rounded = states[:, :-1].astype(np.float32).astype(np.float64)  # as they are stored
        faults = demonstrator.find_faults(rounded, actions.astype(np.float32).astype(np.float64))
        refused.update({name: int(found.sum()) for name, found in faults.items() if found.any()})
        keep = ~np.logical_or.reduce([np.zeros(len(states), bool), *faults.values()])
        steps = task.episode_steps
        scores.append(task.score(states[keep, : steps + 1], actions[keep, :steps])[task.primary])
        observed = task.simulator.observe(states[keep, :-1]).astype(np.float32)
        good.append((observed, actions[keep].astype(np.float32), variation[keep].astype(np.float32)))
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
    return made, float(np.concatenate(scores).mean()), dict(refused)


def _simulate(
    settings: CollectSettings, task: Task, demonstrator: Demonstrator, count: int, attempt: int
) -> tuple[Array, Array, Array]:
    """Return `states (N, T+1, P)`, `actions (N, T, A)` and `variation (N, G)` of new trajectories."""

    def stream(name: str) -> np.random.Generator:
        return numpy_stream(settings.seed, "collect", name, attempt)

    steps = _steps(settings, task)
    variation = demonstrator.draw_variation(stream("gains"), count)
    largest = demonstrator.action_noise
    noise = stream("noise").uniform(-largest, largest, (count, steps, task.action_dim))
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
    trajectories, primary, refused = demonstrate(settings, task)
    STAGES.debug("%s demonstrations simulated and checked", settings.trajectories)
    files = [settings.out / TRAJECTORIES_FILE, settings.out / PAIRS_FILE]
    settings.out.mkdir(parents=True, exist_ok=True)
    with data_lock(settings.out):
        save_trajectories(files[0], trajectories)
        metadata = trajectories.metadata | {"trajectories_sha256": file_digest(files[0])}
        pairs = cut_pairs(trajectories, task.pair_steps, horizon_of(settings, task), metadata)
        save_action_pairs(files[1], pairs)
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
    return Collected(task.name, settings.trajectories, len(pairs.state), primary, label, refused, tuple(files))
