"""What a task must hold to be used: a user's own is checked when it is found, those of the project by tests.

A short probe calls each function of the record: a few whole episodes, drawn by generators of its own.
Shapes: B episodes, T control steps, P state of the simulator, Q start, S observation, A action, D decisions.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingsError, UserError, one_line
from pipeline.streams import numpy_stream
from pipeline.tasks.registry import TASKS
from pipeline.tasks.scene import Scene
from pipeline.tasks.score import OF_PLANS, OF_WAYS, Score
from pipeline.tasks.task import (
    Array,
    Channel,
    Columns,
    Condition,
    Controller,
    Demonstrator,
    Task,
    Ways,
    World,
    Yardstick,
)

NAME = re.compile(r"[A-Za-z0-9_]{1,60}")  # of folders, files and registered models
COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")  # of scores: also of metrics
TAKEN = {*OF_WAYS, *OF_PLANS, "action_noise", "replan", "episode"}  # other columns of the same tables
LONGEST_CHANNEL = 200  # characters
EPISODES = 3  # of the probe
NUMBERS, BOOLS = "fiu", "b"  # kinds of arrays

R = TypeVar("R")


def check_task(task: Task) -> None:
    """Raise `SettingsError`, one line, for the first fault of a task: where, expected, found."""
    try:
        _call("its fields", _check_record, task)
        starts = _check_starts(task)
        states = _check_world(task, starts)
        _check_demonstrator(task, starts)
        _check_ways(task, states)
        _check_yardsticks(task, starts, states)
        _check_scene(task, states)
    except SettingsError as error:
        raise SettingsError(f"task '{task.name}': {error} See docs/how-to/own_task.md.") from error


def _require(good: bool, where: str, expected: str, found: object) -> None:
    if not good:
        raise SettingsError(f"{where}: expected {expected}, found {found}.")


def _call(where: str, function: Callable[..., R], *values: Any) -> R:
    """Call a function of the task; what it raises becomes one line."""
    try:
        return function(*values)
    except UserError as error:  # of a function that it calls
        raise SettingsError(one_line(error)) from error
    except Exception as error:
        raise SettingsError(f"{where}: {type(error).__name__}: {one_line(error)}.") from error


def _array(where: str, found: Any, shape: Sequence[int | None], kinds: str = NUMBERS, finite: bool = True) -> Array:
    """Return an array, checked; a size of None may be any."""
    expected = f"an array of the shape ({', '.join('any' if size is None else str(size) for size in shape)})"
    _require(isinstance(found, np.ndarray), where, expected, type(found).__name__)
    good = found.ndim == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, found.shape, strict=True)
    )
    _require(good, where, expected, found.shape)
    _require(found.dtype.kind in kinds, where, "True and False" if kinds == BOOLS else "numbers", found.dtype)
    _require(not finite or bool(np.isfinite(found).all()), where, "finite numbers", "NaN or infinity")
    array: Array = found
    return array


def _stream(name: str) -> np.random.Generator:
    return numpy_stream(0, "check", name)


def _check_record(task: Task) -> None:
    """Check what needs no simulation."""
    _require(isinstance(task.name, str) and bool(NAME.fullmatch(task.name)), "name", "letters, digits and _", task.name)
    own = task is not _registered(task.name)
    _require(not (own and task.name in TASKS), "name", f"another than the project's {', '.join(TASKS)}", task.name)
    for where, channels in (("observation", task.observation), ("action", task.action)):
        _all_are(Channel, where, channels)
        names = [channel.name for channel in channels]
        good = all(name.isprintable() and 0 < len(name) <= LONGEST_CHANNEL for name in names)
        _require(good and len(set(names)) == len(names), where, "different short names of channels", names)
        limits = [channel.limit for channel in channels if channel.limit is not None]
        _require(all(0 < limit < np.inf for limit in limits), where, "limits above 0, or None", limits)
    _require(0 < task.control_seconds < np.inf, "control_seconds", "seconds above 0", task.control_seconds)
    for where in ("episode_steps", "horizon", "demonstration_steps"):
        _whole(where, getattr(task, where), 1)
    _all_are(Condition, "conditions", task.conditions)
    for condition in task.conditions:
        _require(0 <= condition.action_noise < np.inf, "conditions", "noise of 0 or more", condition)
        _whole("conditions: replan", condition.replan, 1)
        good = condition.replan <= task.horizon
        _require(good, "conditions", f"replan intervals within the horizon {task.horizon}", condition)
    _require(len({*map(str, task.conditions)}) == len(task.conditions), "conditions", "different ones", "a repeat")
    _require(isinstance(task.own_scores, Mapping), "own_scores", "a table of scores", type(task.own_scores).__name__)
    _all_are(Score, "own_scores", [*task.own_scores.values()])
    for name in task.own_scores:
        good = isinstance(name, str) and bool(COLUMN.fullmatch(name)) and name not in TAKEN
        _require(good, "own_scores", f"names of letters, digits and _, other than {', '.join(sorted(TAKEN))}", name)
    primary = [name for name, score in task.own_scores.items() if score.primary]
    _require(len(primary) == 1, "own_scores", "one primary score", primary or "none")
    better = task.own_scores[primary[0]].better
    _require(better == 1, f"own_scores: {primary[0]}", "better=+1 of the primary score", better)
    steps = list(task.pair_steps)
    for step in steps:
        _whole("pair_steps", step, 0)
    _require(bool(steps) and steps == sorted({*steps}), "pair_steps", "increasing steps, 0 or more", steps)
    needed = max(task.episode_steps, steps[-1] + task.horizon)
    expected = f"at least {needed}: a whole episode, and a chunk from the last of pair_steps"
    _require(task.demonstration_steps >= needed, "demonstration_steps", expected, task.demonstration_steps)
    _require(isinstance(task.world, World), "world", "a World: no task goes without a simulator", task.world)
    _require(isinstance(task.world.source, bytes), "world.source", "bytes", type(task.world.source).__name__)
    if task.world.most is not None:
        _whole("world.most", task.world.most, 1)


def _registered(name: str) -> Task | None:
    from pipeline.tasks.registry import find_task

    return find_task(name) if name in TASKS else None


def _all_are(kind: type, where: str, values: Sequence[Any]) -> None:
    good = isinstance(values, Sequence) and len(values) > 0 and all(isinstance(each, kind) for each in values)
    _require(good, where, f"one or more of {kind.__name__}", values)


def _whole(where: str, value: Any, least: int) -> None:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= least
    _require(good, where, f"a whole number, {least} or more", value)


def _check_starts(task: Task) -> Array:
    where = "world.draw_starts"
    starts = _array(where, _call(where, task.world.draw_starts, _stream("starts"), EPISODES), (EPISODES, None))
    fewer = _call(where, task.world.draw_starts, _stream("starts"), EPISODES - 1)
    expected = "the same first starts of another count: draw row by row, as in uniform(low, high, (count, numbers))"
    _require(np.array_equal(starts[:-1], fewer), where, expected, "others")
    return starts


def _simulate(
    task: Task, whose: str, controller: Controller, starts: Array, steps: int, noise: Array | None = None
) -> tuple[Array, Array]:
    """Simulate a controller that is called `whose` in errors; the states and actions, checked."""
    given: list[Array] = []

    def watched(step: int, states: Array) -> Array:
        _require(step == len(given), "world.simulate", f"a call of the controller at step {len(given)}", step)
        given.append(_array(whose, _call(whose, controller, step, states), (len(starts), task.action_dim)).copy())
        return given[-1]

    noise = np.zeros((len(starts), steps, task.action_dim)) if noise is None else noise
    where = "world.simulate"
    found = _call(where, task.world.simulate, watched, starts, noise, 1)
    _require(isinstance(found, tuple) and len(found) == 2, where, "(states, actions)", type(found).__name__)
    states = _array(where, found[0], (len(starts), steps + 1, None), finite=False)
    actions = _array(where, found[1], (len(starts), steps, task.action_dim))
    _require(len(given) == steps, where, f"{steps} calls of the controller", len(given))
    _require(np.array_equal(actions, np.stack(given, 1)), where, "the controller's actions, without noise", "others")
    return states, actions


def _check_world(task: Task, starts: Array) -> Array:
    """Check simulation, observation, end and scores of random actions; returns the states."""
    world, steps = task.world, task.episode_steps
    largest = np.where(np.isfinite(task.limits), task.limits, 1.0)
    drawn = _stream("actions").uniform(-largest, largest, (len(starts), steps, task.action_dim))
    states, actions = _simulate(task, "controller", lambda step, _: drawn[:, step], starts, steps)
    over = _array("world.ended", _call("world.ended", world.ended, states), states.shape[:2], BOOLS)
    _require(not over[:, 0].any(), "world.ended", "no episode to begin at its end", "one that does")
    running = ~np.logical_or.accumulate(over, axis=1)
    _require(bool(np.isfinite(states[running]).all()), "world.simulate", "finite states up to the end", "NaN")
    observed = _observe(task, states)
    _require(bool(np.isfinite(observed[running]).all()), "world.observe", "finite numbers up to the end", "NaN")
    for step in (0, steps):
        alone = _observe(task, states[:, step])
        good = np.array_equal(alone, observed[:, step], equal_nan=True)
        _require(good, "world.observe", "the same of a state alone as among others", "others")
    zeros = np.zeros((1, task.action_dim))
    again, _ = _simulate(task, "controller", lambda _step, _states: zeros, starts[1:2], steps, drawn[1:2])
    expected = "the same states of an episode alone, whether its actions are the controller's or its noise"
    _require(np.array_equal(again, states[1:2], equal_nan=True), "world.simulate", expected, "others")
    among, by_itself = _check_scores(task, states, actions), _check_scores(task, states[1:2], actions[1:2])
    for name, column in among.items():
        expected, found = "the same of an episode alone as among others", by_itself[name][0]
        _require(column[1] == found, f"score: {name}", f"{expected}, {column[1]}", found)
    return states


def _observe(task: Task, states: Array) -> Array:
    found = _call("world.observe", task.world.observe, states)
    return _array("world.observe", found, (*states.shape[:-1], task.state_dim), finite=False)


def _check_scores(task: Task, states: Array, actions: Array) -> Columns:
    columns = _call("score", task.score, states, actions)
    _require(isinstance(columns, dict), "score", "columns by name", type(columns).__name__)
    good = columns.keys() == task.own_scores.keys()
    _require(good, "score", f"the columns of own_scores, {', '.join(task.own_scores)}", ", ".join(map(str, columns)))
    for name, score in task.own_scores.items():
        column = _array(f"score: {name}", columns[name], (len(states),), NUMBERS + BOOLS)
        if score.primary:
            good = bool((column >= 0).all() and (column <= 1).all())
            _require(good, f"score: {name}", "a primary score in [0, 1]", column.tolist())
        if score.binary:
            _require(bool(np.isin(column, (0, 1)).all()), f"score: {name}", "0 or 1", column.tolist())
    return columns


def _check_demonstrator(task: Task, starts: Array) -> None:
    if (demonstrator := task.demonstrator) is None:
        return
    _require(isinstance(demonstrator, Demonstrator), "demonstrator", "a Demonstrator, or None", demonstrator)
    where = "demonstrator.draw_variation"
    variation = _call(where, demonstrator.draw_variation, _stream("variation"), len(starts))
    _array(where, variation, (len(starts), None))
    where = "demonstrator.controller"
    controller = _call(where, demonstrator.controller, variation, starts)
    states, actions = _simulate(task, where, controller, starts, task.demonstration_steps)
    steps = task.episode_steps
    _check_scores(task, states[:, : steps + 1], actions[:, :steps])
    where = "demonstrator.find_faults"
    faults = _call(where, demonstrator.find_faults, states[:, :-1], actions)
    _require(isinstance(faults, Mapping), where, "a table of faults", type(faults).__name__)
    for name, found in faults.items():
        _array(f"{where}: {name}", found, (len(starts),), BOOLS)
    noise = demonstrator.action_noise
    _require(0 <= noise < np.inf, "demonstrator.action_noise", "0 or more", noise)


def _check_ways(task: Task, states: Array) -> None:
    if (ways := task.ways) is None:
        return
    _require(isinstance(ways, Ways) and len(ways.decisions) > 0, "ways.decisions", "one or more decisions", "none")
    _require(0 < ways.entropy < np.inf, "ways.entropy", "bits above 0", ways.entropy)
    chunks = np.zeros((len(states), task.horizon, task.action_dim))
    _check_options("ways.taken", _call("ways.taken", ways.taken, states), ways, len(states))
    _check_options("ways.planned", _call("ways.planned", ways.planned, states[:, 0], chunks), ways, len(states))
    _array("ways.path", _call("ways.path", ways.path, states), (*states.shape[:2], 2), finite=False)


def _check_options(where: str, found: NDArray[Any], ways: Ways, count: int) -> None:
    options = _array(where, found, (count, len(ways.decisions)), "i")
    good = bool((options >= -1).all() and (options < [len(names) for names in ways.decisions]).all())
    _require(good, where, "numbers of options, or -1", options.tolist())


def _check_yardsticks(task: Task, starts: Array, states: Array) -> None:
    for name, yardstick in task.yardsticks.items():
        where = f"yardsticks: {name}"
        _require(isinstance(yardstick, Yardstick), where, "a Yardstick", type(yardstick).__name__)
        good = not yardstick.planned or starts.shape[1] == states.shape[2]
        _require(good, where, "planned=False, where a state cannot be a start", "a yardstick that plans")
        controllers = _call(where, yardstick.controllers, starts)
        good = len(controllers) > 0 if yardstick.planned else len(controllers) == 1
        _require(good, where, "one or more controllers" if yardstick.planned else "one controller", len(controllers))
        for controller in controllers:
            _simulate(task, where, controller, starts, task.horizon)


def _check_scene(task: Task, states: Array) -> None:
    if task.scene is None:
        return
    applied = np.zeros((states.shape[1] - 1, task.action_dim))
    scene = _call("scene", task.scene, states[0], applied)
    _require(isinstance(scene, Scene), "scene", "a Scene", type(scene).__name__)
    for shape in scene.shapes:
        points = _array("scene: points", shape.points, (None, None, 2), finite=False)
        good = len(points) in (1, states.shape[1])
        _require(good, "scene: points", f"1 or {states.shape[1]} positions of a shape", len(points))
