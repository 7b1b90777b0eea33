"""What a task is: a record of data and functions. Everything about a task is said in its record and nowhere else.

Shapes: B episodes side by side, T control steps, P state of the simulator, Q start, S observation, A action, H horizon
of a chunk, G numbers that make a demonstrator's variation, D decisions of a task with several good ways.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingsError
from pipeline.tasks.scene import Scene
from pipeline.tasks.score import OF_HELD_OUT, OF_PLANS, OF_WAYS, Scores, primary_of

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Columns = dict[str, NDArray[Any]]
"""Arrays `(B,)` by the name of the score, one number per episode."""
Controller = Callable[[int, Array], Array]
"""`controller(step, states (B, P)) -> actions (B, A)`, called once per control step."""

HORIZON = 50  # actions of a chunk, unless a task says otherwise
PARTS = (5, 2, 1)  # without a simulator plans are judged by their first fifth, their first half and all of it


@dataclass(frozen=True)
class Channel:
    """One number of an observation or an action."""

    name: str  # of a column
    label: str  # in figures and texts, such as "pole angle"
    unit: str
    limit: float | None = None  # of an action: it is applied within +-limit

    def __str__(self) -> str:
        return f"{self.label}, {self.unit}" if self.unit else self.label


@dataclass(frozen=True)
class Condition:
    """A condition: uniform noise of +-`action_noise` on every action, and a plan every `replan` steps.

    Without a simulator there is no noise, and `replan` is how many actions of a plan are judged, from its first.
    """

    action_noise: float
    replan: int

    def __str__(self) -> str:
        return f"noise{self.action_noise:g}_replan{self.replan}"


@dataclass(frozen=True, kw_only=True)
class World:
    """The simulator: what happens. What it holds, the states `(..., P)`, and what a policy observes are two things."""

    draw_starts: Callable[[np.random.Generator, int], Array]
    """`draw_starts(generator, count) -> starts (count, Q)`. With Q = P, any state can be a start."""
    simulate: Callable[[Controller, Array, Array, int], tuple[Array, Array]]
    """`simulate(controller, starts (B, Q), noise (B, T, A), threads) -> states (B, T+1, P), actions (B, T, A)`.

    `noise` is added to the controller's actions before they are applied, and is not part of the returned actions. The
    simulation goes on after an episode's end. `threads` 0 means all cores; the result does not depend on it."""
    observe: Callable[[Array], Array]
    """`observe(states (..., P)) -> observations (..., S)`"""
    ended: Callable[[Array], Bools]
    """`ended(states (..., P)) -> (...)`: whether the episode is over in this state, as after a fall."""
    source: bytes  # what its physics is made from, such as the model's XML: part of the task's digest
    most: int | None = None  # episodes side by side, at most: a simulator that needs much memory for each; None: any

    def blocks(self, count: int) -> list[slice]:
        """Divide `count` episodes, one or more, into those that are simulated side by side."""
        size = self.most or count
        return [slice(first, min(first + size, count)) for first in range(0, count, size)]


@dataclass(frozen=True, kw_only=True)
class Demonstrator:
    """The expert whose trajectories are training data."""

    draw_variation: Callable[[np.random.Generator, int], Array]
    """`draw_variation(generator, count) -> (count, G)`: what differs between trajectories: gains, sides."""
    controller: Callable[[Array, Array], Controller]
    """`controller(variation (B, G), starts (B, Q)) -> controller` of B episodes."""
    find_faults: Callable[[Array, Array], Mapping[str, Bools]]
    """`find_faults(states (B, T, P), actions (B, T, A)) -> (B,)` by the fault's name. Trajectories with one are
    refused and replaced. T is `Task.demonstration_steps`: it may go on after an episode's end."""
    action_noise: float  # on the applied action, not recorded: it widens the distribution of states


@dataclass(frozen=True, kw_only=True)
class Ways:
    """The several good ways of a task, such as left or right of a post."""

    decisions: tuple[tuple[str, ...], ...]  # D decisions, each with the names of its options
    entropy: float  # bits, of the demonstrators' own choice
    taken: Callable[[Array], Ints]
    """`taken(states (B, T+1, P)) -> (B, D)`: the option that an episode took at each decision, -1 where none."""
    planned: Callable[[Array, Array], Ints]
    """`planned(states (B, P), chunks (B, H, A)) -> (B, D)`: the options that plans lead to, -1 where none."""
    path: Callable[[Array], Array]
    """`path(states (B, T+1, P)) -> (B, T+1, 2)`: two numbers that tell the ways apart, to draw many episodes."""
    axes: tuple[str, str] | None = None
    """What these are, with their units; None: places in the scene, which is drawn beneath."""


@dataclass(frozen=True)
class Yardstick:
    """A controller to compare with, which needs no training."""

    controllers: Callable[[Array], Sequence[Controller]]
    """`controllers(states (B, P))`: a controller of B episodes that are in these states; with `planned=False` it gets
    their starts `(B, Q)` instead, as `world.draw_starts` has drawn them."""
    planned: bool = True
    """Whether it plans in the true simulator, as often as a policy, and is executed open-loop as a policy's chunks are.
    Then there may be several controllers: the plan is the mean of theirs. Otherwise it acts in every step."""


def zero_action(action_dim: int) -> Yardstick:
    """Return the yardstick that never acts: it shows that a task is not trivial."""
    return Yardstick(lambda _states: [lambda _step, states: np.zeros((len(states), action_dim))], planned=False)


def unscored(_states: Array, _actions: Array) -> Columns:
    """Raise `SettingsError`: the `score` of a task that declares none."""
    raise SettingsError("score: expected a function that gives the columns of own_scores, found none.")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task. `simulate`, `observe` and the scores are pure: the same input gives the same output, bit for bit.

    Without a world it has no simulator: models train on its data and are judged by their plans from states of episodes
    that they were not trained on. Then its conditions and scores, if left out, are those of such plans.
    """

    name: str  # of files, folders and tags: letters, digits and "_"
    description: str  # one sentence
    observation: tuple[Channel, ...]
    action: tuple[Channel, ...]
    control_seconds: float  # of a control step
    horizon: int = HORIZON
    world: World | None = None
    conditions: tuple[Condition, ...] = ()  # of an evaluation, the hardest last
    own_scores: Scores = field(default_factory=dict)  # of `score`
    score: Callable[[Array, Array], Columns] = unscored
    """`score(states (B, T+1, P), actions (B, T, A)) -> columns (B,)` of all episodes, also those that end early."""
    episode_steps: int = 0
    pair_steps: tuple[int, ...] = ()  # the steps of a demonstration that start a chunk
    demonstration_steps: int = 0  # at least pair_steps[-1] + horizon
    demonstrator: Demonstrator | None = None
    ways: Ways | None = None
    yardsticks: Mapping[str, Yardstick] = field(default_factory=dict)
    end: str = "ended"  # what happened to an episode that ended early: "fell"
    scene: Callable[[Array, Array], Scene] | None = None
    """`scene(states (T+1, P), applied (T, A)) -> scene`: an episode as a drawing; `applied` are the actions with noise.
    None: no drawing."""

    def __post_init__(self) -> None:
        if self.world is None:
            parts = dict.fromkeys(Condition(0.0, max(1, self.horizon // part)) for part in PARTS)
            object.__setattr__(self, "conditions", self.conditions or tuple(parts))
            object.__setattr__(self, "own_scores", self.own_scores or OF_HELD_OUT)

    @property
    def simulator(self) -> World:
        """The world; raises `SettingsError` where there is none."""
        if self.world is None:
            raise self.unsimulated("nothing can be controlled in it")
        return self.world

    def unsimulated(self, why: str) -> SettingsError:
        """Return the error of what needs a simulator, where there is none."""
        return SettingsError(
            f"task: expected one with a simulator, found '{self.name}', which has none: {why}. Its models are judged "
            "by their plans, by 'python -m pipeline evaluate', 'ensemble' and 'report': see "
            "docs/how-to/without_a_simulator.md."
        )

    @cached_property
    def scores(self) -> Scores:
        """All scores: the task's own, those of its ways, and those of plans."""
        return {**self.own_scores, **(OF_WAYS if self.ways else {}), **OF_PLANS}

    @property
    def primary(self) -> str:
        """The name of the primary score."""
        return primary_of(self.own_scores)

    @property
    def state_dim(self) -> int:
        """S, the numbers of an observation."""
        return len(self.observation)

    @property
    def action_dim(self) -> int:
        """A, the numbers of an action."""
        return len(self.action)

    @cached_property
    def limits(self) -> Array:
        """The limits of each action `(A,)`, infinite where there is none."""
        return np.array([np.inf if channel.limit is None else channel.limit for channel in self.action])

    @property
    def longest_replan(self) -> int:
        """The longest replan interval of all conditions: what a policy must plan at least."""
        return max(condition.replan for condition in self.conditions)

    @property
    def middle_condition(self) -> Condition:
        """The middle one of all conditions, for a first check of control."""
        return self.conditions[len(self.conditions) // 2]

    @cached_property
    def digest(self) -> str:
        """The sha256 of what a model of the task depends on: channels, seconds of a step, and the physics."""
        channels = [[each.name, each.unit, each.limit] for each in (*self.observation, *self.action)]
        text = json.dumps([self.name, channels, len(self.action), self.control_seconds])
        physics = self.world.source if self.world else b""
        return sha256(text.encode() + physics).hexdigest()

    def applied(self, actions: Array, noise: Array) -> Array:
        """Return the applied actions: `actions (..., A)` plus `noise (..., A)`, within the limits."""
        return np.clip(actions + noise, -self.limits, self.limits)
