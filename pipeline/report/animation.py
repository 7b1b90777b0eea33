"""An episode as a GIF: the task's scene, and below it the planned and the executed actions.

Shapes: T control steps, P state of the simulator, A action, K plans, H horizon.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.files import whole_file
from pipeline.report.plotting import Axes, Figure, FigureCanvasAgg, plain, to_rgb
from pipeline.report.scenes import INKS, TRACE, Painter, is_tall, reading
from pipeline.report.scores import went_well
from pipeline.tasks.scene import Scene
from pipeline.tasks.task import Channel, Task

Floats = NDArray[np.float64]
Chunks = NDArray[np.float32]
Ints = NDArray[np.int64]

# Okabe and Ito's colours, which the colour-blind can distinguish; line styles and widths differ as well.
EXECUTED, PLANNED, LEFT, REACHED = "#0072B2", "#D55E00", "#EFBE9A", "0.45"
WELL, BADLY = "#00735A", "#B34700"
COLOURS = (EXECUTED, PLANNED, LEFT, WELL, BADLY, TRACE, "black", "0.5", *(light for light, _ in INKS.values()))
SHADES = 8  # shades of each colour on white, for smooth edges
LAST_FRAME = 2.0  # s, duration of the last frame
AFTER_END = 12  # steps shown after an early end
MOST_PANELS = 3  # action dimensions that are shown
LINE = 71  # characters of the numbers and the verdict beside them
LEAST = 1 / 6  # of an action's limit: what its axis shows at least, either way

WIDTH, DPI = 6.4, 100  # inches, pixels per inch
HEAD, FOOT, BETWEEN = 0.84, 0.53, 0.2  # inches: title and numbers, time axis, room between panels
SCENE, TALL_SCENE, LEGEND, AXIS = 1.82, 3.2, 0.4, 0.41
PANEL, LOW_PANEL = 1.6, 1.1


class Record(Protocol):
    """An episode, as `evaluation.record.Record`."""

    @property
    def states(self) -> Floats:
        """`(T+1, P)`, the last one after the last action."""

    @property
    def actions(self) -> Floats:
        """`(T, A)`, as planned."""

    @property
    def noise(self) -> Floats:
        """`(T, A)`, added to the actions."""

    @property
    def chunks(self) -> Chunks:
        """`(K, H, A)`"""

    @property
    def asked(self) -> Ints:
        """`(K,)`: plan k begins at this step."""

    @property
    def taken(self) -> Ints:
        """`(K,)`: it was executed from this step on."""


@dataclass(frozen=True)
class Shown:
    """The part of an episode that is shown."""

    actions: Floats  # (T, A), within the limits
    applied: Floats  # (T, A), with the noise
    chunks: Chunks  # (K, H, A)
    asked: Ints  # (K,)
    taken: Ints  # (K,)
    seconds: float
    scene: Scene | None
    numbers: list[str]  # T+1, of every state
    verdicts: list[tuple[str, str]]  # T+1, each with its colour


@plain()
def animate_episode(path: Path, task: Task, title: str, subtitle: str, record: Record) -> None:
    """Write an episode of a task atomically to `path` as a GIF that plays in real time, in a loop.

    At most MOST_PANELS action dimensions are shown, and an episode that ends early until shortly after. Equal records
    give equal bytes.
    """
    palette = _palette()
    frames = [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in _frames(title, subtitle, cut(task, record), task.action)
    ]
    durations = [round(1000 * task.control_seconds)] * (len(frames) - 1) + [round(1000 * LAST_FRAME)]
    with whole_file(path) as temporary:  # optimised: frames hold only the pixels that change
        frames[0].save(
            temporary, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True
        )


def _palette() -> Image.Image:
    """Return the palette: all colours from white to full, the same for every episode."""
    shades = np.linspace(0, 1, SHADES)[:, None]
    colours = np.concatenate([(1 - shades) + shades * np.array(to_rgb(ink)) for ink in COLOURS])
    image = Image.new("P", (1, 1))
    image.putpalette((255 * colours).round().astype(np.uint8).tobytes())
    return image


def cut(task: Task, record: Record, after: int = AFTER_END) -> Shown:
    """Return what is shown of an episode: `after` steps more if it ends early."""
    over = np.flatnonzero(task.simulator.ended(record.states))
    ended = int(over[0]) if len(over) else None
    steps = len(record.actions) if ended is None else min(len(record.actions), ended + after)
    states, applied = record.states[: steps + 1], task.applied(record.actions, record.noise)[:steps]
    scores = {name: column[0] for name, column in task.score(record.states[None], record.actions[None]).items()}
    score = task.scores[task.primary]
    last = f"{score.short} {score.text(scores[task.primary])}", "black"
    verdicts = [("", "black")] * steps + [last]
    if ended is not None:
        ends_badly = f"✗ {task.end} at {ended * task.control_seconds:.2f} s", BADLY
        said = ("✓ success", WELL) if went_well(scores) else ends_badly
        verdicts = [said if step >= ended else each for step, each in enumerate(verdicts)]
    return Shown(
        actions=task.applied(record.actions, 0 * record.noise)[:steps],
        applied=applied,
        chunks=record.chunks,
        asked=record.asked,
        taken=record.taken,
        seconds=task.control_seconds,
        scene=task.scene(states, applied) if task.scene else None,
        numbers=_numbers(task, task.simulator.observe(states), LINE - max(len(said) for said, _ in verdicts)),
        verdicts=verdicts,
    )


def _numbers(task: Task, observed: Floats, longest: int) -> list[str]:
    """Return the time and the first observed numbers `(T+1, S)`, as many as fit, as a line for each state.

    Where some have a unit, only these: sines and cosines do not tell a reader much.
    """
    channels = list(enumerate(task.observation))
    channels = [(number, channel) for number, channel in channels if channel.unit] or channels

    def line(step: int, count: int) -> str:
        words = [reading(channel, observed[step, number], "+") for number, channel in channels[:count]]
        return "   ".join([f"{step * task.control_seconds:4.2f} s", *words]).replace("-", "\u2212")

    count = next((n for n in (3, 2, 1) if n <= len(channels) and len(line(0, n)) <= longest), 0)
    return [line(step, count) for step in range(len(observed))]


def _frames(title: str, subtitle: str, shown: Shown, channels: tuple[Channel, ...]) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames, RGB `(height, width, 3)`, one per state; the static parts are drawn once."""
    count = min(len(channels), MOST_PANELS)
    low = PANEL if count == 1 else LOW_PANEL
    scene_height = 0.0 if shown.scene is None else TALL_SCENE if is_tall(shown.scene) else SCENE
    under = LEGEND + (AXIS if shown.scene and shown.scene.label else 0)
    height = HEAD + scene_height + under + count * low + (count - 1) * BETWEEN + FOOT
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    canvas: Any = FigureCanvasAgg(figure)

    def text(x: float, y: float, words: str, **look: Any) -> Any:
        # parse_math off: matplotlib would read text between two dollars as a formula.
        return figure.text(x, 1 - y / height, words, va="top", parse_math=False, **look)

    text(0.02, 0.08, title, fontsize=12, fontweight="bold")
    text(0.02, 0.36, subtitle, fontsize=10)
    numbers = text(0.02, 0.64, "", fontsize=10, family="monospace")
    verdict = text(0.98, 0.64, "", fontsize=10, fontweight="bold", ha="right")
    moving: list[Any] = [numbers, verdict]
    painter = None
    if shown.scene is not None:
        bottom = 1 - (HEAD + scene_height) / height
        painter = Painter(figure.add_axes((0.02, bottom, 0.96, scene_height / height)), shown.scene)
        moving += painter.start()
    panels = []
    for number, channel in enumerate(channels[:count]):
        bottom = FOOT + (count - 1 - number) * (low + BETWEEN)
        axes = figure.add_axes((0.155, bottom / height, 0.815, low / height))
        panels.append(_Actions(axes, shown, number, channel))
        moving += panels[-1].artists
    panels[0].legend()
    for axes in (panel.axes for panel in panels[:-1]):
        axes.tick_params(labelbottom=False)
    panels[-1].axes.set_xlabel("time, s")
    for artist in moving:
        artist.set_animated(True)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    for step in range(len(shown.numbers)):
        canvas.restore_region(still)
        numbers.set_text(shown.numbers[step])
        verdict.set_text(shown.verdicts[step][0])
        verdict.set_color(shown.verdicts[step][1])
        if painter is not None:
            painter.show(step)
        for panel in panels:
            panel.show(step)
        for artist in moving:
            figure.draw_artist(artist)
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


class _Actions:
    """One dimension of the executed actions, of the plan ahead, and of the unexecuted parts of earlier plans."""

    def __init__(self, axes: Axes, shown: Shown, number: int, channel: Channel) -> None:
        self.axes, self._shown = axes, shown
        self._actions, self._applied = shown.actions[:, number], shown.applied[:, number]
        self._chunks = shown.chunks[:, :, number]
        steps, seconds = len(self._actions), shown.seconds
        self._time = np.arange(steps + 1) * seconds
        least = LEAST * (channel.limit or 0.0)
        values = np.concatenate((self._actions, self._applied, [-least, least]))
        low, high = values.min(), values.max()
        room = 0.12 * (high - low) or 1
        axes.set(xlim=(0, steps * seconds), ylim=(low - room, high + room))
        axes.set_ylabel(str(channel).replace(", ", ",\n"), fontsize=9)
        axes.yaxis.set_label_coords(-0.105, 0.5)  # the same for all panels
        axes.spines[["right", "top"]].set_visible(False)
        axes.grid(alpha=0.25)
        foot = axes.get_xaxis_transform()
        for asked, taken in zip(shown.asked, shown.taken, strict=True):
            axes.axvline(taken * seconds, color="0.85", linewidth=1, zorder=0)
            if taken > asked:  # the answer was late
                axes.axvspan(asked * seconds, taken * seconds, color="0.93", zorder=-1)

        self._left = [
            axes.plot([], [], color=LEFT, linewidth=1, linestyle=(0, (4, 2)))[0] for _ in range(len(self._chunks))
        ]
        (self._ahead,) = axes.plot([], [], color=PLANNED, linewidth=2, linestyle=(0, (3, 1.2)))
        (self._reached,) = axes.plot([], [], ".", color=REACHED, markersize=4)
        (self._executed,) = axes.plot([], [], color=EXECUTED, linewidth=2.2, drawstyle="steps-post")
        (self._planned,) = axes.plot([], [], "v", color="black", markersize=6, transform=foot, clip_on=False)
        (self._now,) = axes.plot([], [], color="black", linewidth=1, transform=foot)
        self.artists = (*self._left, self._reached, self._executed, self._ahead, self._now, self._planned)

    def legend(self) -> None:
        """Tell what is what, above the panel."""
        handles = [self._executed, self._ahead, self._left[0], self._reached, self._planned]
        names = ["executed", "plan ahead", "not executed", "with noise", "new plan"]
        self.axes.legend(
            handles, names, loc="lower right", bbox_to_anchor=(1.01, 1.01), ncols=5, frameon=False, fontsize=8.5,
            handlelength=1.8, columnspacing=1.2, borderaxespad=0,
        )  # fmt: skip

    def show(self, step: int) -> None:
        """Update the artists to a step."""
        shown, seconds = self._shown, self._shown.seconds
        last = len(self._actions) - 1
        self._executed.set_data(self._time[: step + 1], self._actions[np.minimum(np.arange(step + 1), last)])
        self._reached.set_data(self._time[:step] + seconds / 2, self._applied[:step])
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
        chunk = self._chunks[number, start - first :]
        return np.arange(start, start + len(chunk), dtype=np.float64) * self._shown.seconds, chunk
