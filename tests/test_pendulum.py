"""The pendulum: MuJoCo in batches is Gymnasium bit for bit; the PID and the scores by hand."""

import gymnasium
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.streams import numpy_stream
from pipeline.tasks.lqr import linearise
from pipeline.tasks.pendulum.gymnasium_env import ENV_ID
from pipeline.tasks.pendulum.lqr import REST, lqr
from pipeline.tasks.pendulum.pid import BASE_GAINS, NestedPID, draw_gains
from pipeline.tasks.pendulum.scores import SCORES, score
from pipeline.tasks.pendulum.world import ACTION_LIMIT, ANGLE_LIMIT, POLE_LENGTH, REST_ANGLE, WORLD, draw_starts, fallen


def test_batch_equals_gymnasium_to_the_bit() -> None:
    generator = np.random.default_rng(3)
    starts, actions = draw_starts(generator, 4), generator.uniform(-3, 3, (4, 60, 1))
    states, _ = WORLD.simulate(lambda step, _: actions[:, step], starts, np.zeros_like(actions))
    for episode in range(4):
        env = gymnasium.make(ENV_ID, max_episode_steps=1000).unwrapped
        env.reset(seed=0)
        env.set_state(starts[episode, :2], starts[episode, 2:])
        for step in range(60):
            observation, reward, terminated, _, _ = env.step(actions[episode, step])
            assert_array_equal(observation, states[episode, step + 1])
            assert terminated == fallen(states[episode, step + 1]) == (reward == 0)


def test_wide_limits() -> None:
    env = gymnasium.make(ENV_ID).unwrapped
    env.reset(seed=1)
    assert_array_equal(env.model.jnt_range[0], [-10, 10])
    assert not fallen(np.array([0, ANGLE_LIMIT - 1e-9, 0, 0]))
    assert fallen(np.array([0, ANGLE_LIMIT + 1e-9, 0, 0])) and fallen(np.array([np.nan, 0, 0, 0]))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_never_change_the_result(threads: int) -> None:
    starts, noise = draw_starts(np.random.default_rng(0), 9), np.zeros((9, 30, 1))
    one = WORLD.simulate(NestedPID(np.tile(BASE_GAINS, (9, 1))), starts, noise, threads=1)
    other = WORLD.simulate(NestedPID(np.tile(BASE_GAINS, (9, 1))), starts, noise, threads=threads)
    assert_array_equal(one[0], other[0])


def test_noise_moves_the_pole_but_is_not_recorded() -> None:
    starts, noise = np.zeros((1, 4)), np.full((1, 5, 1), 0.05)
    states, actions = WORLD.simulate(lambda _, states: np.zeros((len(states), 1)), starts, noise)
    assert_array_equal(actions, 0)
    assert states[0, -1, 0] > 0.001


def test_pole_rests_at_its_tilt() -> None:
    starts = np.array([[0, REST_ANGLE, 0, 0]])
    states, _ = WORLD.simulate(lambda _, states: np.zeros((1, 1)), starts, np.zeros((1, 20, 1)))
    assert abs(states[0, -1, 1] - REST_ANGLE) < 1e-6


def test_the_pole_has_the_length_that_it_is_drawn_with() -> None:
    model = gymnasium.make(ENV_ID).unwrapped.model
    tip = model.geom("pole").pos * 2  # of a capsule from the hinge
    assert_allclose(tip, [POLE_LENGTH * np.sin(-REST_ANGLE), 0, POLE_LENGTH], rtol=1e-5)


def test_pid_first_action_by_hand() -> None:
    state = np.array([[0.2, 0.1, 0.3, -0.4]])
    outer = -0.3 * (0.08 + 0.05 * 0.02 + 0.001 / 0.02)
    error = outer + REST_ANGLE - 0.1
    expected = error * (-3.0 - 0.01 * 0.02 - 0.15 / 0.02)
    assert_allclose(NestedPID(BASE_GAINS[None])(0, state), [[expected]])


def test_pid_is_clipped_and_keeps_gains_apart() -> None:
    gains = draw_gains(numpy_stream(0, "gains"), 50)
    assert (np.abs(gains / BASE_GAINS - 1) <= 0.1).all() and len(np.unique(gains)) == gains.size
    actions = NestedPID(gains)(0, np.tile([[0, 0.5, 0, 0]], (50, 1)))
    assert_array_equal(actions, ACTION_LIMIT)


def test_scores_by_hand() -> None:
    states = np.zeros((5, 101, 4))
    states[:, :, 1] = 0.1
    states[0, 30:40, 1] = 0.019  # ten calm steps: converges at 30
    states[1, 30:39, 1] = 0.019  # nine: does not
    states[2, 50, 1] = 1.0  # falls, and is calm only after
    states[2, 60:, 1] = 0.0
    states[3, 10:20, 1] = 0.0  # converges, then falls
    states[3, 90, 1] = -0.8
    states[3, :50, 2], states[3, 50:90, 2], states[3, 90:, 2] = 1.0, -1.0, 99.0
    states[4, 100, 1] = 0.8  # falls by its last action
    states[0, 70:80, 1] = states[1, 95:, 1] = -0.019  # of the last 2 s: ten steps, and five before the last action
    actions = np.zeros((5, 100, 1))
    actions[0, ::2] = 0.5
    actions[2, :50], actions[2, 50:] = 9.0, -9.0  # changes only in the step of the fall
    actions[3, 1] = 5.0  # the motor clips it
    scores = score(states, actions)
    assert_array_equal(scores["success"], [True, True, False, False, False])
    assert_allclose(scores["calm"], [0.2, 0.1, 0, 0, 0])  # a fallen one has none, however calm it was
    assert_array_equal(scores["return"], [100, 100, 49, 89, 99])
    assert_array_equal(scores["converge"], [True, False, False, False, False])  # nor does it converge
    assert_array_equal(scores["converge_step"], [30, 100, 100, 100, 100])
    assert_allclose(scores["velocity_std"], [0, 0, 0, np.std([1.0] * 50 + [-1.0] * 40), 0])
    assert_allclose(scores["angle"], [0.1 - 20 * 0.081 / 100, 0.1 - 14 * 0.081 / 100, 0.1, 0.1 * 80 / 90, 0.1])
    assert_allclose(scores["action_change"], [0.5, 0, 0, 6 / 89, 0])
    assert scores.keys() == SCORES.keys()
    assert all(len(column) == 5 and np.isfinite(column).all() for column in scores.values())


def test_pid_without_kick_begins_as_if_the_error_had_stood_still() -> None:
    state = np.array([[0.2, 0.1, 0.3, -0.4]])
    outer = -0.3 * (0.08 + 0.05 * 0.02)
    error = outer + REST_ANGLE - 0.1
    assert_allclose(NestedPID(BASE_GAINS[None], kick=False)(0, state), [[error * (-3.0 - 0.01 * 0.02)]])


def test_lqr_linearises_the_simulator_and_balances() -> None:
    by_state, by_action = linearise(WORLD, REST, 1)
    assert_allclose(by_state[:, 0], [1, 0, 0, 0], atol=1e-8)  # the rail is the same everywhere
    assert_allclose(by_state[0, 2], 0.04, rtol=0.01)  # position gains velocity times the step
    small = REST[None] + np.array([0, 1e-3, 0, 0])
    states, _ = WORLD.simulate(lambda _, found: np.full((1, 1), 0.01), small, np.zeros((1, 1, 1)))
    assert_allclose(states[0, 1] - REST, by_state @ [0, 1e-3, 0, 0] + by_action[:, 0] * 0.01, atol=1e-7)
    states, _ = WORLD.simulate(lqr, draw_starts(np.random.default_rng(0), 20), np.zeros((20, 200, 1)))
    assert not fallen(states).any() and np.abs(states[:, -1, 1] - REST_ANGLE).max() < 0.003
