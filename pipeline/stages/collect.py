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
from pipeline.env.pendulum import (
    ACTION_DIM,
    CONTROL_SECONDS,
    EPISODE_STEPS,
    LABELS,
    XML_FILE,
    draw_starts,
    fallen,
    simulate,
)
from pipeline.env.pid import NestedPID, draw_gains
from pipeline.env.scores import converge_steps
from pipeline.errors import RunError
from pipeline.files import check_folder, file_digest
from pipeline.stages.settings import CollectSettings
from pipeline.streams import numpy_stream
from pipeline.versions import installed_versions

STAGES = logging.getLogger(__name__)

Floats = NDArray[np.float32]

MAX_ATTEMPTS = 10
ACTION_NOISE = 0.05  # added to the applied action, not recorded: it widens the distribution of states
TRAJECTORIES_FILE, PAIRS_FILE = "trajectories.npz", "training_pairs_original.npz"


@dataclass(frozen=True)
class Collected:
    """The written files, and their quality."""

    trajectories: int
    pairs: int
    converge_step: float  # mean over trajectories
    refused: dict[str, int]  # number of faulty trajectories that were replaced, by fault
    files: tuple[Path, ...]


def demonstrate(settings: CollectSettings) -> tuple[Trajectories, dict[str, int]]:
    """Simulate the demonstrator, each trajectory with its own gains, start and noise; return them and count refusals.

    A trajectory that falls, does not converge or is not finite is refused and replaced by a new one.
    Raises `RunError` if too many are refused, which means that the demonstrator itself is wrong.
    """
    wanted, missing = settings.trajectories, settings.trajectories
    good: list[tuple[Floats, Floats, Floats]] = []
    refused = Counter[str]()
    for attempt in range(MAX_ATTEMPTS):
        states, actions, gains = _simulate(settings, missing, attempt)
        faults = find_faults(states, actions)
        refused.update({name: int(found.sum()) for name, found in faults.items() if found.any()})
        keep = ~np.logical_or.reduce(list(faults.values()))
        good.append((states[keep], actions[keep], gains[keep]))
        missing -= int(keep.sum())
        if missing == 0:
            break
    else:
        raise RunError(
            f"demonstrations: expected {wanted} that stay upright, converge and are finite; after {MAX_ATTEMPTS} "
            f"attempts refused {dict(refused)}. Nothing was written; the demonstrator or its simulation has changed."
        )
    metadata = {
        "made_by": "tinypi collect",
        "seed": settings.seed,
        "trajectories": wanted,
        "refused": dict(refused),
        "action_noise": ACTION_NOISE,
        "model_sha256": file_digest(XML_FILE),
        "versions": installed_versions("numpy", "mujoco"),
    }
    states, actions, gains = (np.concatenate(column) for column in zip(*good, strict=True))
    return Trajectories(states, actions, gains, metadata), dict(refused)


def _simulate(settings: CollectSettings, count: int, attempt: int) -> tuple[Floats, Floats, Floats]:
    def stream(name: str) -> np.random.Generator:
        return numpy_stream(settings.seed, "collect", name, attempt)

    gains = draw_gains(stream("gains"), count)
    noise = stream("noise").uniform(-ACTION_NOISE, ACTION_NOISE, (count, EPISODE_STEPS, ACTION_DIM))
    states, actions = simulate(NestedPID(gains), draw_starts(stream("starts"), count), noise, settings.threads)
    return states[:, :EPISODE_STEPS].astype(np.float32), actions.astype(np.float32), gains.astype(np.float32)


def find_faults(states: Floats, actions: Floats) -> dict[str, NDArray[np.bool_]]:
    """Find the faults of trajectories `states (N, T, S)`, `actions (N, T, A)`: a boolean array `(N,)` per fault."""
    exact = states.astype(np.float64)
    steps = states.shape[1]
    fell, converged = np.asarray(fallen(exact).any(1)), converge_steps(exact, steps) < steps
    finite = np.isfinite(states).all((1, 2)) & np.isfinite(actions).all((1, 2))
    return {
        "not finite": np.asarray(~finite),
        "fallen": finite & fell,
        "not converged": finite & ~fell & ~converged,
    }


def collect(settings: CollectSettings) -> Collected:
    """Write trajectories and training pairs to `settings.out`; the same seed gives the same bytes."""
    check_folder(settings.out, "trajectories and pairs")
    trajectories, refused = demonstrate(settings)
    STAGES.debug("%s demonstrations simulated and checked", settings.trajectories)
    converge_step = float(converge_steps(trajectories.states.astype(np.float64), EPISODE_STEPS).mean())
    files = [settings.out / TRAJECTORIES_FILE, settings.out / PAIRS_FILE]
    settings.out.mkdir(parents=True, exist_ok=True)
    with data_lock(settings.out):
        save_trajectories(files[0], trajectories)
        pairs = cut_pairs(trajectories, trajectories.metadata | {"trajectories_sha256": file_digest(files[0])})
        save_action_pairs(files[1], pairs)
    STAGES.debug("trajectories and pairs written")
    if settings.plots:
        from pipeline.report.trajectory_plots import plot_trajectories  # matplotlib is slow to import

        folder = settings.out / "plots"
        files += plot_trajectories(
            trajectories.states, trajectories.actions, LABELS, CONTROL_SECONDS, settings.plots, folder
        )
    return Collected(settings.trajectories, len(pairs.state), converge_step, refused, tuple(files))
