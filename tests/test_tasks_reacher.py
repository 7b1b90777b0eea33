"""The reacher: Gymnasium's physics bit for bit; its demonstrator, scores and sides of the elbow by hand."""

import gymnasium
import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.streams import numpy_stream
from pipeline.tasks.reacher import REACHER
from pipeline.tasks.reacher.demonstrator import solve_angles
from pipeline.tasks.reacher.scores import REST_STEPS, WAYS, score
from pipeline.tasks.reacher.world import (
    EPISODE_STEPS,
    LINKS,
    TARGET_DISTANCE,
    TOLERANCE,
    WORLD,
    draw_starts,
    fingertip,
    observe,
    target,
)
from pipeline.tasks.task import Array
from tests.episodes import demonstrate, primary_of_yardsticks


def hold(actions: Array, starts: Array) -> Array:
    states, _ = WORLD.simulate(lambda step, _: actions[:, step], starts, np.zeros_like(actions), 1)
    return states


def test_batch_equals_gymnasium_to_the_bit() -> None:
    generator = np.random.default_rng(3)
    starts, actions = draw_starts(generator, 4), generator.uniform(-1, 1, (4, 60, 2))
    starts[:, 4:6] = generator.uniform(-3, 3, (4, 2))
    actions[0, :, 1] = 0.3  # into the elbow's stop
    states = hold(actions, starts)
    assert states[0, -1, 1] > 2.99
    for episode in range(4):
        env = gymnasium.make("Reacher-v5").unwrapped
        env.reset(seed=0)
        env.set_state(starts[episode, :4], starts[episode, 4:])
        for step in range(60):
            observation, *_ = env.step(actions[episode, step])
            assert_array_equal(env.state_vector(), states[episode, step + 1])
            ours = observe(states[episode, step + 1])
            assert_array_equal(observation[:8], ours[:8])
            # Gymnasium's offset is that of RK4's last stage, before the step's end
            mujoco.mj_kinematics(env.model, env.data)
            offset = env.get_body_com("fingertip") - env.get_body_com("target")
            assert_allclose(ours[8:], offset[:2], atol=1e-14)


def test_return_is_gymnasiums() -> None:
    actions = np.random.default_rng(4).uniform(-0.1, 0.1, (1, 50, 2))
    starts = draw_starts(np.random.default_rng(5), 1)
    env = gymnasium.make("Reacher-v5").unwrapped
    env.reset(seed=0)
    env.set_state(starts[0, :4], starts[0, 4:])
    rewards = [env.step(action)[1] for action in actions[0]]
    assert_allclose(score(hold(actions, starts), actions)["return"], sum(rewards), rtol=1e-4)


def test_observation_by_hand() -> None:
    state = np.array([np.pi / 2, -np.pi / 2, 0.03, 0.04, 1.5, -2.5, 0, 0])
    assert_allclose(observe(state), [0, 0, 1, -1, 0.03, 0.04, 1.5, -2.5, 0.11 - 0.03, 0.1 - 0.04], atol=1e-15)
    assert observe(np.zeros((3, 5, 8))).shape == (3, 5, len(REACHER.observation))


def test_only_what_is_not_finite_ends_an_episode() -> None:
    states = np.zeros((3, 8))
    states[1, 4], states[2, 0] = np.nan, np.inf
    assert_array_equal(WORLD.ended(states), [False, True, True])


def test_starts_rest_and_targets_are_in_reach() -> None:
    starts = draw_starts(numpy_stream(0, "starts"), 2000)
    distance = np.linalg.norm(target(starts), axis=1)
    assert TARGET_DISTANCE[0] <= distance.min() < 0.062 and 0.158 < distance.max() <= TARGET_DISTANCE[1]
    assert (np.abs(starts[:, :2]) <= [0.5, 0.1]).all() and not starts[:, 4:].any()


@given(st.floats(0.011, 0.2), st.floats(-3, 3), st.sampled_from([1.0, -1.0]))
def test_solved_angles_put_the_fingertip_on_the_place(distance: float, direction: float, side: float) -> None:
    place = distance * np.array([[np.cos(direction), np.sin(direction)]])
    angles = solve_angles(place, np.array([side]))
    assert_allclose(fingertip(angles), place, atol=1e-12)
    elbow_above = np.sin(angles[0, 0] - direction) * LINKS[0]
    assert np.sign(elbow_above) == side == -np.sign(angles[0, 1])


def test_an_arm_between_both_answers_misses_every_target() -> None:
    places = target(draw_starts(numpy_stream(1, "starts"), 2000))
    between = sum(solve_angles(places, np.full(len(places), side)) for side in (1.0, -1.0)) / 2
    assert (np.linalg.norm(fingertip(between) - places, axis=1) > 2 * TOLERANCE).all()


def test_demonstrators_reach_and_rest_with_either_elbow() -> None:
    variation, states, actions = demonstrate(REACHER, 200)
    faults = REACHER.demonstrator.find_faults(states, actions)
    assert np.logical_or.reduce(list(faults.values())).mean() <= 0.02
    episodes = states[:, : EPISODE_STEPS + 1]
    assert score(episodes, actions[:, :EPISODE_STEPS])["on_target"].mean() > 0.98
    taken = WAYS.taken(episodes)
    assert_array_equal(taken[:, 0], np.where(variation[:, 0] > 0, 0, 1))
    assert 70 < taken.sum() < 130


def test_faulty_demonstrations_are_refused() -> None:
    _, states, actions = demonstrate(REACHER, 3)
    states[1, EPISODE_STEPS - REST_STEPS, 2] += 0.03  # the target is not reached in a second
    actions[2, -1, 0] = np.nan
    faults = REACHER.demonstrator.find_faults(states, actions)
    assert_array_equal(faults["off the target"], [False, True, False])
    assert_array_equal(faults["not finite"], [False, False, True])


def test_scores_by_hand() -> None:
    states = np.zeros((4, 101, 8))
    states[..., 2] = sum(LINKS)  # the arm is straight and its tip on the target
    states[1, :, 3] = 0.03
    states[1, 81:, 3] = 0.01  # within reach for the last 20
    states[2, 100, 3] = 0.05  # leaves with its last action
    states[3, 60, 3] = 0.03  # leaves once
    actions = np.zeros((4, 100, 2))
    actions[0, ::2, 0] = 0.5
    actions[1, 0] = [3.0, -3.0]  # the motors clip it
    scores = score(states, actions)
    assert_allclose(scores["on_target"], [1, 0.4, 0.98, 0.98])
    assert_array_equal(scores["reached"], [True, True, False, True])
    assert_allclose(scores["distance"], [0, (30 * 0.03 + 20 * 0.01) / 50, 0.05 / 50, 0.03 / 50], atol=1e-15)
    assert_array_equal(scores["arrival_step"], [0, 80, 100, 60])
    assert_allclose(scores["action_change"], [0.25, 1 / 99, 0, 0])
    assert_allclose(scores["return"], [-50 * 0.25, -2 - 80 * 0.03 - 20 * 0.01, -0.05, -0.03])
    assert scores.keys() == REACHER.own_scores.keys()


def test_sides_by_hand() -> None:
    states = np.zeros((4, 3, 8))
    states[:, -1, 1] = [-1.5, 1.5, 0.9, -0.9]
    assert_array_equal(WAYS.taken(states), [[0], [1], [-1], [-1]])
    assert_allclose(WAYS.path(states)[:, -1, 1], [1.5, -1.5, -0.9, 0.9])  # bent up is above 0
    states[..., 2:4] = [0.21, 0.0]
    assert_allclose(WAYS.path(states)[:, 0], [[0, 0]] * 4, atol=1e-12)


def test_a_plan_is_on_the_side_where_it_ends() -> None:
    variation, states, actions = demonstrate(REACHER, 20)
    planned = WAYS.planned(states[:, 0], actions[:, : REACHER.horizon])
    assert_array_equal(planned[:, 0], np.where(variation[:, 0] > 0, 0, 1))
    assert_array_equal(WAYS.planned(states[:, 0], np.zeros((20, 50, 2))), -1)


@pytest.mark.parametrize("threads", [2, 3])
def test_neither_threads_nor_company_change_the_bytes(threads: int) -> None:
    one, other = (demonstrate(REACHER, 7, each)[1:] for each in (1, threads))
    assert_array_equal(one[0], other[0])
    assert_array_equal(one[1], other[1])
    few = demonstrate(REACHER, 7, 1, keep=2)[1:]
    assert_array_equal(one[0][:2], few[0])


def test_pairs_cover_the_episode() -> None:
    last_plan = EPISODE_STEPS - min(condition.replan for condition in REACHER.conditions)
    assert REACHER.pair_steps[0] == 0 and last_plan <= REACHER.pair_steps[-1] < EPISODE_STEPS
    assert REACHER.demonstration_steps >= REACHER.pair_steps[-1] + REACHER.horizon


def test_the_scene_shows_the_arm_as_it_is() -> None:
    _, states, actions = demonstrate(REACHER, 1)
    scene = REACHER.scene(states[0, : EPISODE_STEPS + 1], actions[0, :EPISODE_STEPS])
    goal, arm = (next(each for each in scene.shapes if each.role == role) for role in ("goal", "body"))
    assert_allclose(np.linalg.norm(np.diff(arm.points, axis=1), axis=-1), np.tile(LINKS, (EPISODE_STEPS + 1, 1)))
    assert np.linalg.norm(arm.points[-1, -1] - goal.points[-1, 0]) < goal.size == TOLERANCE
    assert_allclose(scene.trace, arm.points[:, -1])
    assert all(len(each.points) in (1, EPISODE_STEPS + 1) for each in scene.shapes)


def test_yardsticks_are_in_order() -> None:
    on_target = primary_of_yardsticks(REACHER, 2, 40)
    assert on_target["demonstrator, closed loop"] > 0.98
    assert on_target["demonstrator, planned"] > 0.9
    assert on_target["mean of both sides"] < 0.05 and on_target["zero action"] < 0.05
