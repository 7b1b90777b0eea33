"""Collect demonstrations: simulate, check, cut into training pairs, write."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config import CollectSettings
from pipeline.data.pairs import save_action_pairs
from pipeline.data.trajectories import Trajectories, cut_pairs, save_trajectories
from pipeline.env.pendulum import ACTION_DIM, EPISODE_STEPS, STATE_DIM, XML_FILE, draw_starts, simulate
from pipeline.env.pid import NestedPID, draw_gains
from pipeline.env.scores import score
from pipeline.errors import RunError
from pipeline.files import file_digest
from pipeline.streams import numpy_stream
from pipeline.versions import installed_versions

ACTION_NOISE = 0.05  # added to the applied action, not recorded: it widens the states that are seen
TRAJECTORIES_FILE, PAIRS_FILE = "trajectories.npz", "training_pairs_original.npz"


@dataclass(frozen=True)
class Collected:
    """What was written, and how good it is."""

    trajectories: int
    pairs: int
    converge_step: float  # mean over trajectories
    files: tuple[Path, ...]


def demonstrate(settings: CollectSettings) -> Trajectories:
    """Simulate the demonstrator with its own gains, start and noise in every trajectory."""
    count, seed = settings.trajectories, settings.seed
    gains = draw_gains(numpy_stream(seed, "collect", "gains"), count)
    starts = draw_starts(numpy_stream(seed, "collect", "starts"), count)
    shape = (count, EPISODE_STEPS, ACTION_DIM)
    noise = numpy_stream(seed, "collect", "noise").uniform(-ACTION_NOISE, ACTION_NOISE, shape)
    states, actions = simulate(NestedPID(gains), starts, noise, settings.threads)
    metadata = {
        "made_by": "tinypi collect",
        "seed": seed,
        "trajectories": count,
        "action_noise": ACTION_NOISE,
        "model_sha256": file_digest(XML_FILE),
        "versions": installed_versions("numpy", "mujoco"),
    }
    return Trajectories(*(a.astype(np.float32) for a in (states[:, :EPISODE_STEPS], actions, gains)), metadata)


def check_quality(trajectories: Trajectories) -> float:
    """Return the mean converge step; raises `RunError` naming what fell, did not converge or is not finite."""
    scores = score(trajectories.states.astype(np.float64))
    finite = np.isfinite(trajectories.states).all((1, 2)) & np.isfinite(trajectories.actions).all((1, 2))
    faults = {"not finite": ~finite, "fallen": ~scores.success, "not converged": ~scores.converged}
    found = [
        f"{int(bad.sum())} {name} (first: trajectory {int(bad.argmax())})" for name, bad in faults.items() if bad.any()
    ]
    if found:
        raise RunError(
            f"demonstrations: expected all {len(finite)} to stay upright, converge and be finite; found "
            f"{', '.join(found)}. Nothing was written; try another --seed."
        )
    return float(scores.converge_step.mean())


def collect(settings: CollectSettings) -> Collected:
    """Write `trajectories.npz` and `training_pairs_original.npz` below `settings.out`; the same seed, the same bytes."""
    trajectories = demonstrate(settings)
    assert trajectories.states.shape[-1] == STATE_DIM
    converge_step = check_quality(trajectories)
    files = [settings.out / TRAJECTORIES_FILE, settings.out / PAIRS_FILE]
    save_trajectories(files[0], trajectories)
    pairs = cut_pairs(trajectories, trajectories.metadata | {"trajectories_sha256": file_digest(files[0])})
    save_action_pairs(files[1], pairs)
    if settings.plots:
        from pipeline.report.trajectory_plots import plot_trajectories  # matplotlib is slow to import

        files += plot_trajectories(trajectories, settings.plots, settings.out / "plots")
    return Collected(settings.trajectories, len(pairs.state), converge_step, tuple(files))
