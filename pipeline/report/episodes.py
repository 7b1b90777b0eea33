"""Episodes as drawings for the page: a still picture, and its moving parts, in the style of `animation`.

Shapes: T steps, P state of the simulator, H horizon, A action.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.report.scenes import Element, as_points, element, frame, ghosts_of, is_tall, layers, reading
from pipeline.report.statistics import Floats
from pipeline.tasks.task import Task

Kind = Literal["good", "bad"]
Ticks = tuple[tuple[float, str], ...]  # positions and labels

WIDTH = 420
LEFT, RIGHT = 40.0, 412.0  # edges of all panels
TOP, WIDE, TALL = 10.0, 128.0, 240.0  # the scene's top, and its height
AXIS, TITLE, FOOT = 16.0, 24.0, 22.0  # room below the scene for its axis, above a panel, below the last one
ACTION, ACTIONS, OBSERVED = 76.0, 46.0, 44.0  # heights of panels: of one action, of several, of what is observed
MOST_ACTIONS, MOST_OBSERVED = 3, 2  # panels
LEAST = 1 / 6  # of an action's limit: what its panel shows at least, either way
GHOSTS = 9  # positions in the still picture


@dataclass(frozen=True)
class Plan:
    """A chunk, and the first step that executed it."""

    step: int
    actions: Floats  # (H, A)


@dataclass(frozen=True)
class Episode:
    """One episode of one model, up to any early end: states (T+1, P) and actions (T, A)."""

    group: str
    kind: Kind
    about: str  # model, condition and number
    outcome: str
    states: Floats
    executed: Floats  # as planned, within the limits
    applied: Floats  # with the noise
    plans: tuple[Plan, ...]


@dataclass(frozen=True)
class Panel:
    """A quantity over time, in drawing units."""

    top: float
    bottom: float
    label: str
    ticks: Ticks
    line: str  # points of a polyline
    planned: tuple[str, ...] = ()  # of an action, a line for each plan
    dots: tuple[tuple[float, float], ...] = ()  # of an action, with the noise


@dataclass(frozen=True)
class Drawing:
    """The data of the page's template and script, in drawing units."""

    episode: Episode
    height: float
    back: tuple[Element, ...]
    ghosts: tuple[tuple[float, tuple[Element, ...]], ...]  # opacities, and what moves at several times
    front: tuple[Element, ...]  # what moves, in the first step
    trace: str
    axis: Ticks  # of the scene, and its height; empty if it has none
    axis_at: float
    actions: tuple[Panel, ...]
    observed: tuple[Panel, ...]
    times: Ticks
    moves: dict[str, Any]

    @property
    def steps(self) -> int:
        """The number of executed actions."""
        return len(self.episode.executed)


def draw_episode(task: Task, episode: Episode) -> Drawing:
    """Lay an episode out. Raises `ValueError` for a task without a scene."""
    if task.scene is None:
        raise ValueError(f"{task.name}: expected a task with a scene, found none.")
    scene, count = task.scene(episode.states, episode.applied), len(episode.executed)
    bottom = TOP + (TALL if is_tall(scene) else WIDE)
    where = frame(scene, LEFT, RIGHT, TOP, bottom)
    back, front = layers(scene)
    ghosts = [
        (opacity, tuple(element(shape, step, where) for shape in front if shape.role != "force"))
        for step, opacity in ghosts_of(GHOSTS, count)
    ]
    axis = _horizontal(where.scale, where.origin[0], scene.label) if scene.label else ()

    width = (RIGHT - LEFT) / task.episode_steps
    heights = [ACTION if task.action_dim == 1 else ACTIONS] * min(task.action_dim, MOST_ACTIONS)
    heights += [OBSERVED] * min(task.state_dim, MOST_OBSERVED)
    tops, below = [], bottom + (AXIS if axis else 0)
    for height in heights:
        tops.append(below + TITLE)
        below += TITLE + height
    boxes = [(top, top + height) for top, height in zip(tops, heights, strict=True)]
    shown = min(task.action_dim, MOST_ACTIONS)
    actions = tuple(_action(task, episode, number, boxes[number], width) for number in range(shown))
    observed = task.simulator.observe(episode.states)
    return Drawing(
        episode=episode,
        height=below + FOOT,
        back=tuple(element(shape, 0, where) for shape in back),
        ghosts=tuple(ghosts),
        front=tuple(element(shape, 0, where) for shape in front),
        trace="" if scene.trace is None else as_points(where.places(scene.trace)),
        axis=axis,
        axis_at=bottom + AXIS - 4,
        actions=actions,
        observed=tuple(
            _observation(str(channel), values, box, width)
            for channel, values, box in zip(task.observation, observed.T, boxes[shown:], strict=False)
        ),
        times=tuple(
            (round(LEFT + width * second / task.control_seconds, 1), f"{second:g}")
            for second in nice_places(0, task.episode_steps * task.control_seconds, 6)
        ),
        moves={
            "seconds": task.control_seconds,
            "left": LEFT,
            "width": round(width, 3),
            "parts": [[element(shape, step, where).points for step in range(count + 1)] for shape in front],
            "told": [_told(task, observed[step], episode.executed[step : step + 1]) for step in range(count + 1)],
            "plan": [
                {"step": plan.step, "points": [panel.planned[number] for panel in actions]}
                for number, plan in enumerate(episode.plans)
            ],
        },
    )


def _action(task: Task, episode: Episode, number: int, box: tuple[float, float], width: float) -> Panel:
    """Lay out one dimension of the actions, around zero, within the limits."""
    limit, plans = task.limits[number], [plan.actions[:, number] for plan in episode.plans]
    executed, applied = episode.executed[:, number], episode.applied[:, number]
    least = LEAST * (task.action[number].limit or 0.0)
    reach = max(least, *(float(np.abs(values).max(initial=0)) for values in (executed, applied, *plans)))
    most = min(limit, rounded_up(reach))

    def places(first: float, values: Floats) -> list[tuple[float, float]]:
        return _places(first, values.clip(-most, most), (-most, most), box, width, task.episode_steps)

    return Panel(
        top=box[0],
        bottom=box[1],
        label=str(task.action[number]),
        ticks=_ticks((-most, 0.0, most), (-most, most), box),
        line=_points(_held(places(0, executed), width)),
        planned=tuple(_points(places(plan.step, values)) for plan, values in zip(episode.plans, plans, strict=True)),
        dots=tuple(places(0.5, applied)),
    )


def _observation(label: str, values: Floats, box: tuple[float, float], width: float) -> Panel:
    """Lay out one observed number, from its lowest to its highest value."""
    values = np.nan_to_num(values)
    ticks = nice_places(float(values.min()), float(values.max()), 2, outer=True)
    ends = ticks[0], ticks[-1]
    line = _points(_places(0, values, ends, box, width, len(values)))
    return Panel(box[0], box[1], label, _ticks(ticks if len(ticks) < 4 else ends, ends, box), line)


def _places(
    first: float, values: Floats, ends: tuple[float, float], box: tuple[float, float], width: float, steps: int
) -> list[tuple[float, float]]:
    shown = values[: math.ceil(steps + 1 - first)]
    ys = box[1] - (shown - ends[0]) / (ends[1] - ends[0]) * (box[1] - box[0])
    return [(round(LEFT + width * (first + i), 1), round(float(y), 1)) for i, y in enumerate(ys)]


def _ticks(values: Sequence[float], ends: tuple[float, float], box: tuple[float, float]) -> Ticks:
    places = (box[1] - (value - ends[0]) / (ends[1] - ends[0]) * (box[1] - box[0]) for value in values)
    return tuple((round(y, 1), f"{value:g}") for y, value in zip(places, values, strict=True))


def _horizontal(scale: float, origin: float, label: str) -> Ticks:
    """Label the scene's axis across the whole box, with the unit at its last place."""
    unit = label.rpartition(", ")[2] if ", " in label else ""
    values = nice_places((LEFT - origin) / scale, (RIGHT - 8 - origin) / scale, 7)
    names = [f"{value:g}" for value in values[:-1]] + [f"{value:g} {unit}".rstrip() for value in values[-1:]]
    return tuple((round(origin + scale * value, 1), name) for value, name in zip(values, names, strict=True))


def _told(task: Task, observed: Floats, action: Floats) -> str:
    """Say the first numbers of a step: what is observed, and the actions, if there are any (1 or 0, A)."""
    words = [
        reading(channel, value) for channel, value in zip(task.observation[:MOST_OBSERVED], observed, strict=False)
    ]
    for row in action:
        words += [reading(channel, value) for channel, value in zip(task.action[:MOST_ACTIONS], row, strict=False)]
    return ", ".join(words)


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _held(places: Sequence[tuple[float, float]], width: float) -> list[tuple[float, float]]:
    """Return each position twice, at its step and one step later: an action is held for a step."""
    return [held for x, y in places for held in ((x, y), (x + width, y))]


def step_of(span: float, most: int) -> float:
    """Return the smallest of ..., 0.1, 0.2, 0.5, 1, 2, 5, ... that divides a span into at most so many parts."""
    least = span / most
    power = 10.0 ** math.floor(math.log10(least))
    return next(unit * power for unit in (1, 2, 5, 10) if unit * power >= least * (1 - 1e-9))


def nice_places(low: float, high: float, most: int, outer: bool = False) -> list[float]:
    """Return round numbers from `low` to `high`, about `most` steps apart; with `outer`, around them."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    unit = step_of(high - low, most)
    first, last = math.ceil(low / unit - 1e-9), math.floor(high / unit + 1e-9)
    if outer:
        first, last = math.floor(low / unit + 1e-9), math.ceil(high / unit - 1e-9)
    return [round(number * unit, 12) for number in range(first, last + 1)]


def rounded_up(value: float) -> float:
    """Return a round number that is no less than a value, at most half as much again; 1 for 0."""
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(unit * power for unit in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if unit * power >= value * (1 - 1e-9))
