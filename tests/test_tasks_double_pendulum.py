"""The double pendulum: Gymnasium's physics to the bit, its regulator, and its scores by hand."""

import gymnasium
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.tasks.double_pendulum.demonstrator import BASE, regulator
from pipeline.tasks.double_pendulum.world import FRAME_SKIP, REST, WORLD, fallen
from pipeline.tasks.lqr import linearise
from pipeline.tasks.registry import find_task
from tests.episodes import demonstrate, primary_of_yardsticks

TASK = find_task("double_pendulum")
assert TASK.demonstrator is not None
DEMONSTRATOR = TASK.demonstrator


def test_batch_equals_gymnasium_to_the_bit_at_the_stops_and_after_a_fall_too() -> None:
    generator = np.random.default_rng(3)
    starts, actions = WORLD.draw_starts(generator, 4), generator.uniform(-1, 1, (4, 60, 1))
    actions[2], actions[3] = 1.0, -1.0
    states, _ = WORLD.simulate(lambda step, _: actions[:, step], starts, np.zeros_like(actions), 2)
    assert states[2, :, 0].max() > 1 and states[3, :, 0].min() < -1
    assert fallen(states[:, -1]).any() and not fallen(states[:, 0]).any()
    for episode in range(4):
        env = gymnasium.make("InvertedDoublePendulum-v5", frame_skip=FRAME_SKIP).unwrapped
        env.reset(seed=0)
        env.set_state(starts[episode, :3], starts[episode, 3:])
        assert env.dt == TASK.control_seconds
        for step in range(60):
            observation, _, terminated, _, _ = env.step(actions[episode, step])
            assert_array_equal(env.state_vector(), states[episode, step + 1])
            assert terminated == fallen(states[episode, step + 1])
            ours = WORLD.observe(states[episode, step + 1])
            assert_array_equal(ours[[0, 1, 3, 2, 4]], observation[:5])  # x, sines, cosines
            assert_array_equal(ours[5:].clip(-10, 10), observation[5:8])


def test_observe_by_hand() -> None:
    states = np.array([[[1.0, np.pi / 2, np.pi / 6, 4, 5, 6]]])
    assert_allclose(WORLD.observe(states), [[[1, 1, 0, 0.5, np.sqrt(0.75), 4, 5, 6]]], atol=1e-15)
    assert len(TASK.observation) == 8


def test_an_episode_ends_at_a_tip_of_one_metre() -> None:
    angle = np.arccos(1 / 1.2)
    assert not fallen(np.array([0, angle - 1e-9, 0, 0, 0, 0])) and fallen(np.array([0, angle + 1e-9, 0, 0, 0, 0]))
    assert fallen(np.array([0, np.nan, 0, 0, 0, 0])) and fallen(np.array([np.inf, 0, 0, 0, 0, 0]))


def test_the_demonstrator_succeeds_without_what_is_refused() -> None:
    _, states, actions = demonstrate(TASK, 200)
    faults = DEMONSTRATOR.find_faults(states, actions)
    assert np.logical_or.reduce(list(faults.values())).mean() <= 0.02
    scores = TASK.score(states[:, : TASK.episode_steps + 1], actions[:, : TASK.episode_steps])
    assert scores["success"].mean() >= 0.98 and scores["calm"].mean() > 0.9
    assert (np.abs(actions) < 1).mean() > 0.99  # it seldom asks for more force than there is


def test_faulty_demonstrations_are_refused() -> None:
    states, actions = np.zeros((4, TASK.demonstration_steps, 6)), np.zeros((4, TASK.demonstration_steps, 1))
    states[1, 40, 1] = 1.0
    states[2, -80:, 2] = 0.03
    actions[3, 7] = np.nan
    faults = DEMONSTRATOR.find_faults(states, actions)
    assert_array_equal(faults["fallen"], [False, True, False, False])
    assert_array_equal(faults["not calm"], [False, False, True, False])
    assert_array_equal(faults["not finite"], [False, False, False, True])


def test_neither_threads_nor_company_change_a_bit() -> None:
    many, again = demonstrate(TASK, 9), demonstrate(TASK, 9, threads=3)
    few = demonstrate(TASK, 9, keep=2)
    for one, two, three in zip(many, again, few, strict=True):
        assert_array_equal(one, two)
        assert_array_equal(one[:2], three)


def test_the_regulator_is_of_the_simulator_and_brings_it_to_rest() -> None:
    by_state, by_action = linearise(WORLD, REST, 1)
    assert_allclose(by_state[:, 0], [1, 0, 0, 0, 0, 0], atol=1e-8)  # the rail is the same everywhere
    assert np.abs(np.linalg.eigvals(by_state)).max() ** (1 / TASK.control_seconds) > np.exp(8)  # e-fold in 1/8 s
    small = np.array([[0, 1e-3, -1e-3, 0, 0, 0]])
    states, _ = WORLD.simulate(lambda _, found: np.full((1, 1), 0.01), small, np.zeros((1, 1, 1)), 1)
    assert_allclose(states[0, 1], by_state @ small[0] + by_action[:, 0] * 0.01, atol=1e-6)
    starts = WORLD.draw_starts(np.random.default_rng(0), 20)
    states, _ = WORLD.simulate(regulator(BASE), starts, np.zeros((20, 400, 1)), 2)
    assert not fallen(states).any() and np.abs(states[:, -1]).max() < 0.003


def test_scores_by_hand() -> None:
    states, actions = np.zeros((4, 201, 6)), np.zeros((4, 200, 1))
    states[0, 100:150, 1] = 0.03  # half of the last 2 s
    states[1, :100, 0] = -0.5  # the lower pole leans, and the upper one stands upright on it
    states[1, :100, 1], states[1, :100, 2] = 0.1, -0.1
    states[1, 150:175, 2] = -0.021
    states[2, 50:, 1] = 1.0  # falls
    states[2, :50, 0] = 0.2
    states[3, 200, 1] = 1.0  # falls by its last action
    actions[0, ::2] = 0.5
    actions[1, 1] = 7.0  # the motor clips it
    actions[2, 60:] = np.arange(140)[:, None]  # changes only after the fall
    scores = TASK.score(states, actions)
    assert_array_equal(scores["success"], [True, True, False, False])
    assert_allclose(scores["calm"], [0.5, 0.75, 0, 0])
    assert_allclose(scores["lean"], [0.03 * 50 / 200, (100 * 0.1 + 25 * 0.021) / 200, 0, 0])
    assert_allclose(scores["position"], [0, 0.25, 0.2, 0])
    assert_allclose(scores["action_change"], [0.5, 2 / 199, 0, 0])
    assert_array_equal(scores["upright"], [200, 200, 49, 199])
    assert scores.keys() == TASK.own_scores.keys() and TASK.primary == "calm"


def test_yardsticks_are_in_order() -> None:
    calm = primary_of_yardsticks(TASK, len(TASK.conditions) - 1, 30)
    assert calm["zero action"] == 0
    assert 0.3 < calm["LQR, planned"] < 0.8 < calm["LQR, closed loop"] < 1


def test_pairs_cover_the_whole_episode() -> None:
    assert TASK.pair_steps[0] == 0 and TASK.pair_steps[-1] == TASK.episode_steps - 1 and len(TASK.pair_steps) <= 30
    assert TASK.demonstration_steps >= TASK.pair_steps[-1] + TASK.horizon


def test_a_scene_has_two_poles_that_are_as_long_as_the_models() -> None:
    states, applied = np.zeros((3, 6)), np.ones((2, 1))
    states[:, 1], states[:, 2] = np.pi / 6, -np.pi / 6
    assert TASK.scene is not None
    scene = TASK.scene(states, applied)
    env = gymnasium.make("InvertedDoublePendulum-v5").unwrapped
    env.reset(seed=0)
    env.set_state(states[0, :3], states[0, 3:])
    assert scene.trace is not None
    assert_allclose(scene.trace[0], env.data.site_xpos[0][[0, 2]])
    assert_allclose(scene.trace[0], [0.3, 0.6 * np.sqrt(0.75) + 0.6])
    assert all(len(shape.points) in (1, 3) for shape in scene.shapes)
