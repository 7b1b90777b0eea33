"""Demonstrations as pictures."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.report.plotting import Figure, plain, save


@plain()
def plot_trajectories(
    states: NDArray[np.float32],
    actions: NDArray[np.float32],
    labels: tuple[str, ...],
    seconds: float,
    count: int,
    folder: Path,
) -> list[Path]:
    """Draw the first `count` of `states (N, T, S)` and `actions (N, T, A)` over time, one picture each, into `folder`.

    `labels` name the S state dimensions and then the A action dimensions, with units; a step takes `seconds`.
    """
    paths = []
    for number in range(min(count, len(states))):
        values = np.concatenate((states[number], actions[number]), axis=1)
        figure = Figure(figsize=(7, 1.5 * len(labels)), layout="constrained")
        panels = np.atleast_1d(figure.subplots(len(labels), sharex=True))
        for axes, label, series in zip(panels, labels, values.T, strict=True):
            axes.plot(np.arange(len(series)) * seconds, series, color="#0072B2", linewidth=1.4)
            axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
            axes.set_ylabel(label)
            axes.grid(alpha=0.3)
        panels[0].set_title(f"Demonstration {number}")
        panels[-1].set_xlabel("time, s")
        path = folder / f"trajectory_{number:04d}.png"
        save(figure, path, dpi=100)
        paths.append(path)
    return paths
