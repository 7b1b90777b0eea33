"""The swing up: the pendulum's physics with a free hinge, its demonstrator, its ways, and its scores by hand."""

import mujoco
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.tasks.pendulum.world import WORLD as PENDULUM
from pipeline.tasks.pendulum.world import draw_starts as pendulum_starts
from pipeline.tasks.registry import find_task
from pipeline.tasks.swing_up import demonstrator as by_hand
from pipeline.tasks.swing_up.demonstrator import swinger
from pipeline.tasks.swing_up.world import ACTION_LIMIT, HANGING, WORLD, XML_FILE, wrapped
from pipeline.tasks.task import Array
from tests.episodes import demonstrate, primary_of_yardsticks

TASK = find_task("swing_up")
assert TASK.demonstrator is not None and TASK.ways is not None
DEMONSTRATOR, WAYS = TASK.demonstrator, TASK.ways


def test_upright_it_is_the_pendulum_to_the_bit() -> None:
    generator = np.random.default_rng(3)
    starts, actions = pendulum_starts(generator, 4), generator.uniform(-2, 2, (4, 8, 1))
    ours, _ = WORLD.simulate(lambda step, _: actions[:, step], starts, np.zeros_like(actions), 1)
    theirs, _ = PENDULUM.simulate(lambda step, _: actions[:, step], starts, np.zeros_like(actions), 1)
    assert np.abs(theirs[..., 1]).max() < np.pi / 2  # before its hinge's stop
    assert_array_equal(ours, theirs)


def test_the_demonstrator_knows_the_model() -> None:
    model = mujoco.MjModel.from_xml_path(str(XML_FILE))
    data, mass = mujoco.MjData(model), np.zeros((2, 2))
    mujoco.mj_forward(model, data)
    mujoco.mj_fullM(model, data, mass)
    assert_allclose(mass[0, 0], by_hand.TOTAL_MASS, rtol=1e-5)
    assert_allclose(mass[0, 1], by_hand.MOMENT, rtol=1e-5)
    assert_allclose(mass[1, 1], by_hand.INERTIA, rtol=1e-5)
    assert_allclose(by_hand.MOMENT * 9.81, by_hand.WEIGHT, rtol=1e-5)
    assert_array_equal(model.dof_damping, by_hand.FRICTION)
    assert model.actuator_gear[0, 0] == by_hand.UNIT and model.actuator_ctrlrange[0, 1] == ACTION_LIMIT


def test_one_push_and_one_back_do_not_raise_the_pole() -> None:
    turns = np.arange(28)[:, None]  # 28 steps: the cart is not yet at the end of the rail

    def push(step: int, _states: Array) -> Array:
        return np.where(step < turns, ACTION_LIMIT, -ACTION_LIMIT)

    states, _ = WORLD.simulate(push, np.tile(HANGING, (28, 1)), np.zeros((28, 28, 1)), 1)
    assert np.abs(states[..., 0]).max() < 10
    assert 2 < np.abs(states[..., 1] - np.pi).max() < 2.5


def test_observe_by_hand() -> None:
    states = np.array([[1.0, np.pi / 6, 3, 4], [1.0, np.pi / 6 + 4 * np.pi, 3, 4]])
    assert_allclose(WORLD.observe(states), [[1, 0.5, np.sqrt(0.75), 3, 4]] * 2, atol=1e-14)
    assert len(TASK.observation) == 5


def test_an_episode_ends_only_in_what_is_not_finite() -> None:
    states = np.array([[9.0, 100, 50, 50], [np.nan, 0, 0, 0], [0, 0, -np.inf, 0]])
    assert_array_equal(WORLD.ended(states), [False, True, True])


def test_angles_are_wrapped_around_upright() -> None:
    assert_allclose(wrapped(np.array([0, 3, 4, -4, 7])), [0, 3, 4 - 2 * np.pi, 2 * np.pi - 4, 7 - 2 * np.pi])


def test_the_demonstrator_succeeds_without_what_is_refused_and_in_all_ways() -> None:
    variation, states, actions = demonstrate(TASK, 200)
    faults = DEMONSTRATOR.find_faults(states, actions)
    assert np.logical_or.reduce(list(faults.values())).mean() <= 0.02
    scores = TASK.score(states[:, : TASK.episode_steps + 1], actions[:, : TASK.episode_steps])
    assert scores["success"].mean() >= 0.98 and scores["calm"].mean() > 0.2  # with much noise
    assert np.abs(states[..., 0]).max() < 5  # far from the rail's ends
    ways = WAYS.taken(states)
    assert_array_equal(ways[:, 0], variation[:, 0] < 0)  # a push to the right swings the pole to the left
    shares = np.unique(ways, axis=0, return_counts=True)[1] / len(ways)
    assert len(shares) == 4 and abs(-(shares * np.log2(shares)).sum() - WAYS.entropy) < 0.15


def test_faulty_demonstrations_are_refused() -> None:
    states, actions = np.zeros((4, TASK.demonstration_steps, 4)), np.zeros((4, TASK.demonstration_steps, 1))
    states[0, :, 1] = 2 * np.pi  # upright, after a turn
    states[1, -30, 1] = 0.6
    states[2, 10, 2] = np.inf
    actions[3, 7] = np.nan
    faults = DEMONSTRATOR.find_faults(states, actions)
    assert_array_equal(faults["not up"], [False, True, False, False])
    assert_array_equal(faults["not finite"], [False, False, True, True])


def test_neither_threads_nor_company_change_a_bit() -> None:
    many, again = demonstrate(TASK, 9), demonstrate(TASK, 9, threads=3)
    few = demonstrate(TASK, 9, keep=2)
    for one, two, three in zip(many, again, few, strict=True):
        assert_array_equal(one, two)
        assert_array_equal(one[:2], three)


def test_scores_by_hand() -> None:
    states, actions = np.zeros((4, 176, 4)), np.zeros((4, 175, 1))
    states[:, :40, 1] = np.pi
    states[0, 100:125, 1] = 0.03
    states[1, :, 1] = np.pi  # never up
    states[1, 175, 1] = 0  # but for the state after the last action
    states[2, 40:, 1] = -2 * np.pi  # up after a turn
    states[2, 60:70, 1] = -2 * np.pi + 0.6  # fell again
    states[2, 150, 1] = -2 * np.pi - 0.6
    states[2, :, 0] = -2
    states[3, 100:] = np.nan
    actions[0, ::2] = 0.5
    actions[1, 1] = 7.0  # the motor clips it
    actions[3, 110:] = np.arange(65)[:, None]
    scores = TASK.score(states, actions)
    assert_allclose(scores["calm"], [2 / 3, 0, 74 / 75, 0])
    assert_array_equal(scores["success"], [True, False, False, False])
    assert_array_equal(scores["rise_step"], [40, 175, 40, 40])
    assert_array_equal(scores["falls"], [0, 0, 2, 1])
    assert_allclose(scores["position"], [0, 0, 2, 0])
    assert_allclose(scores["action_change"], [0.5, 4 / 174, 0, 0])
    assert scores.keys() == TASK.own_scores.keys() and TASK.primary == "calm"
    assert all(np.isfinite(column).all() for column in scores.values())


def test_ways_by_hand() -> None:
    states = np.zeros((4, 6, 4))
    turn = np.pi
    states[0, :, 1] = turn + np.array([0, 0.4, 0.6, -0.6, -2.5, -3])  # left first, up on the right
    states[1, :, 1] = turn + np.array([0, -0.6, 0.9, 2, 2.7, 3.3])  # right first, up on the left, over to the right
    states[2, :, 1] = turn + np.array([0, 0.1, -0.4, 0.3, 0.2, 0.1])  # hangs
    states[3, :, 1] = 0.1  # begins upright
    assert_array_equal(WAYS.taken(states), [[0, 1], [1, 0], [-1, -1], [1, 1]])


def test_plans_lead_to_ways() -> None:
    sides = np.array([[-1.0, 13], [1.0, 13]])
    hanging = np.repeat(HANGING[None], 2, 0)
    states, actions = WORLD.simulate(swinger(sides), hanging, np.zeros((2, 100, 1)), 1)
    ways = WAYS.taken(states)
    assert_array_equal(ways, 1 - ways[::-1])  # the world is the same on both sides, but for the pole's tilt
    assert_array_equal(ways[:, 0], [1, 0])

    def plan_at(step: int) -> Array:
        return WAYS.planned(states[:, step], actions[:, step : step + 50])

    assert_array_equal(plan_at(0)[:, 0], ways[:, 0])
    assert_array_equal(plan_at(12)[:, 0], -1)  # it swings already
    up = int(TASK.score(states, actions)["rise_step"].max())
    assert_array_equal(plan_at(up - 15)[:, 1], ways[:, 1])
    assert_array_equal(plan_at(up + 1), -1)
    assert_array_equal(WAYS.planned(hanging, np.zeros((2, 50, 1))), -1)


def test_yardsticks_are_in_order_and_the_mean_of_both_sides_fails() -> None:
    calm = primary_of_yardsticks(TASK, 3, 20)
    assert 0.4 < calm["demonstrator, planned"] < 0.7 < calm["demonstrator, closed loop"] < 0.95
    assert calm["mean of both sides, planned"] == calm["zero action"] == 0


def test_pairs_cover_the_whole_episode() -> None:
    assert TASK.pair_steps[0] == 0 and TASK.pair_steps[-1] > TASK.episode_steps - 12 and len(TASK.pair_steps) <= 30
    assert TASK.demonstration_steps >= TASK.pair_steps[-1] + TASK.horizon


def test_a_path_is_the_angle_from_hanging_and_the_rate() -> None:
    states = np.tile(HANGING, (1, 3, 1))
    states[0, 1:, 1] += [-0.5, np.pi]
    states[0, 2, 3] = 2.0
    assert_allclose(WAYS.path(states), [[[0, 0], [-0.5, 0], [np.pi, 2]]], atol=1e-12)


def test_a_scene_follows_the_tip() -> None:
    states = np.tile(HANGING, (3, 1))
    states[:, 0] = 1.5
    assert TASK.scene is not None
    scene = TASK.scene(states, np.ones((2, 1)))
    assert scene.trace is not None
    assert_allclose(scene.trace, [[1.5, -0.6]] * 3, atol=1e-12)
    assert scene.bottom < -0.6 < 0.6 < scene.top
