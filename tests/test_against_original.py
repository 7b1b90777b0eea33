"""Benchmarks run; `against_original` measures what it says: the original's plans, the same physics, our averages."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

import benchmarks
import pipeline
from benchmarks.original_way import flow_plan, plain_pid, read_network, rollout, token_plan
from benchmarks.side_by_side import Row, number
from pipeline.evaluation.stored import read_episodes
from pipeline.methods.method import Plans
from pipeline.methods.settings import Pi0Settings
from pipeline.policies.policy import Policy, noise_of
from pipeline.tasks.facts import UNKNOWN
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.pendulum.gymnasium_env import ENV_ID
from pipeline.tasks.pendulum.pid import NestedPID, draw_gains
from pipeline.tasks.pendulum.world import WORLD, draw_starts
from pipeline.tokenizer.stored import load_tokenizer
from pipeline.training.fit import Epoch, Problem, fit
from tests.test_policies import REFERENCE, STATES, needs_reference


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the benchmark; and with more, a busy machine takes minutes over single states."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@needs_reference
@pytest.mark.parametrize("name", ["tinypi0_20250620_0133.pth", "tinypi0fast_20250624_0911.pth"])
def test_original_way_plans_what_the_imported_policy_does(name: str, one_thread: None) -> None:
    path, tokenizer = REFERENCE / name, REFERENCE / "original_fast_tokenizer.json"
    chances = [torch.Generator().manual_seed(3) for _ in range(2)]
    plan = token_plan(load_tokenizer(tokenizer)) if "fast" in name else flow_plan(chances[0])
    policy = pipeline.load_policy(path, tokenizer)
    for state in STATES[:3, None]:
        assert_allclose(plan(read_network(path), state), policy.act(state, noise_of(chances[1])), atol=2e-5)


def test_one_environment_at_a_time_gives_the_states_of_the_batch() -> None:
    generator = np.random.default_rng(0)
    gains, starts, noise = draw_gains(generator, 3), draw_starts(generator, 3), generator.uniform(-1, 1, (3, 40, 1))
    states, _ = WORLD.simulate(NestedPID(gains), starts, noise)
    env = gymnasium.make(ENV_ID)
    for episode in range(3):
        alone = rollout(env, starts[episode], noise[episode], plain_pid(gains[episode]))
        assert_array_equal(alone, states[episode, : len(alone)])


def test_snapshots_have_the_averaged_weights() -> None:
    rows = (torch.randn(8, 3), torch.randn(8, 1))
    problem = Problem(
        nn.Linear(3, 1),
        lambda net, _settings, found, _: ((net(found[0]) - found[1]).square().sum(), 8),
        *3 * (rows,),
        weights=torch.ones(8, dtype=torch.float64),
    )
    events = fit(problem, Pi0Settings(epochs=1, batch_size=4))
    event = next(events)
    assert isinstance(event, Epoch) and event.weights is not None
    averaged = event.snapshot().averaged
    assert averaged.keys() == event.weights.keys()
    assert all(torch.equal(averaged[key], value) for key, value in event.weights.items())


def test_ratio_says_how_many_times_better_ours_is() -> None:
    row = Row("pi0", "training", "1/s", ours=np.array([8.0, 10, 30]), original=np.array([2.0, 2, 3]))
    assert row.ratio == (5, 4, 10)
    row = Row("pi0", "decision", "ms", np.array([2.0]), np.array([2.0, 8, 4]), less_is_better=True)
    assert row.ratio == (2, 1, 4)
    assert [number(x) for x in (0.01234, 0.5, 1.234, 12.34, 99.96, 123.4, 12345)] == [
        "0.0123", "0.500", "1.23", "12.3", "100", "123", "12,300"
    ]  # fmt: skip


def test_every_benchmark_can_be_imported() -> None:
    found = [importlib.import_module(f"benchmarks.{each.name}") for each in pkgutil.iter_modules(benchmarks.__path__)]
    assert len(found) > 10


def test_benchmarks_of_episodes_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    from benchmarks import against_original, evaluation, imitation_limit, side_by_side

    def act(states: np.ndarray, _draw: object) -> Plans:
        return Plans(np.zeros((len(states), 50, 1), np.float32))

    policy = Policy(name="zero", method="pi0", task=UNKNOWN, state_dim=4, horizon=50, action_dim=1, _act=act)
    seconds = evaluation.evaluate_once(policy, 2, tmp_path / "episodes.csv")
    assert seconds.keys() == set(evaluation.PARTS) and all(each > 0 for each in seconds.values())
    assert read_episodes(tmp_path / "episodes.csv", 2, PENDULUM)["calm"].shape == (9, 2)
    for module, sizes in (
        (side_by_side, {"ROUNDS": 1}),
        (against_original, {"EPISODES": 1, "SINGLE_EPISODES": 1, "DEMONSTRATIONS": 3, "SINGLE_DEMONSTRATIONS": 1}),
    ):
        for name, size in sizes.items():
            monkeypatch.setattr(module, name, size)
    rows = [against_original.episode_rate("pi0", policy), *against_original.collection_rate()]
    assert len(rows) == 3 and all(row.ratio[0] > 0 for row in rows)
    states, actions = imitation_limit.demonstrate(2)
    assert imitation_limit.fit_map(states, actions, range(21, 49, 3)).shape == (5, 50)
