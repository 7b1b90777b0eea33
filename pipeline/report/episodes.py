"""Episodes as drawings: a still picture, and its moving parts, in the style of `animation`.

Shapes: T steps, S = 4 state (cart m, pole rad, cart m/s, pole rad/s), H horizon. Action: one unit is 100 N.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.pendulum.scores import CALM_ANGLE
from pipeline.tasks.pendulum.world import ACTION_LIMIT, ANGLE_LIMIT, CART, CONTROL_SECONDS, POLE_LENGTH

Floats = NDArray[np.float64]
Kind = Literal["good", "bad"]

WIDTH, HEIGHT = 420, 372
LEFT, RIGHT = 40.0, 412.0  # edges of all three panels
SCENE, ACTION, ANGLE = (10.0, 126.0), (178.0, 254.0), (278.0, 348.0)  # top and bottom; the scene's bottom is the rail
ROOM = 0.35  # m, margin beside the outermost positions of the cart
GHOSTS = 9  # positions of the cart in the still picture
MOST_SCALE = 165.0  # drawing units per metre, so that an upright pole fits the scene


@dataclass(frozen=True)
class Plan:
    """A chunk, and the first step that executed it."""

    step: int
    actions: Floats  # (H,)


@dataclass(frozen=True)
class Episode:
    """One episode of one model, up to any fall: states (T+1, S) and actions (T,)."""

    group: str
    kind: Kind
    about: str  # model, condition and number
    outcome: str
    states: Floats
    executed: Floats  # as planned, within the motor's range
    applied: Floats  # with the noise
    plans: tuple[Plan, ...]


@dataclass(frozen=True)
class Ghost:
    """The cart and its pole at one step: x of the cart, tip of the pole, opacity."""

    cart: float
    tip: tuple[float, float]
    opacity: float


@dataclass(frozen=True)
class Drawing:
    """The data of the page's template and script, in drawing units."""

    episode: Episode
    ghosts: tuple[Ghost, ...]
    rail: tuple[tuple[float, str], ...]  # positions and labels
    times: tuple[tuple[float, str], ...]
    action_ticks: tuple[tuple[float, str], ...]
    angle_ticks: tuple[tuple[float, str], ...]
    planned: tuple[str, ...]  # points of polylines
    executed: str
    applied: tuple[tuple[float, float], ...]  # dots
    angle: str
    calm: tuple[float, float]  # top and height of the band of calm angles
    fallen: tuple[float, ...]  # positions of the limit angles that are within the panel
    moves: dict[str, Any]
    cart_width: float
    cart_height: float

    @property
    def steps(self) -> int:
        """The number of executed actions."""
        return len(self.episode.executed)


def draw_episode(episode: Episode, steps: int) -> Drawing:
    """Lay an episode out; `steps` is the length of the time axis."""
    states, count = episode.states, len(episode.executed)
    low, high = states[:, 0].min() - ROOM, states[:, 0].max() + ROOM
    scale = min(MOST_SCALE, (RIGHT - LEFT) / (high - low))
    middle = (low + high) / 2
    carts, pole = (LEFT + RIGHT) / 2 + scale * (states[:, 0] - middle), scale * POLE_LENGTH
    tips = np.stack([carts + pole * np.sin(states[:, 1]), SCENE[1] - pole * np.cos(states[:, 1])], axis=1)
    width = (RIGHT - LEFT) / steps

    reach = max(abs(plan.actions).max() for plan in episode.plans) if episode.plans else 0.0
    actions = np.concatenate((episode.executed, episode.applied))
    most_action = min(ACTION_LIMIT, _round_up(max(reach, abs(actions).max(initial=0.0)), 0.5))
    most_angle = _round_up(min(abs(states[:, 1]).max(), 2 * ANGLE_LIMIT), 0.1)

    def places(first: float, values: Floats, most: float, panel: tuple[float, float]) -> list[tuple[float, float]]:
        shown = values[: math.ceil(steps + 1 - first)].clip(-most, most)
        ys = (panel[0] + panel[1]) / 2 - shown / most * (panel[1] - panel[0]) / 2
        return [(round(LEFT + width * (first + i), 1), round(float(y), 1)) for i, y in enumerate(ys)]

    def line(first: int, values: Floats, most: float, panel: tuple[float, float]) -> str:
        return _points(places(first, values, most, panel))

    def ticks(most: float, panel: tuple[float, float]) -> tuple[tuple[float, str], ...]:
        return (panel[0], f"{most:g}"), ((panel[0] + panel[1]) / 2, "0"), (panel[1], f"{-most:g}")

    planned = tuple(line(plan.step, plan.actions, most_action, ACTION) for plan in episode.plans)
    shown = sorted({round(i * count / (GHOSTS - 1)) for i in range(GHOSTS)})
    half = min(CALM_ANGLE / most_angle, 1) * (ANGLE[1] - ANGLE[0]) / 2
    return Drawing(
        episode=episode,
        ghosts=tuple(
            Ghost(round(float(carts[i]), 1), (round(float(tips[i, 0]), 1), round(float(tips[i, 1]), 1)), opacity)
            for i, opacity in zip(shown, np.linspace(0.15, 1, len(shown)).round(2).tolist(), strict=True)
        ),
        rail=tuple(
            (round((LEFT + RIGHT) / 2 + scale * (place - middle), 1), f"{place:g}")
            for place in _places(middle - (RIGHT - LEFT) / 2 / scale, middle + (RIGHT - LEFT) / 2 / scale)
        ),
        times=tuple(
            (round(LEFT + width * second / CONTROL_SECONDS, 1), str(second))
            for second in range(math.floor(steps * CONTROL_SECONDS) + 1)
        ),
        action_ticks=ticks(most_action, ACTION),
        angle_ticks=ticks(most_angle, ANGLE),
        planned=planned,
        executed=_points(_held(places(0, episode.executed, most_action, ACTION), width)),
        applied=tuple(places(0.5, episode.applied, most_action, ACTION)),
        angle=line(0, states[:, 1], most_angle, ANGLE),
        calm=(round((ANGLE[0] + ANGLE[1]) / 2 - half, 1), round(2 * half, 1)),
        fallen=tuple(
            round((ANGLE[0] + ANGLE[1]) / 2 + sign * ANGLE_LIMIT / most_angle * (ANGLE[1] - ANGLE[0]) / 2, 1)
            for sign in (-1, 1)
            if most_angle >= ANGLE_LIMIT
        ),
        moves={
            "seconds": CONTROL_SECONDS,
            "left": LEFT,
            "width": round(width, 3),
            "cart": carts.round(1).tolist(),
            "tip": tips.round(1).tolist(),
            "state": states[:, :2].round(3).tolist(),
            "action": episode.executed.round(2).tolist(),
            "plan": [{"step": p.step, "points": points} for p, points in zip(episode.plans, planned, strict=True)],
        },
        cart_width=round(CART[0] * scale, 1),
        cart_height=round(CART[1] * scale, 1),
    )


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _held(places: Sequence[tuple[float, float]], width: float) -> list[tuple[float, float]]:
    """Return each position twice, at its step and one step later: an action is held for a step."""
    return [held for x, y in places for held in ((x, y), (x + width, y))]


def _round_up(value: float, unit: float) -> float:
    return max(1, math.ceil(value / unit - 1e-9)) * unit


def _places(low: float, high: float) -> Sequence[float]:
    unit = next(unit for unit in (0.5, 1, 2, 5) if (high - low) / unit <= 8 or unit == 5)
    return [n * unit for n in range(math.ceil(low / unit), math.floor(high / unit) + 1)]
