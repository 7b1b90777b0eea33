"""Avoiding: its geometry, demonstrator, scores and all 24 ways by hand."""

from dataclasses import replace
from itertools import product

import mujoco
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.evaluation.control import draw_episodes, evaluate_controller
from pipeline.evaluation.record import Record
from pipeline.report.animation import cut
from pipeline.stages.play import judge
from pipeline.streams import numpy_stream
from pipeline.tasks.avoiding import AVOIDING
from pipeline.tasks.avoiding.course import GAPS, follow, plan_course
from pipeline.tasks.avoiding.course import WAYS as ALL_WAYS
from pipeline.tasks.avoiding.scores import WAYS, path, score
from pipeline.tasks.avoiding.world import (
    EPISODE_STEPS,
    FINISH,
    POSTS,
    PUCK_RADIUS,
    RADII,
    ROWS,
    WORLD,
    XML_FILE,
    clearance,
    draw_starts,
    touching,
)
from pipeline.tasks.avoiding.yardsticks import nearest_gaps
from pipeline.tasks.task import Array
from tests.episodes import demonstrate, primary_of_yardsticks

OPTIONS = np.array(list(product(range(2), range(3), range(4))))


def rise(places: Array) -> Array:
    """Episodes `(B, 101, 4)` that rise from y = -0.28 to 0.42, straight between `places (B, 3)` at the rows."""
    heights = np.linspace(-0.28, 0.42, 101)
    states = np.zeros((len(places), 101, 4))
    for episode, x in enumerate(places):
        states[episode, :, 0] = np.interp(heights, [-0.28, *ROWS], [0.525, *x])
    states[..., 1] = heights
    return states


def test_the_model_holds_the_posts_that_are_avoided() -> None:
    model = mujoco.MjModel.from_xml_path(str(XML_FILE))
    posts = [geom for geom in map(model.geom, range(model.ngeom)) if geom.name.startswith("post")]
    expected = [(x, y, r) for y, row, r in zip(ROWS, POSTS, RADII, strict=True) for x in row]
    assert_allclose([(*post.pos[:2], post.size[0]) for post in posts], expected)
    assert model.geom("puck").size[0] == PUCK_RADIUS and model.geom("finish").pos[1] == FINISH


def test_the_puck_moves_by_its_force_alone() -> None:
    starts = np.array([[0.5, 0.0, 0, 0], [0.5, -0.1, 0, 0]])  # the second in the middle of a post: nothing pushes it
    actions = np.zeros((2, 25, 2))
    actions[0, :, 1] = 0.1  # 0.5 N on 1 kg, damping 1 N s/m, for 1 s
    states, _ = WORLD.simulate(lambda step, _: actions[:, step], starts, np.zeros_like(actions), 1)
    speed, lag = 0.5, 1.0  # m/s in the end, s
    expected = [0.5, speed * (1 - lag * (1 - np.exp(-1))), 0, speed * (1 - np.exp(-1))]
    assert_allclose(states[0, -1], expected, atol=1e-5)
    assert_array_equal(states[1, -1], starts[1])


def test_touching_is_told_to_the_width_of_the_puck() -> None:
    edge = 0.03 + PUCK_RADIUS
    states = np.zeros((5, 4))
    states[:, :2] = [
        (0.5 - edge - 1e-9, -0.1),
        (0.5 - edge + 1e-9, -0.1),
        (0.5, 0.26 + 0.0301),
        (0.5, 0.26 + 0.0299),
        (0, 0),
    ]
    states[4, 3] = np.nan
    assert_array_equal(touching(states), [False, True, False, True, True])
    assert_allclose(clearance(states[0]), 1e-9, atol=1e-12)


def test_starts_rest_before_the_first_row() -> None:
    starts = draw_starts(numpy_stream(0, "starts"), 500)
    assert (np.abs(starts[:, :2] - [0.525, -0.28]) <= [0.05, 0.02]).all() and not starts[:, 2:].any()


def test_all_24_ways_by_hand() -> None:
    taken = WAYS.taken(rise(ALL_WAYS))
    assert_array_equal(taken, np.where(clear(ALL_WAYS), OPTIONS, taken))  # straight between gaps some touch a post
    assert clear(ALL_WAYS).all(1).sum() >= 10
    courses = np.concatenate([follow_way(way) for way in ALL_WAYS])
    assert_array_equal(WAYS.taken(courses), OPTIONS)
    assert score(courses, np.zeros((24, 100, 2)))["success"].all()


def clear(ways: Array) -> Array:
    """Whether rows are passed before a straight course touches, `(B, 3)`: the first touch is above the row's reach."""
    states = rise(ways)
    touch = np.where(touching(states).any(1), states[0, touching(states).argmax(1), 1], np.inf)
    return touch[:, None] > ROWS + RADII + PUCK_RADIUS + 0.007


def follow_way(way: Array) -> Array:
    start = np.array([[0.525, -0.28, 0, 0]])
    states, _ = WORLD.simulate(follow(plan_course(start, way[None]), np.full(1, 0.27)), start, np.zeros((1, 100, 2)), 1)
    return states


def test_ways_end_where_the_puck_touches_a_post_or_stays() -> None:
    straight = rise(np.array([[0.575, 0.5, 0.51], [0.575, 0.5, 0.425], [0.49, 0.5, 0.425]]))
    straight[1, 60:] = straight[1, 60]  # y 0.14, between the second row and the third
    assert_array_equal(WAYS.taken(straight), [[1, 1, -1], [1, 1, -1], [-1, -1, -1]])
    assert_array_equal(WAYS.taken(straight[1:2, 40:]), [[-1, 1, -1]])  # y 0: the first row is behind


def test_scores_by_hand() -> None:
    way = [0.575, 0.5, 0.425]
    straight = rise(np.array([way, [0.575, 0.5, 0.51], way, way, [0.2, 0.2, 0.2]]))
    states = np.concatenate((straight, straight[:, -1:].repeat(20, 1)), 1)  # 120 steps
    states[2, 50:] = states[2, 50]  # y 0.07: stays in the middle gap of the second row
    states[3, 95:, :2] = [0.5, 0.26]  # touches after the finish
    states[4, :, 0] = 0.2  # far left of all
    actions = np.zeros((5, 120, 2))
    actions[0, :90:2, 0] = 0.5
    actions[1, 60, 0] = 9.0  # the motor clips it
    actions[1, 100:] = 1.0  # after the end
    scores = score(states, actions)
    assert_array_equal(scores["success"], [True, False, False, True, True])
    assert_array_equal(scores["untouched"], [True, False, True, True, True])
    assert_array_equal(scores["rows"], [3, 2, 1, 3, 3])
    assert_array_equal(scores["finish_step"], [91, 120, 120, 91, 91])
    assert scores["clearance"][1] < 0 < scores["clearance"][0] < 0.041
    assert_allclose(scores["clearance"][4], 0.35 - 0.2 - 0.03, atol=1e-5)
    touch = touching(states[1]).argmax()
    assert_allclose(scores["action_change"], [89 * 0.25 / 90, 2 * 0.5 / (touch - 1), 0, 0, 0])
    assert scores.keys() == AVOIDING.own_scores.keys()


def test_what_follows_a_success_is_not_told() -> None:
    """A puck that comes back to a post after the finish has succeeded, in words and in pictures."""
    straight = rise(np.array([[0.575, 0.5, 0.425]]))
    states = np.concatenate((straight, straight[:, -1:].repeat(20, 1)), 1)
    states[0, 105:, :2] = [0.5, 0.26]
    actions, plan = np.zeros((1, EPISODE_STEPS, 2)), np.zeros((1, 50, 2), np.float32)
    record = Record(states[0], actions[0], actions[0], plan, np.zeros(1, np.int64), np.zeros(1, np.int64))
    assert judge(AVOIDING, record)[0] == "succeeded; success 1.000; untouched 1.000"
    assert {said for said, _ in cut(AVOIDING, record).verdicts} == {"", "✓ success"}
    episodes = draw_episodes(AVOIDING, AVOIDING.conditions[:1], 1, seed=0)
    replay = replace(AVOIDING, world=replace(WORLD, simulate=lambda *_: (states, actions)))
    found = evaluate_controller(lambda _rows: lambda _step, states: states, replace(episodes, task=replay), 1)
    assert found.columns["success"].all() and found.paths is not None
    assert_allclose(found.paths[0], path(states)[0], rtol=1e-6)  # to the finish, without a cross

    states[0, 60:, :2] = [0.425, 0.08]  # before the finish
    assert judge(AVOIDING, record)[0] == "hit a post after 2.40 s; success 0.000; untouched 0.000"
    assert cut(AVOIDING, record).verdicts[-1][0] == "✗ hit a post at 2.40 s"


def test_the_finish_step_says_the_episodes_steps() -> None:
    assert AVOIDING.scores["finish_step"].unit == f"steps, {AVOIDING.episode_steps} without success"
    assert AVOIDING.episode_steps == 120


def test_demonstrators_pass_by_all_ways() -> None:
    variation, states, actions = demonstrate(AVOIDING, 200)
    faults = AVOIDING.demonstrator.find_faults(states, actions)
    assert np.logical_or.reduce(list(faults.values())).mean() <= 0.02
    episodes = states[:, : EPISODE_STEPS + 1]
    assert score(episodes, actions[:, :EPISODE_STEPS])["success"].mean() >= 0.98
    aimed = np.stack([np.abs(variation[:, [row]] - gaps).argmin(1) for row, gaps in enumerate(GAPS)], 1)
    taken = WAYS.taken(episodes)
    assert_array_equal(taken, np.where(taken < 0, -1, aimed))
    assert len(np.unique(taken, axis=0)) >= 24


def test_faulty_demonstrations_are_refused() -> None:
    _, states, actions = demonstrate(AVOIDING, 4)
    states[1, 40, :2] = [0.5, 0.26]
    states[2, :EPISODE_STEPS, 1] = np.minimum(states[2, :EPISODE_STEPS, 1], 0.34)
    actions[3, -1, 0] = np.nan
    faults = AVOIDING.demonstrator.find_faults(states, actions)
    assert_array_equal(faults["hit a post"], [False, True, False, False])
    assert_array_equal(faults["not at the finish"], [False, False, True, False])
    assert_array_equal(faults["not finite"], [False, False, False, True])


def test_a_plan_knows_the_rows_that_it_passes() -> None:
    _, states, actions = demonstrate(AVOIDING, 30)
    taken = WAYS.taken(states[:, : EPISODE_STEPS + 1])
    planned = WAYS.planned(states[:, 0], actions[:, : AVOIDING.horizon])
    assert (planned[:, 0] == taken[:, 0]).mean() > 0.9  # the first row is passed within a chunk, noise or not
    assert (planned[:, 2] == -1).mean() > 0.9
    later = WAYS.planned(states[:, 40], actions[:, 40 : 40 + AVOIDING.horizon])
    assert_array_equal(later[:, 0], -1)
    assert (later[:, 2] == taken[:, 2]).mean() > 0.9


def test_the_nearest_gaps_follow_the_heading() -> None:
    states = np.array([[0.53, -0.28, 0, 0], [0.47, -0.2, 0, 0.2], [0.44, 0, -0.3, 0.2], [0.6, 0.1, 0.3, 0.2]])
    gaps = nearest_gaps(states)
    assert_allclose(gaps[:2], [[0.6, 0.675, 0.75], [0.4, 0.325, 0.25]])
    assert_allclose(gaps[2, 1:], [0.325, 0.25])
    assert_allclose(gaps[3, 2], 0.75)


@pytest.mark.parametrize("threads", [2, 3])
def test_neither_threads_nor_company_change_the_bytes(threads: int) -> None:
    one, other = (demonstrate(AVOIDING, 7, each)[1:] for each in (1, threads))
    assert_array_equal(one[0], other[0])
    assert_array_equal(one[1], other[1])
    few = demonstrate(AVOIDING, 7, 1, keep=2)[1:]
    assert_array_equal(one[0][:2], few[0])


def test_pairs_cover_the_episode() -> None:
    last_plan = EPISODE_STEPS - min(condition.replan for condition in AVOIDING.conditions)
    assert AVOIDING.pair_steps[0] == 0 and last_plan <= AVOIDING.pair_steps[-1] < EPISODE_STEPS
    assert AVOIDING.demonstration_steps >= AVOIDING.pair_steps[-1] + AVOIDING.horizon


def test_the_scene_shows_posts_and_puck_with_the_space_between() -> None:
    _, states, actions = demonstrate(AVOIDING, 1)
    episode = states[0, : EPISODE_STEPS + 1]
    scene = AVOIDING.scene(episode, actions[0, :EPISODE_STEPS])
    posts = [each for each in scene.shapes if each.role == "obstacle"]
    (puck,) = (each for each in scene.shapes if each.role == "body")
    space = [np.linalg.norm(puck.points[:, 0] - post.points[0, 0], axis=1) - puck.size - post.size for post in posts]
    assert len(posts) == 6
    assert_allclose(np.min(space, axis=0), clearance(episode), atol=1e-12)
    assert all(len(each.points) in (1, EPISODE_STEPS + 1) for each in scene.shapes)


def test_a_path_ends_at_the_finish() -> None:
    states = np.zeros((2, 5, 4))
    states[..., 0] = [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]
    states[0, :, 1] = [FINISH - 0.1, FINISH, FINISH + 0.1, FINISH - 0.1, FINISH]  # it comes back
    found = WAYS.path(states)
    assert_array_equal(found[0], [[1, FINISH - 0.1], *[[2, FINISH]] * 4])
    assert_array_equal(found[1], states[1, :, :2])


def test_yardsticks_are_in_order() -> None:
    success = primary_of_yardsticks(AVOIDING, 2, 30)
    assert success["demonstrator, closed loop"] == 1
    assert success["demonstrator, planned"] > 0.9
    assert success["mean of all ways"] < 0.05 and success["zero action"] == 0
