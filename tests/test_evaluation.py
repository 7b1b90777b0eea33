"""Evaluation: the same episodes for everyone, plans exactly when due, the scores of one environment at a time."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import pipeline
from pipeline.config import make
from pipeline.errors import RunError
from pipeline.evaluation.control import (
    ChunkExecutor,
    Evaluation,
    draw_episodes,
    evaluate_planner,
    mean_scores,
    policy_planner,
)
from pipeline.evaluation.expert import compare_chunks, evenly_spaced
from pipeline.evaluation.record import record_planner
from pipeline.evaluation.stored import read_episodes, write_episodes
from pipeline.evaluation.yardsticks import evaluate_yardstick
from pipeline.methods.method import Plans
from pipeline.methods.registry import METHODS
from pipeline.policies.checkpoint import Checkpoint
from pipeline.policies.policy import Policy, policy_of
from pipeline.streams import numpy_stream
from pipeline.tasks.facts import UNKNOWN
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.pendulum.gymnasium_env import ENV_ID
from pipeline.tasks.pendulum.lqr import lqr
from pipeline.tasks.pendulum.scores import score
from pipeline.tasks.pendulum.world import EPISODE_STEPS, WORLD
from pipeline.tasks.task import Condition
from tests.conftest import ROOT, files_of

CONDITIONS = PENDULUM.conditions

REFERENCE = ROOT.parent / "shared" / "reference"
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the original's weights are not here")


def planned_lqr(states: np.ndarray, *_where: object) -> Plans:
    """What the LQR would do from here without noise."""
    _, actions = WORLD.simulate(lqr, states, np.zeros((len(states), 20, 1)), threads=1)
    return Plans(actions.astype(np.float32))


def test_nine_conditions() -> None:
    assert len(CONDITIONS) == len(set(CONDITIONS)) == 9
    assert {(c.action_noise, c.replan) for c in CONDITIONS} == {
        (n, r) for n in (0.01, 0.03, 0.05) for r in (10, 13, 15)
    }


def test_episodes_depend_on_seed_and_condition_alone_and_their_starts_on_the_seed() -> None:
    all_of_them = draw_episodes(PENDULUM, CONDITIONS, 7, seed=3)
    again, few = draw_episodes(PENDULUM, CONDITIONS, 7, seed=3), draw_episodes(PENDULUM, CONDITIONS, 3, seed=3)
    one, other = draw_episodes(PENDULUM, CONDITIONS[4:5], 7, seed=3), draw_episodes(PENDULUM, CONDITIONS, 7, seed=4)
    for name in ("starts", "noise", "replan"):
        whole = getattr(all_of_them, name)
        assert_array_equal(whole, getattr(again, name))
        assert_array_equal(whole[28:35], getattr(one, name))
        assert_array_equal(
            whole.reshape(9, 7, *whole.shape[1:])[:, :3].reshape(27, *whole.shape[1:]), getattr(few, name)
        )
    assert (all_of_them.starts != other.starts).all() and (all_of_them.noise != other.noise).all()
    assert_array_equal(all_of_them.starts.reshape(9, 7, 4), np.tile(all_of_them.starts[:7], (9, 1, 1)))
    assert len(np.unique(all_of_them.starts)) == 7 * 4 and len(np.unique(all_of_them.noise)) == 63 * EPISODE_STEPS
    trial = draw_episodes(PENDULUM, CONDITIONS, 7, 3, "trial")
    assert (all_of_them.starts != trial.starts).all() and (all_of_them.noise != trial.noise).all()
    for number, condition in enumerate(CONDITIONS):
        noise = all_of_them.noise[7 * number : 7 * number + 7]
        assert 0.95 * condition.action_noise < np.abs(noise).max() <= condition.action_noise


def test_no_episode_is_one_of_the_demonstrations() -> None:
    """Whatever the seeds: the streams have other names."""
    for seed in range(20):
        evaluated = numpy_stream(seed, "episodes", "starts").uniform(size=4)
        assert (evaluated != numpy_stream(seed, "collect", "starts", 0).uniform(size=4)).all()


def test_plans_come_when_due_and_are_executed_open_loop() -> None:
    replan = np.array([10, 13, 15, 10])
    asked: list[tuple[int, int]] = []
    now = 0

    def planner(states: np.ndarray, *_where: object) -> Plans:
        asked.extend((now, int(episode)) for episode in states[:, 0])
        chunk = now + np.arange(50) / 100
        tokens, faults = np.full(len(states), 2), states[:, 0] == 1
        return Plans(np.tile(chunk[:, None], (len(states), 1, 1)).astype(np.float32), tokens, faults)

    executor = ChunkExecutor(PENDULUM, planner, replan)
    states = np.zeros((4, 4))
    states[:, 0] = range(4)
    for now in range(EPISODE_STEPS):
        if now == 25:
            states[3, 1] = 1.0  # has fallen: no more plans, no more actions
        actions = executor(now, states)[:, 0]
        since = now % replan
        expected = now - since + since / 100
        expected[3] = expected[3] if now < 25 else 0
        assert_allclose(actions, expected, rtol=1e-6)
    due = [(step, episode) for step in range(100) for episode in range(4) if step % replan[episode] == 0]
    assert asked == [(step, episode) for step, episode in due if episode != 3 or step < 25]
    assert_array_equal(executor.scores()["tokens_per_plan"], 2)
    assert_array_equal(executor.scores()["undecodable"], [0, 1, 0, 0])


def test_a_plan_that_is_not_finite_is_an_error_and_no_zero_action() -> None:
    def planner(states: np.ndarray, *_where: object) -> Plans:
        return Plans(np.full((len(states), 50, 1), np.nan, np.float32))

    with pytest.raises(RunError, match="plans at step 0: expected finite actions"):
        evaluate_planner(planner, draw_episodes(PENDULUM, CONDITIONS[:1], 2, seed=0))


def test_a_batch_is_one_environment_at_a_time() -> None:
    conditions = (Condition(0.05, 7), Condition(2.5, 15))  # most of the second fall
    episodes = draw_episodes(PENDULUM, conditions, 4, seed=11)
    evaluation = evaluate_planner(planned_lqr, episodes, threads=2)
    for number in range(8):
        env = gymnasium.make(ENV_ID).unwrapped
        env.reset(seed=0)
        env.set_state(episodes.starts[number, :2], episodes.starts[number, 2:])
        states, actions, returned = [episodes.starts[number]], [], 0.0
        for step in range(EPISODE_STEPS):
            since = step % episodes.replan[number]
            if since == 0:
                chunk = planned_lqr(np.array(states[-1:])).actions[0]
            actions.append(chunk[since].astype(np.float64))
            applied = (actions[-1] + episodes.noise[number, step]).clip(-3, 3)
            state, reward, terminated, _, _ = env.step(applied)
            states.append(state)
            returned += float(reward)
            if terminated:
                break
        states += [states[-1]] * (EPISODE_STEPS + 1 - len(states))  # a fallen pole stays fallen
        actions += [np.zeros(1)] * (EPISODE_STEPS - len(actions))
        alone = score(np.array(states)[None], np.array(actions)[None])
        assert evaluation.columns["return"][number] == returned
        for name, value in alone.items():
            assert_allclose(evaluation.columns[name][number], value[0], rtol=1e-9, err_msg=name)
    assert evaluation.columns["success"].any() and not evaluation.columns["success"].all()


def test_threads_and_watching_change_nothing() -> None:
    episodes, seen = draw_episodes(PENDULUM, CONDITIONS[:2], 5, seed=0), []
    one = evaluate_planner(planned_lqr, episodes, threads=1)
    other = evaluate_planner(planned_lqr, episodes, 2, seen.append)
    for name, column in one.columns.items():
        assert_array_equal(column, other.columns[name])
    assert len(seen) == EPISODE_STEPS and seen == sorted(seen)


def test_mean_scores_are_over_all_episodes_of_a_condition() -> None:
    columns = {
        "success": np.array([True, True, False, True, False, False]),
        "converge_step": np.array([10, 100, 100, 20, 100, 100]),
        "tokens_per_plan": np.array([10.0, 12, 8, 9, 5, 5]),
    }
    first, second = mean_scores(Evaluation(PENDULUM.scores, CONDITIONS[:2], columns))
    assert first == {"success": pytest.approx(2 / 3), "converge_step": 70, "tokens_per_plan": 10}
    assert second == {
        "success": pytest.approx(1 / 3),
        "converge_step": pytest.approx(220 / 3),
        "tokens_per_plan": 19 / 3,
    }
    assert list(first) == [name for name in PENDULUM.scores if name in columns]


def test_every_score_has_a_number_for_every_episode() -> None:
    """Also where all fall at once, and for the plans of methods with tokens."""

    def counted(states: np.ndarray, *_where: object) -> Plans:
        chunks, tokens, right = np.zeros((len(states), 20, 1), np.float32), np.full(len(states), 7), states[:, 1] > 0
        return Plans(chunks, tokens, right, np.zeros(len(states), dtype=bool))

    found = evaluate_planner(counted, draw_episodes(PENDULUM, CONDITIONS[:2], 20, seed=0), 1).by_condition()
    assert found.keys() == PENDULUM.scores.keys() and {column.shape for column in found.values()} == {(2, 20)}
    assert all(np.isfinite(column).all() for column in found.values())
    assert not found["success"].any() and not found["calm"].any() and not found["converge"].any()
    assert_array_equal(found["converge_step"], EPISODE_STEPS)
    assert_array_equal(found["tokens_per_plan"], 7)
    assert 0 < found["undecodable"].mean() < 1
    without = evaluate_planner(planned_lqr, draw_episodes(PENDULUM, CONDITIONS[:1], 2, seed=0), 1)
    assert PENDULUM.scores.keys() - without.columns.keys() == {"tokens_per_plan", "undecodable", "no_plan"}


def test_stored_episodes_are_read_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    found = evaluate_planner(planned_lqr, draw_episodes(PENDULUM, CONDITIONS, 4, seed=0), 1)
    write_episodes(path, PENDULUM, found.by_condition())
    stored = read_episodes(path, 4, PENDULUM)
    assert list(stored) == [name for name in PENDULUM.scores if name in found.columns]
    for name, column in found.by_condition().items():
        assert_array_equal(stored[name], column)
        assert stored[name].shape == (9, 4) and stored[name].dtype == np.float64


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda lines: [], "another table, with the columns ''"),
        (lambda lines: lines[:-1], "35 rows"),
        (lambda lines: [lines[0].replace("converge,", "converged,"), *lines[1:]], "another table, with the columns "),
        (lambda lines: [lines[0].replace(",calm,", ","), *lines[1:]], "another table, with the columns "),
        (lambda lines: [*lines[:-1], lines[-1][:-20]], "a damaged table"),
        (lambda lines: [*lines[:-1], lines[-1].replace(",", ",x")], "a damaged table"),
        (lambda lines: [line + ",1" for line in lines[:1]] + [f"{line},1" for line in lines[1:]], "another table, "),
        (lambda lines: lines[:1] + [f"{line},1" for line in lines[1:]], "others, or in another order"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "others, or in another order"),
        (lambda lines: [*lines[:-1], lines[-1].rpartition(",")[0] + ",nan"], "numbers that are not finite"),
        (lambda lines: ["\udcff"], "no text"),
    ],
)
def test_a_table_of_episodes_that_is_damaged_or_another_is_refused(tmp_path: Path, change, found: str) -> None:
    path = tmp_path / "episodes.csv"
    evaluation = evaluate_planner(planned_lqr, draw_episodes(PENDULUM, CONDITIONS, 4, seed=0), 1)
    write_episodes(path, PENDULUM, evaluation.by_condition())
    lines = change(path.read_text().splitlines())
    path.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    expected = "episodes.csv: expected the scores of 4 episodes in each of 9 conditions, found "
    with pytest.raises(ValueError, match=re.escape(expected + found)) as refused:
        read_episodes(path, 4, PENDULUM)
    assert "\n" not in str(refused.value)


def test_chunks_against_the_expert_by_hand() -> None:
    states = np.zeros((8, 4), np.float32)
    chunks = np.zeros((8, 3, 1), np.float32)
    chunks[:, 2] = 4.0

    def planner(found: np.ndarray) -> Plans:
        return Plans(np.ones((len(found), 3, 1), np.float32))

    errors = compare_chunks(planner, states, chunks)
    assert errors.mae == pytest.approx(5 / 3) and errors.mse == pytest.approx(11 / 3)
    assert_allclose(errors.mae_by_step, [1, 1, 3])
    assert errors.expert.shape == errors.planned.shape == (4, 3, 1)
    assert_array_equal(evenly_spaced(np.arange(10), 3), [0, 3, 6])
    assert_array_equal(evenly_spaced(np.arange(2), 3), [0, 1])


# REFERENCE.md, 500 episodes: converge of the PID and of the LQR planned in the simulator; all survive.
PLANNED_PID = (1.000, 1.000, 0.998, 0.972, 0.954, 0.852, 0.826, 0.832, 0.588)
PLANNED_LQR = (1.000, 1.000, 1.000, 1.000, 0.998, 0.980, 0.998, 0.936, 0.864)


def test_sampled_plans_do_not_depend_on_the_count_or_the_batch() -> None:
    """A policy that starts from noise: the first episodes are the same whatever is evaluated beside them."""
    policy = Policy(
        name="noisy",
        method="pi0",
        task=UNKNOWN,
        state_dim=4,
        horizon=20,
        action_dim=1,
        _act=lambda states, noise: Plans(0.3 * noise((len(states), 20, 1)).numpy()),
    )

    def columns(conditions: Sequence[Condition], count: int) -> dict[str, np.ndarray]:
        episodes = draw_episodes(PENDULUM, conditions, count, seed=0)
        found = evaluate_planner(policy_planner(policy, episodes, 0), episodes, 1).by_condition()
        return {name: column[-1] for name, column in found.items()}

    few, many, alone = columns(CONDITIONS[:2], 3), columns(CONDITIONS[:2], 6), columns(CONDITIONS[1:2], 3)
    for name, column in few.items():
        assert_array_equal(many[name][:3], column)
        assert_array_equal(alone[name], column)
    episodes = draw_episodes(PENDULUM, CONDITIONS[:1], 2, seed=0)
    states, due = np.zeros((2, 4)), np.array([0, 1])
    planner = policy_planner(policy, episodes, 0)
    plans = [planner(states, due, 0), planner(states, due, 0), planner(states, due, 10)]
    other = policy_planner(policy, episodes, 1)(states, due, 0)
    assert_array_equal(plans[0].actions, plans[1].actions)
    for different in (plans[2].actions[0], plans[0].actions[1], other.actions[0]):  # step, episode, seed
        assert not np.array_equal(plans[0].actions[0], different)
    # what a policy draws first is as if it drew no more, and what it draws next, as an average's members do, is other
    for number in range(2):
        draws = replace(
            policy,
            _act=lambda states, noise, n=number: Plans(
                [0.3 * noise((len(states), 20, 1)).numpy() for _ in range(2)][n]
            ),
        )
        again = policy_planner(draws, episodes, 0)(states, due, 0)
        assert np.array_equal(again.actions, plans[0].actions) == (number == 0)


@pytest.mark.parametrize("method", ["pi0", "pi0_fast"])
def test_no_bit_depends_on_the_count_or_the_batch(method: str, data: Path) -> None:
    """Of the real networks, with noise: for a few rows a matrix product adds up in another order than for many."""
    sampled = {"start_noise": 1.0} if method == "pi0" else {}
    settings = make(METHODS[method].settings_type, files_of(method, data) | sampled)
    interface = METHODS[method].prepare(settings).interface
    torch.manual_seed(0)
    weights = METHODS[method].build(settings, interface).state_dict()
    policy = policy_of(Checkpoint(METHODS[method], settings, interface, weights, {"name": "test"}))

    def columns(conditions: Sequence[Condition], count: int) -> dict[str, np.ndarray]:
        episodes = draw_episodes(PENDULUM, conditions, count, seed=0)
        found = evaluate_planner(policy_planner(policy, episodes, 0), episodes, 1).by_condition()
        return {name: column[-1] for name, column in found.items()}

    many = columns(CONDITIONS[:2], 260)  # two blocks
    episodes = draw_episodes(PENDULUM, CONDITIONS[:2], 260, seed=0)
    numbers = [300, 519]
    for number, record in zip(
        numbers, record_planner(policy_planner(policy, episodes, 0), episodes, numbers, 1), strict=True
    ):
        for name, column in score(record.states[None], record.actions[None]).items():
            assert column[0] == many[name][number - 260], name
    for few in (columns(CONDITIONS[1:2], 1), columns(CONDITIONS[:2], 2), columns(CONDITIONS[1:2], 20)):
        for name, column in few.items():
            assert_array_equal(many[name][: len(column)], column, err_msg=name)


@pytest.mark.parametrize(("name", "expected"), [("PID, planned", PLANNED_PID), ("LQR, planned", PLANNED_LQR)])
def test_yardsticks_agree_with_the_reference(name: str, expected: tuple[float, ...]) -> None:
    episodes = 100
    rows = mean_scores(evaluate_yardstick(name, draw_episodes(PENDULUM, CONDITIONS, episodes, seed=0), 0))
    for row, rate in zip(rows, expected, strict=True):
        assert row["success"] == 1
        assert abs(row["converge"] - rate) < 3.5 * np.sqrt(rate * (1 - rate) / episodes + 1e-4)


def test_closed_loop_and_no_control_are_the_ends_of_the_scale() -> None:
    episodes = draw_episodes(PENDULUM, CONDITIONS[::4], 30, seed=0)
    for row in mean_scores(evaluate_yardstick("PID, closed loop", episodes, 0)):
        assert row["success"] == row["converge"] == 1
    for row in mean_scores(evaluate_yardstick("zero action", episodes, 0)):
        assert row["success"] == 0 and row["return"] < 20 and row["action_change"] == 0


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("tinypi0_20250620_0133", ((0.998, 0.995), (0.969, 0.781))),
        ("tinypi0fast_20250624_0911", ((1.000, 0.867), (0.988, 0.588))),
    ],
)
def test_original_weights_control_as_measured(name: str, rates: tuple[tuple[float, float], ...]) -> None:
    """REFERENCE.md, means over ten models of which this is one; they evenly_spaced by up to 0.038 and 0.058."""
    episodes = 40
    policy = pipeline.load_policy(REFERENCE / f"{name}.pth", REFERENCE / "original_fast_tokenizer.json")
    drawn = draw_episodes(PENDULUM, (Condition(0.01, 10), Condition(0.03, 13)), episodes, seed=5)
    rows = mean_scores(evaluate_planner(policy_planner(policy, drawn, 0), drawn))
    for row, (success, converge) in zip(rows, rates, strict=True):
        for found, rate, spread_of_models in ((row["success"], success, 0.038), (row["converge"], converge, 0.058)):
            assert abs(found - rate) < 3 * np.sqrt(rate * (1 - rate) / episodes + spread_of_models**2)


@needs_reference
def test_original_fast_plans_that_do_not_decode_are_counted(tmp_path: Path) -> None:
    """Its decoding is unconstrained; at scattered states some sequences are too short or too long."""
    policy = pipeline.load_policy(
        REFERENCE / "tinypi0fast_20250624_0911.pth", REFERENCE / "original_fast_tokenizer.json"
    )
    plans = policy.plan(np.random.default_rng(0).uniform(-2, 2, (300, 4)))
    assert plans.undecodable is not None and 0 < plans.undecodable.sum() < 300
