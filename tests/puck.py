"""A made-up task with two action dimensions, an obstacle and two good ways around it, in NumPy alone, for tests.

A puck on a table is pushed from the left to the right of a post, above or below it.
State and observation: x, y in m, velocities in m/s.
"""

from dataclasses import replace

import numpy as np

from pipeline.tasks.scene import Scene, Shape
from pipeline.tasks.score import Score
from pipeline.tasks.task import (
    Array,
    Bools,
    Channel,
    Columns,
    Condition,
    Controller,
    Demonstrator,
    Ints,
    Task,
    Ways,
    World,
    Yardstick,
)

SECONDS, STEPS, HORIZON = 0.1, 40, 10
POST, GOAL = 0.15, np.array((1.0, 0.0))  # m


def draw_starts(generator: np.random.Generator, count: int) -> Array:
    return np.array((-1.0, 0, 0, 0)) + generator.uniform(-0.1, 0.1, (count, 4)) * (1, 1, 0, 0)


def simulate(controller: Controller, starts: Array, noise: Array, threads: int = 0) -> tuple[Array, Array]:
    count, steps, _ = noise.shape
    states, actions = np.empty((count, steps + 1, 4)), np.empty((count, steps, 2))
    states[:, 0] = starts
    for step in range(steps):
        actions[:, step] = controller(step, states[:, step])
        push = np.clip(actions[:, step] + noise[:, step], -2, 2)
        velocity = 0.8 * states[:, step, 2:] + SECONDS * push
        states[:, step + 1] = np.concatenate((states[:, step, :2] + SECONDS * velocity, velocity), 1)
    return states, actions


def ended(states: Array) -> Bools:
    return np.asarray(np.hypot(states[..., 0], states[..., 1]) < POST)


def score(states: Array, actions: Array) -> Columns:
    touched = np.asarray(ended(states).any(1))
    distance = np.hypot(*(states[:, -1, :2] - GOAL).T)
    return {
        "near": np.where(touched, 0, np.clip(1 - distance, 0, 1)),
        "success": np.logical_and(~touched, distance < 0.3),
        "effort": np.abs(actions).mean((1, 2)),
    }


def through(sides: Array) -> Controller:
    """Past the post at y = `sides (B,)`, then to the goal."""

    def act(_step: int, states: Array) -> Array:
        target = np.where((states[:, 0] < 0.1)[:, None], np.stack((0.2 + 0 * sides, sides), 1), GOAL)
        return np.clip(6 * (target - states[:, :2]) - 2 * states[:, 2:], -2, 2)

    return act


def taken(states: Array) -> Ints:
    passed = np.abs(states[..., 0]).argmin(1)
    height = states[np.arange(len(states)), passed, 1]
    return np.where(states[..., 0].max(1) > 0, (height > 0).astype(np.int64), -1)[:, None]


def planned(states: Array, chunks: Array) -> Ints:
    ahead, _ = simulate(lambda step, _states: chunks[:, step], states, np.zeros_like(chunks))
    return taken(ahead)


def scene(states: Array, applied: Array) -> Scene:
    at, push = states[:, None, :2], np.concatenate((applied, applied[-1:]))
    return Scene(
        shapes=(
            Shape("disc", "obstacle", np.zeros((1, 1, 2)), POST),
            Shape("disc", "goal", GOAL[None, None], 0.1),
            Shape("disc", "body", at, 0.06),
            Shape("line", "force", np.concatenate((at, at + 0.15 * push[:, None]), 1), 0.03),
        ),
        left=-1.3, right=1.3, bottom=-1.0, top=1.0, trace=states[:, :2],
    )  # fmt: skip


PUCK = Task(
    name="puck",
    description="Push a puck past a post.",
    observation=(
        Channel("x", "place along", "m"),
        Channel("y", "place across", "m"),
        Channel("vx", "speed along", "m/s"),
        Channel("vy", "speed across", "m/s"),
    ),
    action=(Channel("fx", "push along", "N", 2.0), Channel("fy", "push across", "N", 2.0)),
    control_seconds=SECONDS,
    episode_steps=STEPS,
    conditions=(Condition(0.02, 5), Condition(0.02, 10), Condition(0.1, 10)),
    own_scores={
        "near": Score("near", "nearness to the goal at the end", "", 3, +1, primary=True),
        "success": Score("success", "success, share of episodes that reach the goal", "", 3, +1, binary=True),
        "effort": Score("effort", "mean |push|", "N", 2, -1),
    },
    score=score,
    world=World(draw_starts=draw_starts, simulate=simulate, observe=lambda states: states, ended=ended, source=b"puck"),
    pair_steps=tuple(range(0, STEPS - HORIZON, 2)),
    demonstration_steps=STEPS,
    horizon=HORIZON,
    demonstrator=Demonstrator(
        draw_variation=lambda generator, count: generator.choice((-0.5, 0.5), (count, 1)),
        controller=lambda variation, _starts: through(variation[:, 0]),
        find_faults=lambda states, _actions: {"touched": ended(states).any(1)},
        action_noise=0.02,
    ),
    ways=Ways(
        decisions=(("below", "above"),),
        entropy=1.0,
        taken=taken,
        planned=planned,
        path=lambda states: states[..., :2],
    ),
    yardsticks={
        "above": Yardstick(lambda states: [through(np.full(len(states), 0.5))]),
        "mean of both": Yardstick(lambda states: [through(np.full(len(states), side)) for side in (-0.5, 0.5)]),
    },
    end="touched the post",
    scene=scene,
)
WITHOUT_SCENE = replace(PUCK, scene=None)
