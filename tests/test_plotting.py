"""Our pictures are the same bytes whatever people have set for plots of their own, which stays as they have set it."""

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np

from pipeline.evaluation.record import Record
from pipeline.report.animation import animate_episode
from pipeline.report.group_styles import styles_of
from pipeline.report.loss_curves import draw_loss_curves, draw_losses
from pipeline.report.plotting import as_svg, look, save
from pipeline.report.trajectory_plots import plot_trajectories
from pipeline.tasks.pendulum import PENDULUM
from tests.conftest import environment

HOSTILE = {"lines.linewidth": 9, "font.size": 30, "savefig.facecolor": "red", "axes.grid": True, "text.usetex": True}
DRAW = "from pathlib import Path; from tests.test_plotting import draw_all; draw_all(Path('drawn'))"


def draw_all(folder: Path) -> None:
    """A picture by each of the ways in which we draw."""
    folder.mkdir()
    losses = {"train": [1.0, 0.5], "val": [1.1, 0.6], "test": [1.2, 0.7]}
    draw_loss_curves(folder / "curves.png", "a run", losses, 2, "loss")
    figure = draw_losses(
        "a study", {"pi0": {name: [values] for name, values in losses.items()}}, styles_of({"pi0": "pi0"})
    )
    save(figure, folder / "losses.png")
    (folder / "losses.svg").write_bytes(as_svg(figure))
    states, noise = np.zeros((13, 4)), np.zeros((12, 1))
    plot_trajectories(states[None, :12].astype(np.float32), noise[None].astype(np.float32), ("a",) * 5, 1, 1, folder)
    steps = np.zeros(1, np.int64)
    record = Record(states, noise, noise, np.zeros((1, 12, 1), np.float32), steps, steps)
    animate_episode(folder / "x.gif", PENDULUM, "a", "b", record)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_no_two_groups_look_alike() -> None:
    assert len({tuple(look(number).items()) for number in range(49)}) == 49


def test_settings_of_a_process_do_not_reach_our_pictures(tmp_path: Path) -> None:
    draw_all(tmp_path / "plain")
    with matplotlib.rc_context(HOSTILE):
        draw_all(tmp_path / "hostile")
        assert {name: matplotlib.rcParams[name] for name in HOSTILE} == HOSTILE
    assert content(tmp_path / "hostile") == content(tmp_path / "plain") and len(content(tmp_path / "plain")) == 5


def test_the_surroundings_do_not_reach_our_pictures(tmp_path: Path) -> None:
    """A backend that is not installed, as a notebook of another environment hands on, and a configuration file."""
    draw_all(tmp_path / "plain")
    (tmp_path / "matplotlibrc").write_text("".join(f"{name}: {value}\n" for name, value in HOSTILE.items()))
    found = subprocess.run(
        [sys.executable, "-c", DRAW],
        cwd=tmp_path, env=environment(MPLBACKEND="module://not_installed.backend"), capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert found.returncode == 0 and found.stderr == "", found.stderr
    assert content(tmp_path / "drawn") == content(tmp_path / "plain")
