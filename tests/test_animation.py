"""Recorded episodes are the evaluated ones, and their animations play in real time."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from pipeline.evaluation.control import Episodes, draw_episodes, evaluate_planner
from pipeline.evaluation.record import Record, record_planner
from pipeline.methods.method import Plans
from pipeline.report.animation import AFTER_END, LAST_FRAME, animate_episode
from pipeline.report.stills import draw_still
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.pendulum.lqr import lqr
from pipeline.tasks.pendulum.scores import score
from pipeline.tasks.pendulum.world import EPISODE_STEPS, WORLD
from pipeline.tasks.task import Condition, Task
from tests.puck import PUCK, WITHOUT_SCENE, through

CONDITIONS = PENDULUM.conditions

HORIZON = 50


def planned_lqr(states: np.ndarray, *_where: object) -> Plans:
    """What the LQR would do from here without noise."""
    _, actions = WORLD.simulate(lqr, states, np.zeros((len(states), HORIZON, 1)), threads=1)
    return Plans(actions.astype(np.float32))


def nothing(states: np.ndarray, *_where: object) -> Plans:
    return Plans(np.zeros((len(states), HORIZON, 1), np.float32))


def push(states: np.ndarray, *_where: object) -> Plans:
    """Past the post, above it, in the made-up task of two action dimensions."""
    noise = np.zeros((len(states), PUCK.horizon, 2))
    _, actions = PUCK.world.simulate(through(np.full(len(states), 0.5)), states, noise, 1)
    return Plans(actions.astype(np.float32))


def into_the_post(states: np.ndarray, *_where: object) -> Plans:
    return Plans(np.tile(np.float32([2, 0]), (len(states), PUCK.horizon, 1)))


def record_one(
    planner=planned_lqr, condition: Condition = CONDITIONS[4], number: int = 1, task: Task = PENDULUM
) -> Record:
    return record_planner(planner, draw_episodes(task, [condition], 2, seed=0), [number], threads=1)[0]


def frames_of(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """The frames as RGB arrays, and for how many ms each is shown."""
    with Image.open(path) as image:
        frames, durations = [], []
        for number in range(image.n_frames):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGB")))
            durations.append(image.info["duration"])
        assert image.info["loop"] == 0
    return frames, durations


@pytest.mark.parametrize("planner", [planned_lqr, nothing])
def test_records_are_the_evaluated_episodes(planner) -> None:
    episodes = draw_episodes(PENDULUM, CONDITIONS[::4], 3, seed=2)
    evaluation = evaluate_planner(planner, episodes, 1)
    numbers = [7, 0, 4]
    for number, record in zip(numbers, record_planner(planner, episodes, numbers, 1), strict=True):
        for name, column in score(record.states[None], record.actions[None]).items():
            assert column[0] == evaluation.columns[name][number], name
        last = min(evaluation.columns["return"][number], EPISODE_STEPS - 1)  # the last step with a pole upright
        assert len(record.chunks) == last // episodes.replan[number] + 1
        assert record.chunks.shape[1:] == (HORIZON, 1)
        assert_array_equal(record.states[0], episodes.starts[number])
        assert_array_equal(record.noise, episodes.noise[number])
        assert_array_equal(record.asked, np.arange(len(record.asked)) * episodes.replan[number])


def test_a_record_has_the_plans_that_were_executed() -> None:
    record = record_one()
    for chunk, start, end in zip(record.chunks, record.taken, [*record.taken[1:], 100], strict=True):
        assert_array_equal(record.actions[start:end], chunk[: end - start])


def test_an_animation_plays_in_real_time_and_is_small(tmp_path: Path) -> None:
    path = tmp_path / "episode.gif"
    animate_episode(path, PENDULUM, "LQR", "noise ±0.03", record_one())
    frames, durations = frames_of(path)
    assert len(frames) == 101 and set(durations[:-1]) == {40} and durations[-1] == 1000 * LAST_FRAME
    assert path.stat().st_size < 500_000
    assert all((before != after).any() for before, after in pairwise(frames))


def test_the_same_episode_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, number in (("a", 0), ("b", 0), ("c", 1)):
        animate_episode(tmp_path / f"{name}.gif", PENDULUM, "LQR", "", record_one(number=number))
    a, b, c = ((tmp_path / f"{name}.gif").read_bytes() for name in "abc")
    assert a == b != c


def test_an_early_end_ends_the_animation(tmp_path: Path) -> None:
    record = record_one(nothing)
    steps = int(score(record.states[None], record.actions[None])["return"][0])
    assert steps < 60
    animate_episode(tmp_path / "fall.gif", PENDULUM, "nothing", "", record)
    assert len(frames_of(tmp_path / "fall.gif")[0]) == steps + 1 + AFTER_END + 1


@pytest.mark.parametrize("planner", [push, into_the_post])
def test_a_task_of_two_action_dimensions_moves_with_and_without_a_scene(planner, tmp_path: Path) -> None:
    record = record_one(planner, PUCK.conditions[-1], 0, PUCK)
    over = np.flatnonzero(PUCK.world.ended(record.states))
    sizes = {}
    for name, task in (("scene", PUCK), ("bare", WITHOUT_SCENE)):
        animate_episode(tmp_path / f"{name}.gif", task, "puck", "", record)
        frames, durations = frames_of(tmp_path / f"{name}.gif")
        assert len(frames) == (over[0] + AFTER_END if len(over) else PUCK.episode_steps) + 1 and durations[0] == 100
        sizes[name] = frames[0].shape[0]
    assert sizes["scene"] > sizes["bare"] + 250 and (len(over) > 0) == (planner is into_the_post)


def test_a_still_shows_several_positions(tmp_path: Path) -> None:
    record = record_one(push, PUCK.conditions[-1], 0, PUCK)
    draw_still(tmp_path / "still.png", PUCK, record)
    with Image.open(tmp_path / "still.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    dark = (pixels.max(2) < 60).any(0)  # the last position is dark, and the earlier ones are lighter
    grey = (np.ptp(pixels, axis=2) < 20) & (pixels.max(2) < 235)
    assert 10 < dark.sum() < 60 < grey.any(0).sum()
    with pytest.raises(ValueError, match="expected a task with a scene"):
        draw_still(tmp_path / "none.png", WITHOUT_SCENE, record)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_late_plan_shows(tmp_path: Path) -> None:
    """Where the old plan went on, the picture is another."""
    record = record_one()
    late = replace(record, taken=record.asked + np.arange(len(record.asked)).clip(0, 3))
    for name, each in (("on_time", record), ("late", late)):
        animate_episode(tmp_path / f"{name}.gif", PENDULUM, "LQR", "", each)
    on_time, waited = (frames_of(tmp_path / f"{name}.gif")[0] for name in ("on_time", "late"))
    assert (on_time[-1] != waited[-1]).any()


def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    """Between two dollars matplotlib would read a formula, and this is none."""
    title = "worth 5 $^$"
    animate_episode(tmp_path / "x.gif", PENDULUM, title, title, record_one())
    assert len(frames_of(tmp_path / "x.gif")[0]) == 101


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        animate_episode(tmp_path / "x.gif", PENDULUM, "", "", replace(record_one(), noise=np.zeros((3, 1))))
    assert not list(tmp_path.iterdir())


def test_evaluating_is_not_changed_by_recording() -> None:
    episodes: Episodes = draw_episodes(PENDULUM, CONDITIONS, 2, seed=0)
    before = evaluate_planner(planned_lqr, episodes, 1)
    record_planner(planned_lqr, episodes, [0], 1)
    after = evaluate_planner(planned_lqr, episodes, 1)
    assert all((before.columns[name] == after.columns[name]).all() for name in before.columns)
