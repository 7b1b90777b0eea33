"""Closed-loop control: a planner drives the pendulum by chunks, executed open-loop between replans."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.env.pendulum import ACTION_DIM, EPISODE_STEPS, Array, draw_starts, simulate
from pipeline.env.scores import Scores, score
from pipeline.streams import numpy_stream

Plan = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""`plan(states (B, S)) -> actions (B, H, A)`; the first `replan` actions are executed."""


def run_episodes(plan: Plan, seed: int, episodes: int, action_noise: float, replan: int, threads: int = 0) -> Scores:
    """Score episodes with uniform noise of +-`action_noise` on each action and a plan every `replan` steps.

    Starts and noise come from `seed` alone, so every planner meets the same episodes.
    """
    starts = draw_starts(numpy_stream(seed, "episodes", "starts"), episodes)
    shape = (episodes, EPISODE_STEPS, ACTION_DIM)
    noise = action_noise * numpy_stream(seed, "episodes", "noise").uniform(-1, 1, shape)
    chunk = np.empty((episodes, 0, ACTION_DIM), np.float32)

    def controller(step: int, states: Array) -> Array:
        nonlocal chunk
        if step % replan == 0:
            chunk = plan(states.astype(np.float32))
        return chunk[:, step % replan].astype(np.float64)

    states, _ = simulate(controller, starts, noise, threads)
    return score(states[:, :EPISODE_STEPS])
