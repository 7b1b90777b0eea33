"""What a task must hold to be used: a user's own is checked when it is found, those of the project by tests.

A short probe calls each function of the record: a few whole episodes, drawn by generators of its own.
Shapes: B episodes, T control steps, P state of the simulator, Q start, S observation, A action, D decisions.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingsError
from pipeline.streams import numpy_stream
from pipeline.tasks.check_record import call, check_record, require
from pipeline.tasks.scene import Scene
from pipeline.tasks.task import Array, Columns, Controller, Demonstrator, Task, Ways, Yardstick

EPISODES = 3  # of the probe
NUMBERS, BOOLS = "fiu", "b"  # kinds of arrays


def check_task(task: Task) -> None:
    """Raise `SettingsError`, one line, for the first fault of a task: where, expected, found."""
    try:
        check_record(task)
        if task.world is None:
            return
        starts = _check_starts(task)
        states = _check_world(task, starts)
        _check_demonstrator(task, starts)
        _check_ways(task, states)
        _check_yardsticks(task, starts, states)
        _check_scene(task, states)
    except SettingsError as error:
        raise SettingsError(f"task '{task.name}': {error} See docs/how-to/own_task.md.") from error


def _array(where: str, found: Any, shape: Sequence[int | None], kinds: str = NUMBERS, finite: bool = True) -> Array:
    """Return an array, checked; a size of None may be any."""
    expected = f"an array of the shape ({', '.join('any' if size is None else str(size) for size in shape)})"
    require(isinstance(found, np.ndarray), where, expected, type(found).__name__)
    good = found.ndim == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, found.shape, strict=True)
    )
    require(good, where, expected, found.shape)
    require(found.dtype.kind in kinds, where, "True and False" if kinds == BOOLS else "numbers", found.dtype)
    require(not finite or bool(np.isfinite(found).all()), where, "finite numbers", "NaN or infinity")
    array: Array = found
    return array


def _stream(name: str) -> np.random.Generator:
    return numpy_stream(0, "check", name)


def _check_starts(task: Task) -> Array:
    where = "world.draw_starts"
    starts = _array(where, call(where, task.simulator.draw_starts, _stream("starts"), EPISODES), (EPISODES, None))
    fewer = call(where, task.simulator.draw_starts, _stream("starts"), EPISODES - 1)
    expected = "the same first starts of another count: draw row by row, as in uniform(low, high, (count, numbers))"
    require(np.array_equal(starts[:-1], fewer), where, expected, "others")
    return starts


def _simulate(
    task: Task, whose: str, controller: Controller, starts: Array, steps: int, noise: Array | None = None
) -> tuple[Array, Array]:
    """Simulate a controller that is called `whose` in errors; the states and actions, checked."""
    given: list[Array] = []

    def watched(step: int, states: Array) -> Array:
        require(step == len(given), "world.simulate", f"a call of the controller at step {len(given)}", step)
        given.append(_array(whose, call(whose, controller, step, states), (len(starts), task.action_dim)).copy())
        return given[-1]

    noise = np.zeros((len(starts), steps, task.action_dim)) if noise is None else noise
    where = "world.simulate"
    found = call(where, task.simulator.simulate, watched, starts, noise, 1)
    require(isinstance(found, tuple) and len(found) == 2, where, "(states, actions)", type(found).__name__)
    states = _array(where, found[0], (len(starts), steps + 1, None), finite=False)
    actions = _array(where, found[1], (len(starts), steps, task.action_dim))
    require(len(given) == steps, where, f"{steps} calls of the controller", len(given))
    require(np.array_equal(actions, np.stack(given, 1)), where, "the controller's actions, without noise", "others")
    return states, actions


def _check_world(task: Task, starts: Array) -> Array:
    """Check simulation, observation, end and scores of random actions; returns the states."""
    world, steps = task.simulator, task.episode_steps
    largest = np.where(np.isfinite(task.limits), task.limits, 1.0)
    drawn = _stream("actions").uniform(-largest, largest, (len(starts), steps, task.action_dim))
    states, actions = _simulate(task, "controller", lambda step, _: drawn[:, step], starts, steps)
    over = _array("world.ended", call("world.ended", world.ended, states), states.shape[:2], BOOLS)
    require(not over[:, 0].any(), "world.ended", "no episode to begin at its end", "one that does")
    running = ~np.logical_or.accumulate(over, axis=1)
    require(bool(np.isfinite(states[running]).all()), "world.simulate", "finite states up to the end", "NaN")
    observed = _observe(task, states)
    require(bool(np.isfinite(observed[running]).all()), "world.observe", "finite numbers up to the end", "NaN")
    for step in (0, steps):
        alone = _observe(task, states[:, step])
        good = np.array_equal(alone, observed[:, step], equal_nan=True)
        require(good, "world.observe", "the same of a state alone as among others", "others")
    zeros = np.zeros((1, task.action_dim))
    again, _ = _simulate(task, "controller", lambda _step, _states: zeros, starts[1:2], steps, drawn[1:2])
    expected = "the same states of an episode alone, whether its actions are the controller's or its noise"
    require(np.array_equal(again, states[1:2], equal_nan=True), "world.simulate", expected, "others")
    _check_limits(task, starts[1:2], largest)
    among, by_itself = _check_scores(task, states, actions), _check_scores(task, states[1:2], actions[1:2])
    for name, column in among.items():
        expected, found = "the same of an episode alone as among others", by_itself[name][0]
        require(column[1] == found, f"score: {name}", f"{expected}, {column[1]}", found)
    return states


def _check_limits(task: Task, starts: Array, largest: Array) -> None:
    """Check that the world applies no action beyond its limit."""
    beyond = np.where(np.isfinite(task.limits), 2 * largest, largest)
    at, over = (
        _simulate(task, "controller", partial(_constant, actions[None]), starts, task.horizon)[0]
        for actions in (largest, beyond)
    )
    expected = "twice the limit of an action to act as the limit does: clip it there (in MuJoCo, by ctrlrange)"
    require(np.array_equal(at, over, equal_nan=True), "world.simulate", expected, "other states")


def _constant(actions: Array, _step: int, _states: Array) -> Array:
    return actions


def _observe(task: Task, states: Array) -> Array:
    found = call("world.observe", task.simulator.observe, states)
    return _array("world.observe", found, (*states.shape[:-1], task.state_dim), finite=False)


def _check_scores(task: Task, states: Array, actions: Array) -> Columns:
    columns = call("score", task.score, states, actions)
    require(isinstance(columns, dict), "score", "columns by name", type(columns).__name__)
    good = columns.keys() == task.own_scores.keys()
    require(good, "score", f"the columns of own_scores, {', '.join(task.own_scores)}", ", ".join(map(str, columns)))
    for name, score in task.own_scores.items():
        column = _array(f"score: {name}", columns[name], (len(states),), NUMBERS + BOOLS)
        if score.primary:
            good = bool((column >= 0).all() and (column <= 1).all())
            require(good, f"score: {name}", "a primary score in [0, 1]", column.tolist())
        if score.binary:
            require(bool(np.isin(column, (0, 1)).all()), f"score: {name}", "0 or 1", column.tolist())
    return columns


def _check_demonstrator(task: Task, starts: Array) -> None:
    if (demonstrator := task.demonstrator) is None:
        return
    require(isinstance(demonstrator, Demonstrator), "demonstrator", "a Demonstrator, or None", demonstrator)
    where = "demonstrator.draw_variation"
    variation = call(where, demonstrator.draw_variation, _stream("variation"), len(starts))
    _array(where, variation, (len(starts), None))
    where = "demonstrator.controller"
    controller = call(where, demonstrator.controller, variation, starts)
    states, actions = _simulate(task, where, controller, starts, task.demonstration_steps)
    steps = task.episode_steps
    _check_scores(task, states[:, : steps + 1], actions[:, :steps])
    where = "demonstrator.find_faults"
    faults = call(where, demonstrator.find_faults, states[:, :-1], actions)
    require(isinstance(faults, Mapping), where, "a table of faults", type(faults).__name__)
    for name, found in faults.items():
        _array(f"{where}: {name}", found, (len(starts),), BOOLS)
    noise = demonstrator.action_noise
    require(0 <= noise < np.inf, "demonstrator.action_noise", "0 or more", noise)


def _check_ways(task: Task, states: Array) -> None:
    if (ways := task.ways) is None:
        return
    require(isinstance(ways, Ways) and len(ways.decisions) > 0, "ways.decisions", "one or more decisions", "none")
    require(0 < ways.entropy < np.inf, "ways.entropy", "bits above 0", ways.entropy)
    chunks = np.zeros((len(states), task.horizon, task.action_dim))
    _check_options("ways.taken", call("ways.taken", ways.taken, states), ways, len(states))
    _check_options("ways.planned", call("ways.planned", ways.planned, states[:, 0], chunks), ways, len(states))
    _array("ways.path", call("ways.path", ways.path, states), (*states.shape[:2], 2), finite=False)


def _check_options(where: str, found: NDArray[Any], ways: Ways, count: int) -> None:
    options = _array(where, found, (count, len(ways.decisions)), "i")
    good = bool((options >= -1).all() and (options < [len(names) for names in ways.decisions]).all())
    require(good, where, "numbers of options, or -1", options.tolist())


def _check_yardsticks(task: Task, starts: Array, states: Array) -> None:
    for name, yardstick in task.yardsticks.items():
        where = f"yardsticks: {name}"
        require(isinstance(yardstick, Yardstick), where, "a Yardstick", type(yardstick).__name__)
        good = not yardstick.planned or starts.shape[1] == states.shape[2]
        require(good, where, "planned=False, where a state cannot be a start", "a yardstick that plans")
        controllers = call(where, yardstick.controllers, starts)
        good = len(controllers) > 0 if yardstick.planned else len(controllers) == 1
        require(good, where, "one or more controllers" if yardstick.planned else "one controller", len(controllers))
        for controller in controllers:
            _simulate(task, where, controller, starts, task.horizon)


def _check_scene(task: Task, states: Array) -> None:
    if task.scene is None:
        return
    applied = np.zeros((states.shape[1] - 1, task.action_dim))
    scene = call("scene", task.scene, states[0], applied)
    require(isinstance(scene, Scene), "scene", "a Scene", type(scene).__name__)
    for shape in scene.shapes:
        points = _array("scene: points", shape.points, (None, None, 2), finite=False)
        good = len(points) in (1, states.shape[1])
        require(good, "scene: points", f"1 or {states.shape[1]} positions of a shape", len(points))
