"""An episode as a GIF: the cart with its pole, and below it the planned and the executed actions.

Shapes: T control steps, S state (cart position m, pole angle rad first), A action, K plans, H horizon.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.pendulum.scores import CONVERGE_STEPS, converge_steps
from pipeline.tasks.pendulum.world import ACTION_LIMIT, CART, POLE_LENGTH, fallen
from pipeline.tasks.task import Task

applied = PENDULUM.applied
from pipeline.files import whole_file
from pipeline.report.plotting import Axes, Figure, FigureCanvasAgg, Rectangle, plain, to_rgb

Floats = NDArray[np.float64]
Chunks = NDArray[np.float32]
Ints = NDArray[np.int64]

# Okabe and Ito's colours, which the colour-blind can distinguish; line styles and widths differ as well.
EXECUTED, PLANNED, LEFT, REACHED = "#0072B2", "#D55E00", "#EFBE9A", "0.45"
CALM, FELL = "#00735A", "#B34700"
INKS = (EXECUTED, PLANNED, LEFT, CALM, FELL, "black", "0.5")
SHADES = 8  # shades of each ink on white, for smooth edges
TALLEST, FLOOR = 0.7, -0.28  # m, the smallest range of heights that is shown
FORCE, FORCE_HEIGHT = 0.25, -0.17  # m: the arrow's length for an action of 1, and its height
WAY = 15  # steps in the trace of the pole's tip
LAST_FRAME = 2.0  # s, duration of the last frame
SIZE, DPI = (6.4, 5.6), 100  # inches, pixels per inch
AFTER_FALL = 12  # steps shown after a fall


@dataclass(frozen=True)
class Shown:
    """The part of an episode that is shown, in units of the picture."""

    states: Floats  # (T+1, S)
    actions: Floats  # (T,) of the first action dimension, here and below; within the motor's range
    applied: Floats  # (T,), with the noise
    chunks: Chunks  # (K, H)
    asked: Ints  # (K,)
    taken: Ints  # (K,)
    seconds: float
    fell: int | None  # the first step beyond the limit angle
    converged: int | None  # the first of CONVERGE_STEPS calm steps, if it does not fall


@plain()
def animate_episode(
    path: Path,
    task: Task,
    title: str,
    subtitle: str,
    record: Any,
) -> None:
    """Write an episode atomically to `path` as a GIF that plays in real time, in a loop.

    `states (T+1, S)`; `actions (T, A)` as planned and `noise (T, A)` added to them, action units (100 N);
    `chunks (K, H, A)` are the plans: plan k begins at step `asked[k]` and was executed from step `taken[k]` on, both
    `(K,)`. A step takes `seconds`. These are the fields of `evaluation.record.Record`, so call
    `animate_episode(path, title, subtitle, **vars(record), seconds=CONTROL_SECONDS)`. Equal arrays give equal bytes.

    The first action dimension is shown. An episode that falls is shown until shortly after.
    """
    shown = _cut(**vars(record), seconds=task.control_seconds)
    palette = _palette()
    frames = [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in _frames(title, subtitle, shown)
    ]
    durations = [round(1000 * task.control_seconds)] * (len(frames) - 1) + [round(1000 * LAST_FRAME)]
    with whole_file(path) as temporary:  # optimised: frames hold only the pixels that change
        frames[0].save(
            temporary, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True
        )


def _palette() -> Image.Image:
    """Return the palette: all inks from white to full, the same for every episode."""
    shades = np.linspace(0, 1, SHADES)[:, None]
    colours = np.concatenate([(1 - shades) + shades * np.array(to_rgb(ink)) for ink in INKS])
    image = Image.new("P", (1, 1))
    image.putpalette((255 * colours).round().astype(np.uint8).tobytes())
    return image


def _cut(
    states: Floats, actions: Floats, noise: Floats, chunks: Chunks, asked: Ints, taken: Ints, seconds: float
) -> Shown:
    down = np.flatnonzero(fallen(states))
    fell = int(down[0]) if len(down) else None
    steps = len(actions) if fell is None else min(len(actions), fell + AFTER_FALL)
    converged = int(converge_steps(states[None], len(actions))[0])
    return Shown(
        states[: steps + 1],
        actions[:steps, 0].clip(-ACTION_LIMIT, ACTION_LIMIT),
        PENDULUM.applied(actions, noise)[:steps, 0],
        chunks[:, :, 0],
        asked,
        taken,
        seconds,
        fell,
        converged if converged < len(actions) else None,
    )


def _frames(title: str, subtitle: str, shown: Shown) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames, RGB `(height, width, 3)`, one per state; the static parts are drawn once."""
    figure = Figure(figsize=SIZE, dpi=DPI)
    canvas: Any = FigureCanvasAgg(figure)
    above, below = figure.add_axes((0.13, 0.525, 0.85, 0.325)), figure.add_axes((0.13, 0.095, 0.85, 0.285))
    # parse_math off: matplotlib would read text between two dollars as a formula.
    figure.text(0.02, 0.985, title, va="top", fontsize=12, fontweight="bold", parse_math=False)
    figure.text(0.02, 0.935, subtitle, va="top", fontsize=10, parse_math=False)
    parts = _Scene(above, shown), _Actions(below, shown)
    moving = [artist for part in parts for artist in part.artists]
    for artist in moving:
        artist.set_animated(True)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    for step in range(len(shown.states)):
        canvas.restore_region(still)
        for part in parts:
            part.show(step)
        for artist in moving:
            figure.draw_artist(artist)
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


class _Scene:
    """The cart on its rail, with the pole, the trace of its tip, and the force on the cart."""

    def __init__(self, axes: Axes, shown: Shown) -> None:
        self._shown = shown
        self._tips = np.stack(
            (shown.states[:, 0] + POLE_LENGTH * np.sin(shown.states[:, 1]), POLE_LENGTH * np.cos(shown.states[:, 1]))
        )
        room = POLE_LENGTH + 0.1
        low, high = shown.states[:, 0].min() - room, shown.states[:, 0].max() + room
        box = axes.get_window_extent()
        scale = max((high - low) / box.width, (TALLEST - FLOOR) / box.height)  # m per pixel, the same for both axes
        middle, half = (low + high) / 2, scale * box.width / 2
        axes.set(xlim=(middle - half, middle + half), ylim=(FLOOR, FLOOR + scale * box.height), yticks=[])
        axes.set_xlabel("cart position, m")
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.text(0, 0.1, "force", transform=axes.transAxes, color=EXECUTED, fontsize=9, va="center")
        axes.axhline(0, color="0.75", linewidth=5, zorder=0)

        (self._way,) = axes.plot([], [], color="0.7", linewidth=1.2)
        (self._pole,) = axes.plot([], [], color="black", linewidth=6, solid_capstyle="round")
        (self._pivot,) = axes.plot([], [], "o", color="white", markersize=3)
        (self._force,) = axes.plot([], [], color=EXECUTED, linewidth=3, markevery=[1], markersize=8)
        self._cart = Rectangle((0, -CART[1] / 2), *CART, facecolor="0.35", edgecolor="black")
        axes.add_patch(self._cart)
        corner: dict[str, Any] = {"transform": axes.transAxes, "va": "top", "fontsize": 10}
        self._numbers = axes.text(0.0, 1.1, "", family="monospace", **corner)
        self._verdict = axes.text(1.0, 1.1, "", ha="right", fontweight="bold", **corner)
        self.artists = (
            self._way, self._cart, self._force, self._pole, self._pivot, self._numbers, self._verdict
        )  # fmt: skip

    def show(self, step: int) -> None:
        """Update the artists to a step."""
        shown = self._shown
        position, angle, velocity = shown.states[step, :3]
        self._way.set_data(*self._tips[:, max(0, step - WAY) : step + 1])
        self._pole.set_data([position, self._tips[0, step]], [0, self._tips[1, step]])
        self._pivot.set_data([position], [0])
        self._cart.set_x(position - CART[0] / 2)
        force = shown.applied[min(step, len(shown.applied) - 1)]
        self._force.set_data([position, position + FORCE * force], [FORCE_HEIGHT] * 2)
        self._force.set_marker(">" if force > 0 else "<")
        self._numbers.set_text(
            f"{step * shown.seconds:4.2f} s   pole {angle:+.3f} rad   cart {velocity:+.2f} m/s".replace("-", "\u2212")
        )
        if shown.fell is not None and step >= shown.fell:
            self._say(f"\u2717 fell at {shown.fell * shown.seconds:.2f} s", FELL)
        elif shown.converged is not None and step >= shown.converged + CONVERGE_STEPS - 1:
            self._say(f"\u2713 converged at {shown.converged * shown.seconds:.2f} s", CALM)
        elif step == len(shown.states) - 1:
            self._say("upright, not converged", "black")
        else:
            self._say("", "black")

    def _say(self, text: str, colour: str) -> None:
        self._verdict.set_text(text)
        self._verdict.set_color(colour)


class _Actions:
    """The executed actions, the plan ahead, and the unexecuted parts of earlier plans."""

    def __init__(self, axes: Axes, shown: Shown) -> None:
        self._shown = shown
        steps, seconds = len(shown.actions), shown.seconds
        self._time = np.arange(steps + 1) * seconds
        values = np.concatenate((shown.actions, shown.applied, [-0.5, 0.5]))
        low, high = values.min(), values.max()
        room = 0.12 * (high - low)
        axes.set(xlim=(0, steps * seconds), ylim=(low - room, high + room))
        axes.set(xlabel="time, s", ylabel="action, 100 N")
        axes.spines[["right", "top"]].set_visible(False)
        axes.grid(alpha=0.25)
        foot = axes.get_xaxis_transform()
        for asked, taken in zip(shown.asked, shown.taken, strict=True):
            axes.axvline(taken * seconds, color="0.85", linewidth=1, zorder=0)
            if taken > asked:  # the answer was late
                axes.axvspan(asked * seconds, taken * seconds, color="0.93", zorder=-1)

        self._left = [
            axes.plot([], [], color=LEFT, linewidth=1, linestyle=(0, (4, 2)))[0] for _ in range(len(shown.chunks))
        ]
        (self._ahead,) = axes.plot([], [], color=PLANNED, linewidth=2, linestyle=(0, (3, 1.2)), label="plan ahead")
        (self._applied,) = axes.plot([], [], ".", color=REACHED, markersize=4, label="with noise")
        (self._executed,) = axes.plot([], [], color=EXECUTED, linewidth=2.2, drawstyle="steps-post", label="executed")
        (self._planned,) = axes.plot(
            [], [], "v", color="black", markersize=6, transform=foot, clip_on=False, label="new plan"
        )
        (self._now,) = axes.plot([], [], color="black", linewidth=1, transform=foot)
        self.artists = (*self._left, self._applied, self._executed, self._ahead, self._now, self._planned)
        handles = [self._executed, self._ahead, self._left[0], self._applied, self._planned]
        names = ["executed", "plan ahead", "not executed", "with noise", "new plan"]
        axes.legend(
            handles, names, loc="lower right", bbox_to_anchor=(1.01, 1.01), ncols=5, frameon=False, fontsize=8.5,
            handlelength=1.8, columnspacing=1.2, borderaxespad=0,
        )  # fmt: skip

    def show(self, step: int) -> None:
        """Update the artists to a step."""
        shown, seconds = self._shown, self._shown.seconds
        last = len(shown.actions) - 1
        self._executed.set_data(self._time[: step + 1], shown.actions[np.minimum(np.arange(step + 1), last)])
        self._applied.set_data(self._time[:step] + seconds / 2, shown.applied[:step])
        current = int(np.flatnonzero(shown.taken <= step)[-1])
        for number, line in enumerate(self._left):
            ends = shown.taken[number + 1] if number < current else None
            if ends is None:
                line.set_data([], [])
            else:
                line.set_data(*self._of_plan(number, int(ends)))
        self._ahead.set_data(*self._of_plan(current, step))
        begun = shown.taken[: current + 1] * seconds
        self._planned.set_data(begun, np.full(len(begun), 1.0))
        self._now.set_data([step * seconds] * 2, [0, 1])

    def _of_plan(self, number: int, start: int) -> tuple[Floats, Chunks]:
        """Return times and actions of a plan from the step `start` on."""
        first = int(self._shown.asked[number])
        chunk = self._shown.chunks[number, start - first :]
        return np.arange(start, start + len(chunk), dtype=np.float64) * self._shown.seconds, chunk
