"""A world from any registered Gymnasium id, and a task of what the environment tells of itself.

A start is the seed of a reset, `(B, 1)`: with equal starts all controllers meet the same episodes, whatever the
environment draws in its reset and afterwards. A state is the observation, then the step's reward, whether `info` told
`is_success`, and whether the episode is over: P = n + 3. It cannot be restored, so nothing can plan in this simulator:
yardsticks act in every step (`planned=False`).

The environments are a plain list that is stepped in a loop. Gymnasium's vector environments begin another episode when
one is over or, with that disabled, refuse to step on; those that use processes would be processes in each of our own.
"""

import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import RunError, SettingsError, one_line
from pipeline.tasks.score import Score
from pipeline.tasks.task import HORIZON, Array, Bools, Channel, Columns, Controller, Task, World

if TYPE_CHECKING:
    from gymnasium import Env

REWARD, SUCCESS, OVER = -3, -2, -1  # the numbers of a state after the observation
BESIDE = 3
MOST = 128  # environments side by side: one of MuJoCo's takes about 1 MB, and a process keeps as many
MOST_SEEDS = 2**31  # of resets
PAIRS = 25  # of a demonstration, spread over the episode

RETURN = {"return": Score("return", "return", "", 2, +1)}
SUCCESS_SCORES = {
    "success": Score("success", "success, share of episodes", "", 3, +1, binary=True, primary=True),
    **RETURN,
}


def gymnasium_world(env_id: str, options: Mapping[str, Any] | None = None) -> World:
    """Make the world of an id, `ID` or `MODULE:ID`, with `options` for `gymnasium.make`.

    Actions are clipped to the environment's space. After an episode's end the environment is not stepped: its state
    stays, with a reward of 0. Its own time limit does not count, as the task has one.

    The functions raise `SettingsError` for an id that is not registered, and where observation or action are no flat
    Box; `RunError` for an observation of another length.
    """
    make = partial(open_environment, env_id, options)
    idle: list[Env[Any, Any]] = []  # made once: a model's XML takes longer to read than an episode

    def borrow() -> "Env[Any, Any]":
        try:
            return idle.pop()  # one thread at a time has it
        except IndexError:
            return make()

    def simulate(controller: Controller, starts: Array, noise: Array, threads: int = 0) -> tuple[Array, Array]:
        batch_size, steps, action_dim = noise.shape
        environments = [borrow() for _ in range(batch_size)]
        space = environments[0].action_space
        low, high = space.low.reshape(-1), space.high.reshape(-1)  # type: ignore[attr-defined]
        size = environments[0].observation_space.shape[0]  # type: ignore[index]
        if action_dim != len(low):
            raise SettingsError(f"{env_id}: expected {len(low)} action channels, found {action_dim}.")
        states = np.zeros((batch_size, steps + 1, size + BESIDE))
        actions = np.empty((batch_size, steps, action_dim))
        for row, (environment, (seed,)) in enumerate(zip(environments, starts, strict=True)):
            states[row, 0, :size] = checked(env_id, environment.reset(seed=int(seed))[0], size)
        for step in range(steps):
            actions[:, step] = controller(step, states[:, step])
            applied = np.clip(actions[:, step] + noise[:, step], low, high).astype(space.dtype)
            states[:, step + 1] = states[:, step]
            states[:, step + 1, REWARD] = 0
            for row in np.flatnonzero(states[:, step, OVER] == 0).tolist():
                action = applied[row].reshape(space.shape)
                observation, reward, terminated, truncated, info = environments[row].step(action)
                states[row, step + 1, :size] = checked(env_id, observation, size)
                states[row, step + 1, size:] = reward, np.all(info.get("is_success", False)), terminated or truncated
        idle.extend(environments)
        return states, actions

    return World(
        draw_starts=draw_seeds,
        simulate=simulate,
        observe=lambda states: states[..., :-BESIDE],
        ended=over,
        source=json.dumps([env_id, dict(options or {})], sort_keys=True, default=as_json).encode(),
        most=MOST,
    )


def as_json(option: Any) -> Any:
    """Return arrays and numbers of NumPy as JSON has them. Raises `SettingsError` for what a digest cannot hold."""
    if isinstance(option, np.ndarray | np.generic):
        return option.tolist()
    raise SettingsError(
        f"options: expected numbers, texts and lists of them, by which data are known, found {type(option).__name__}. "
        "Register an id of Gymnasium's that has the object."
    )


def open_environment(env_id: str, options: Mapping[str, Any] | None = None) -> "Env[Any, Any]":
    """Make an environment without a time limit; raises `SettingsError`, see `gymnasium_world`."""
    import gymnasium  # slow to import, and few tasks need it

    try:
        made = gymnasium.make(env_id, max_episode_steps=-1, disable_env_checker=True, **(options or {}))
    except Exception as error:
        raise SettingsError(f"{env_id}: expected an environment of Gymnasium, found none: {one_line(error)}") from error
    for what, space in (("observations", made.observation_space), ("actions", made.action_space)):
        if not (isinstance(space, gymnasium.spaces.Box) and (len(space.shape) == 1 or what == "actions")):
            raise SettingsError(
                f"{env_id}: expected {what} in a flat Box, found {space}. Register it with a wrapper of Gymnasium's, "
                "such as FlattenObservation."
            )
    return made


def checked(env_id: str, observation: Any, size: int) -> Any:
    """Return an observation; raises `RunError` if it has another length than its space."""
    if np.shape(observation) != (size,):
        raise RunError(f"{env_id}: expected observations of {size} numbers, found the shape {np.shape(observation)}.")
    return observation


def observed(environment: "Env[Any, Any]") -> tuple[Channel, ...]:
    """Return the channels of its observation, `o0, o1, ...`."""
    (size,) = environment.observation_space.shape  # type: ignore[misc]
    return tuple(Channel(f"o{number}", f"observation {number}", "") for number in range(size))


def acted(environment: "Env[Any, Any]") -> tuple[Channel, ...]:
    """Return the channels of its action, `a0, a1, ...`; a limit is the larger of both bounds."""
    space: Any = environment.action_space
    bounds = np.maximum(np.abs(space.low), np.abs(space.high)).reshape(-1).tolist()
    limits = [bound if np.isfinite(bound) else None for bound in bounds]
    return tuple(Channel(f"a{number}", f"action {number}", "", limit) for number, limit in enumerate(limits))


def draw_seeds(generator: np.random.Generator, count: int) -> Array:
    """Draw seeds of resets, `(count, 1)`."""
    return generator.integers(0, MOST_SEEDS, (count, 1)).astype(np.float64)


def over(states: Array) -> Bools:
    """Tell for states `(..., P)` whether the episode is over: terminated, or truncated by more than a time limit."""
    return np.asarray(states[..., OVER] > 0)


def returns(states: Array) -> Array:
    """Return the sum of rewards of episodes `states (B, T+1, P)`: `(B,)`."""
    total: Array = states[..., REWARD].sum(1)
    return total


def succeeded(states: Array) -> Bools:
    """Tell for episodes `states (B, T+1, P)` whether the environment told `is_success` at any step: `(B,)`.

    So one counts that reaches its goal and leaves it again; `states[:, -1, SUCCESS]` tells of the last step.
    """
    return np.asarray((states[..., SUCCESS] > 0).any(1))


def gymnasium_task(env_id: str, options: Mapping[str, Any] | None = None, **chosen: Any) -> Task:
    """Make a task of what an environment tells, and of what is `chosen`: fields of `Task`, which come first.

    Told are: channels `o0, o1, ...` and `a0, a1, ...` with the limits of actions; the steps of an episode, if the id
    has a time limit; the seconds of a step, by the environment's `dt` or its rate of pictures; and, if it tells
    `is_success`, the scores success, the primary one, and return. To choose are at least the name, a description, the
    conditions, and what it does not tell.

    Raises `SettingsError`, see `gymnasium_world`, and `TypeError` for a field that is missing.
    """
    import gymnasium

    environment = open_environment(env_id, options)
    environment.reset(seed=0)
    *_, info = environment.step(np.zeros(environment.action_space.shape, environment.action_space.dtype))
    rate = environment.metadata.get("render_fps")
    seconds = getattr(environment.unwrapped, "dt", 1 / rate if rate else None)
    steps = chosen.get("episode_steps", gymnasium.spec(environment.spec.id).max_episode_steps)  # type: ignore[union-attr]
    told: dict[str, Any] = {
        "observation": observed(environment),
        "action": acted(environment),
        "world": gymnasium_world(env_id, options),
    }
    environment.close()
    if seconds:
        told["control_seconds"] = float(seconds)
    if steps:
        horizon = chosen.get("horizon", HORIZON)
        pair_steps = chosen.get("pair_steps", tuple(np.unique(np.linspace(0, steps - 1, PAIRS, dtype=int)).tolist()))
        told |= {"episode_steps": steps, "pair_steps": pair_steps}
        told["demonstration_steps"] = max(steps, pair_steps[-1] + horizon)
    if "is_success" in info:
        told |= {"own_scores": SUCCESS_SCORES, "score": _success_and_return}
    return Task(**(told | chosen))


def _success_and_return(states: Array, _actions: Array) -> Columns:
    return {"success": succeeded(states), "return": returns(states)}
