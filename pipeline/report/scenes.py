"""A task's scene in pictures: the same shapes and colours in GIFs and stills, by matplotlib, and on the page, as SVG.

Shapes: T control steps, n points of a shape.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.report.plotting import Axes, Circle, Line2D, Polygon, to_rgb
from pipeline.tasks.scene import Array, Role, Scene, Shape
from pipeline.tasks.task import Channel

INKS: Mapping[Role, tuple[str, str]] = {
    "ground": ("#b4bac1", "#57606a"),
    "body": ("#24292f", "#e6edf3"),
    "light": ("#ffffff", "#0d1117"),
    "goal": ("#00735A", "#2fc79b"),
    "obstacle": ("#B34700", "#ff9a57"),
    "force": ("#0072B2", "#6cb6ff"),
}
"""The colour of each role on a light and on a dark background, after Okabe and Ito: the colour-blind can tell them."""
TRACE = "#9aa2ab"
FILLED = 0.65  # opacity of the inside of a polygon; its outline is opaque
HEAD, SLIMNESS = 3.0, 0.5  # length of an arrow's head in widths of its line, and its half width in lengths
FAINTEST = 0.15  # opacity of the first of several positions in a still picture
TALL = 0.75  # height to width, from which on a scene counts as tall


@dataclass(frozen=True)
class Element:
    """A shape in SVG at one step: a `polygon` or a `polyline`, with round ends, of these points."""

    kind: str
    role: Role
    points: str
    width: float


def is_tall(scene: Scene) -> bool:
    """Tell whether a scene needs a high box rather than a wide one."""
    return scene.top - scene.bottom > TALL * (scene.right - scene.left)


def layers(scene: Scene) -> tuple[list[Shape], list[Shape]]:
    """Return the shapes at the back, which never move, and all from the first moving one on; forces get a head."""
    shapes = [part for shape in scene.shapes for part in (shape, *([_head(shape)] if shape.role == "force" else []))]
    first = next((number for number, shape in enumerate(shapes) if len(shape.points) > 1), len(shapes))
    return shapes[:first], shapes[first:]


def _head(line: Shape) -> Shape:
    """Return the head of an arrow as a polygon `(T+1, 3, 2)`: a short force has a smaller one, none has none."""
    along = line.points[:, -1] - line.points[:, -2]
    length = np.hypot(*along.T)[:, None]
    unit = along / np.where(length > 0, length, 1)
    head = np.minimum(HEAD * line.size, length)
    across = SLIMNESS * head * np.stack((-unit[:, 1], unit[:, 0]), 1)
    end = line.points[:, -1]
    return replace(line, kind="polygon", points=np.stack((end + across, end - across, end + head * unit), 1), size=0)


def at(shape: Shape, step: int) -> Array:
    """Return the points `(n, 2)` of a shape at a step."""
    points: Array = shape.points[min(step, len(shape.points) - 1)]
    return points


def ghosts_of(count: int, steps: int) -> list[tuple[int, float]]:
    """Return at most `count` steps of 0 to `steps`, evenly spread, each with its opacity in a still picture."""
    chosen = sorted({round(number * steps / (count - 1)) for number in range(count)})
    return list(zip(chosen, np.linspace(FAINTEST, 1, len(chosen)).round(2).tolist(), strict=True))


def reading(channel: Channel, value: float, sign: str = "-") -> str:
    """Return a channel's value in words: "speed -0.010 m/s", "force 0.200 x 5 N"; `sign` "+" shows both signs."""
    times = "x " if channel.unit[:1].isdigit() else ""
    return f"{channel.label} {value:{sign}.3f} {times}{channel.unit}".rstrip()


# On matplotlib's axes


class Painter:
    """Draws a scene on axes, the same scale in both directions, and moves it from step to step."""

    def __init__(self, axes: Axes, scene: Scene) -> None:
        box = axes.get_window_extent()
        scale = min(box.width / (scene.right - scene.left), box.height / (scene.top - scene.bottom))  # pixels per unit
        middle, half = (scene.left + scene.right) / 2, box.width / scale / 2
        centre, rise = (scene.bottom + scene.top) / 2, box.height / scale / 2
        axes.set(xlim=(middle - half, middle + half), ylim=(centre - rise, centre + rise), yticks=[])
        axes.spines[["left", "right", "top"]].set_visible(False)
        if scene.label:
            axes.set_xlabel(scene.label)
        else:
            axes.set_axis_off()
        self._axes, self._scene = axes, scene
        self._back, self._front = layers(scene)
        draw_back(axes, scene)

    def start(self) -> list[Line2D | Polygon | Circle]:
        """Add what moves, and return it."""
        (self._way,) = self._axes.plot([], [], color=TRACE, linewidth=1.2)
        self._parts = [
            _draw(self._axes, shape, 0, len(self._back) + number) for number, shape in enumerate(self._front)
        ]
        return [self._way, *self._parts]

    def show(self, step: int) -> None:
        """Move what was added to a step."""
        if self._scene.trace is not None:
            self._way.set_data(*self._scene.trace[: step + 1].T)
        for shape, part in zip(self._front, self._parts, strict=True):
            points = at(shape, step)
            if isinstance(part, Line2D):
                part.set_data(*points.T)
            elif isinstance(part, Circle):
                part.set_center((points[0, 0], points[0, 1]))
            else:
                part.set_xy(points)

    def superpose(self, steps: Sequence[tuple[int, float]]) -> None:
        """Draw what moves at several steps, each with an opacity, and the whole trace; no forces."""
        if self._scene.trace is not None:
            self._axes.plot(*self._scene.trace.T, color=TRACE, linewidth=1.2)
        for step, opacity in steps:
            draw_front(self._axes, self._scene, step, opacity)


def draw_back(axes: Axes, scene: Scene) -> None:
    """Draw what never moves on axes that have their limits and their size, and the same scale in both directions."""
    for number, shape in enumerate(layers(scene)[0]):
        _draw(axes, shape, 0, number)


def draw_front(axes: Axes, scene: Scene, step: int, opacity: float) -> None:
    """Draw what moves as it is at a step, but no forces, on such axes."""
    back, front = layers(scene)
    for shape in front:
        if shape.role != "force":
            _draw(axes, shape, step, len(back) + step, opacity)


def _draw(axes: Axes, shape: Shape, step: int, order: float, opacity: float = 1) -> Line2D | Polygon | Circle:
    points, ink = at(shape, step), to_rgb(INKS[shape.role][0])
    if shape.kind == "line":
        figure, (left, right) = axes.get_figure(), axes.get_xlim()
        assert figure is not None, "axes are on a figure"
        width = shape.size * axes.get_window_extent().width / (right - left) * 72 / figure.dpi
        (line,) = axes.plot(
            *points.T, color=(*ink, opacity), linewidth=width, solid_capstyle="round", solid_joinstyle="round",
            zorder=order,
        )  # fmt: skip
        return line
    patch: Polygon | Circle
    if shape.kind == "disc":
        patch = Circle((points[0, 0], points[0, 1]), shape.size, facecolor=(*ink, opacity), linewidth=0)
    else:
        patch = Polygon(points, facecolor=(*ink, opacity * FILLED), edgecolor=(*ink, opacity), linewidth=1)
    patch.set_zorder(order)
    axes.add_patch(patch)
    return patch


# As SVG


@dataclass(frozen=True)
class Frame:
    """Where a scene is on a page: it fits the box, in its middle, the same scale in both directions."""

    scale: float  # drawing units per unit of the scene
    origin: tuple[float, float]

    def places(self, points: Array) -> Array:
        """Return `points (..., 2)` of the scene in drawing units."""
        placed: Array = np.array(self.origin) + self.scale * points * np.array((1, -1))
        return placed


def frame(scene: Scene, left: float, right: float, top: float, bottom: float) -> Frame:
    """Return where a scene is in a box."""
    scale = min((right - left) / (scene.right - scene.left), (bottom - top) / (scene.top - scene.bottom))
    x = (left + right) / 2 - scale * (scene.left + scene.right) / 2
    return Frame(scale, (x, (top + bottom) / 2 + scale * (scene.bottom + scene.top) / 2))


def element(shape: Shape, step: int, where: Frame) -> Element:
    """Return a shape at a step. A disc is a line between two equal points with round ends."""
    points = at(shape, step)
    match shape.kind:
        case "polygon":
            return Element("polygon", shape.role, as_points(where.places(points)), 1)
        case "line":
            return Element("polyline", shape.role, as_points(where.places(points)), _round(shape.size * where.scale))
        case "disc":
            twice = np.repeat(points, 2, axis=0)
            return Element("polyline", shape.role, as_points(where.places(twice)), _round(2 * shape.size * where.scale))


def as_points(places: Array) -> str:
    """Return places `(n, 2)` as SVG writes them."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places.tolist())


def _round(width: float) -> float:
    return round(width, 1)


def inks_css() -> str:
    """Return the colours of the roles as style rules, light and dark."""
    light, dark = (" ".join(f"--{role}: {inks[which]};" for role, inks in INKS.items()) for which in (0, 1))
    rules = [f":root {{ {light} }}", f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"]
    for role in INKS:
        rules.append(f"svg .part.{role} {{ stroke: var(--{role}); }}")
        rules.append(f"svg polygon.part.{role} {{ fill: var(--{role}); fill-opacity: {FILLED}; }}")
    return "\n".join(rules) + "\n"
