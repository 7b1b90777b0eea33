"""Losses, integration and decoding by exact answers."""

import dataclasses
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from pipeline.config import make
from pipeline.methods import pi0, pi0_fast, regression
from pipeline.methods.method import Prepared
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import (
    ChunkRecipe,
    Pi0FastSettings,
    Pi0Settings,
    RegressionSettings,
    TrainSettings,
)
from pipeline.models.original import OriginalTokenTransformer
from pipeline.models.token_transformer import TokenTransformer
from pipeline.policies.policy import noise_of
from pipeline.streams import torch_stream
from pipeline.tokenizer.fast import BOS, EOS, PAD, FastTokenizer
from pipeline.tokenizer.stored import load_tokenizer
from tests.conftest import TOKEN_METHODS, files_of

PLAIN = Pi0Settings(far_weight=1)


@given(st.integers(1, 60), st.integers(1, 60))
def test_a_patch_is_the_largest_that_fits_the_horizon(patch: int, horizon: int) -> None:
    found = pi0.fitting_patch(patch, horizon)
    assert horizon % found == 0 and found <= patch
    assert all(horizon % larger for larger in range(found + 1, min(patch, horizon) + 1))


@pytest.mark.parametrize(
    ("kind", "changed", "horizon", "said"),
    [
        (
            Pi0Settings,
            {"patch": 12},
            50,
            "patch 12 does not divide the horizon 50: it becomes 10, the largest that does.",
        ),
        (RegressionSettings, {"patch": 40}, 25, "patch 40 does not divide the horizon 25: it becomes 25,"),
        (Pi0Settings, {"near": 500}, 50, "near 500 covers the horizon 50, so far_weight has no effect."),
        (Pi0Settings, {"far_weight": 0.5}, 10, "near 15 covers the horizon 10, so far_weight has no effect."),
    ],
)
def test_a_changed_setting_without_its_effect_is_said(
    kind: type[ChunkRecipe], changed: dict[str, float], horizon: int, said: str
) -> None:
    """Defaults are for all tasks and all horizons: nobody has chosen them."""
    (warning,) = pi0.chunk_warnings(make(kind, changed), horizon)
    assert warning.startswith(said)
    assert not pi0.chunk_warnings(kind(), horizon)


class Field(nn.Module):
    """A velocity field given by a function of state, chunk and time."""

    noise_limit = None

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, state: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        return self.function(state, noisy, time)  # type: ignore[operator]


@pytest.mark.parametrize("name", list(METHODS))
def test_methods_travel_to_a_studys_processes(name: str) -> None:
    """A job is pickled with its method: no part of that may be a lambda."""
    assert pickle.loads(pickle.dumps(METHODS[name])) == METHODS[name]


def test_euler_on_exact_fields() -> None:
    start = torch.randn(3, 50, 1)
    constant = Field(lambda state, noisy, time: torch.full_like(noisy, 2.5))
    assert_close(pi0.integrate(constant, torch.zeros(3, 4), start, 7), start + 2.5)
    clock = Field(lambda state, noisy, time: time[:, None, None].expand_as(noisy))
    assert_close(pi0.integrate(clock, torch.zeros(3, 4), start, 4), start + (0 + 0.25 + 0.5 + 0.75) / 4)
    to_data = Field(lambda state, noisy, time: (1 - noisy) / (1 - time[:, None, None]))
    assert_close(pi0.integrate(to_data, torch.zeros(3, 4), start, 5), torch.ones(3, 50, 1))


def test_flow_loss_has_noise_at_0_and_data_at_1() -> None:
    state, chunk = torch.zeros(256, 4), torch.randn(256, 50, 1)
    noise = torch.randn(chunk.shape, generator=torch.Generator().manual_seed(5))
    perfect = Field(lambda state, noisy, time: chunk - noise)
    total, count = pi0.loss(perfect, PLAIN, (state, chunk), torch.Generator().manual_seed(5))
    assert count == chunk.numel() and float(total) < 1e-6

    def recover(state: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        assert ((time >= 0) & (time < 1)).all() and time.unique().numel() > 200  # one a chunk, all different
        assert_close(noisy, (1 - time)[:, None, None] * noise + time[:, None, None] * chunk)
        return torch.zeros_like(noisy)

    total, _ = pi0.loss(Field(recover), PLAIN, (state, chunk), torch.Generator().manual_seed(5))
    assert_close(float(total) / count, float((chunk - noise).square().mean()))


def test_noise_is_fresh_every_batch() -> None:
    seen: list[Tensor] = []
    field = Field(lambda state, noisy, time: seen.append(noisy) or torch.zeros_like(noisy))
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        pi0.loss(field, PLAIN, (torch.zeros(2, 4), torch.zeros(2, 50, 1)), generator)
    assert not torch.allclose(seen[0], seen[1])


def test_far_actions_weigh_less_and_the_mean_weight_is_one() -> None:
    ones = torch.ones(3, 50, 1)
    assert_close(pi0.weigh(ones, Pi0Settings()), torch.tensor(150.0))
    near, far = ones.clone(), ones.clone()
    near[:, 15:], far[:, :15] = 0, 0
    weighed = [float(pi0.weigh(part, Pi0Settings(near=15, far_weight=0.25))) for part in (near, far)]
    assert weighed[0] / 15 == pytest.approx(4 * weighed[1] / 35)


def test_regression_predicts_in_one_pass_from_nothing_but_the_state() -> None:
    chunk = torch.randn(6, 50, 1)

    def see(state: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        assert not noisy.any() and not time.any()
        return chunk + 2

    settings = RegressionSettings(far_weight=1)
    total, count = regression.loss(Field(see), settings, (torch.zeros(6, 4), chunk), torch.Generator())
    assert_close(float(total), 4.0 * count)
    assert_close(regression.predict(Field(see), torch.zeros(6, 4), chunk.shape), chunk + 2)


class Uniform(nn.Module):
    """A next-token network that finds every token equally likely, and notes what it reads."""

    first = None

    def forward(self, state: Tensor, tokens: Tensor, real: Tensor) -> Tensor:
        self.tokens, self.real = tokens, real
        return torch.zeros(int(real.sum()), 10)


def test_token_loss_counts_tokens_and_not_pad() -> None:
    network = Uniform()
    sequences = torch.tensor([[5, 6, 7, PAD, PAD], [8, PAD, PAD, PAD, PAD]])
    total, count = pi0_fast.loss(network, Pi0FastSettings(), (torch.zeros(2, 4), sequences), torch.Generator())
    assert count == 3 + 1  # that a full chunk has ended needs no prediction
    assert_close(float(total), 4 * math.log(10))
    assert network.tokens.tolist() == [[BOS, 5, 6], [BOS, 8, PAD]]
    assert network.real.tolist() == [[True] * 3, [True, False, False]]


class Oracle(Uniform):
    """Knows every target of the batch above."""

    def forward(self, state: Tensor, tokens: Tensor, real: Tensor) -> Tensor:
        return 100 * torch.eye(10)[torch.tensor([5, 6, 7, 8])]


def test_token_loss_targets_are_the_next_tokens() -> None:
    sequences = torch.tensor([[5, 6, 7, PAD], [8, PAD, PAD, PAD]])
    total, _ = pi0_fast.loss(Oracle(), Pi0FastSettings(), (torch.zeros(2, 4), sequences), torch.Generator())
    assert float(total) < 1e-6


def indifferent(pieces: tuple[tuple[int, ...], ...], steps: list[float]) -> TokenTransformer:
    """A network that finds all tokens equally likely."""
    network = TokenTransformer(4, pieces, np.array(steps), width=8, layers=1, heads=1, dropout=0.0)
    for parameter in network.parameters():
        parameter.data *= 0
    return network


def test_token_loss_adds_the_squared_error_of_the_expected_coefficient() -> None:
    pieces = ((), (), (), (-2,), (0,), (3,), (3, 3))  # BOS, EOS, PAD, then what tokens stand for
    network = indifferent(pieces, [10, 5, 2, 4])  # the expected first integer is 4 / 7
    rows = torch.zeros(2, 4), torch.tensor([[3, 6, 5, PAD], [6, 4, 4, PAD]])  # at coefficients 0, 1, 3 and 0, 2, 3
    for weight in (0.0, 0.5):
        chosen = Pi0FastSettings(expectation_weight=weight)
        total, count = pi0_fast.loss(network, chosen, rows, torch.Generator())
        targets = ((-2, 10), (3, 5), (3, 4), (3, 10), (0, 2), (0, 4))  # first integers, and steps there
        errors = sum(((4 / 7 - integer) / steps) ** 2 for integer, steps in targets)
        assert count == 6
        assert_close(total.item(), 6 * math.log(7) + weight * errors, rtol=1e-6, atol=0)


@given(factor=st.integers(1, 1000), weight=st.floats(0.1, 10))
def test_the_expectations_error_does_not_depend_on_the_grid(factor: int, weight: float) -> None:
    """The same tokens mean the same coefficients in steps of any size."""
    chosen = Pi0FastSettings(expectation_weight=weight)
    rows = torch.zeros(1, 4), torch.tensor([[3, 5, 4, 4]])
    pieces = ((), (), (), (-2,), (0,), (3,))
    finer = tuple(tuple(factor * integer for integer in piece) for piece in pieces)
    steps = [6.0, 6.0, 1.0, 1.0]
    (found, count), (again, same) = (
        pi0_fast.loss(indifferent(*grid), chosen, rows, torch.Generator())
        for grid in ((pieces, steps), (finer, [factor * each for each in steps]))
    )
    assert count == same
    assert_close(found, again)


@pytest.fixture(scope="module")
def tokenizer(data: Path) -> FastTokenizer:
    return load_tokenizer(data / "fast_tokenizer.json")


@given(seed=st.integers(0, 10_000), original=st.booleans(), rule=st.sampled_from(["expected", "greedy", "sampled"]))
@settings(max_examples=20, deadline=None)
def test_every_decoded_sequence_fills_the_chunk(tokenizer: FastTokenizer, seed: int, original: bool, rule: str) -> None:
    torch.manual_seed(seed)  # an untrained network: no help from learning
    network = (
        OriginalTokenTransformer(4, tokenizer.vocabulary, 51)
        if original
        else TokenTransformer(4, tokenizer.pieces, np.ones(50), width=8, layers=1, heads=1, dropout=0.0)
    ).eval()
    for parameter in network.parameters():
        parameter.data *= 3
    chance = torch.rand(8, 50).round(decimals=1) if rule == "sampled" else None  # 0 and 1 are among them
    with torch.inference_mode():
        sequences = pi0_fast.decode(network, tokenizer, 3 * torch.randn(8, 4), rule == "expected", chance)
    assert tokenizer.decode(sequences).shape == (8, 50)  # raises if one is not full
    assert all(len(sequence) <= 50 for sequence in sequences)


@pytest.mark.parametrize("rule", ["expected", "greedy", "sampled"])
@pytest.mark.parametrize("kind", [TokenTransformer, OriginalTokenTransformer])
def test_decoding_does_not_depend_on_the_others_in_the_batch(tokenizer: FastTokenizer, kind: type, rule: str) -> None:
    torch.manual_seed(1)
    if kind is TokenTransformer:
        network = TokenTransformer(4, tokenizer.pieces, np.ones(50), width=8, layers=2, heads=2, dropout=0.0).eval()
        network.token_bias.data = 2 * torch.randn(tokenizer.vocabulary) * torch.tensor(tokenizer.lengths > 1)
    else:
        network = OriginalTokenTransformer(4, tokenizer.vocabulary, 51).eval()
    for parameter in network.parameters():
        parameter.data *= 3
    states, chance = 3 * torch.randn(20, 4), torch.rand(20, 50)

    @torch.inference_mode()
    def decode(rows: slice) -> list[list[int]]:
        drawn_by = chance[rows] if rule == "sampled" else None
        return pi0_fast.decode(network, tokenizer, states[rows], rule == "expected", drawn_by)

    together = decode(slice(None))
    alone = [decode(slice(row, row + 1))[0] for row in range(20)]
    assert together == alone
    assert len({len(sequence) for sequence in together}) > 1  # so rows are dropped on the way


def test_decoding_takes_the_likeliest_token_that_fits(tokenizer: FastTokenizer) -> None:
    longest = int(tokenizer.lengths.argmax())

    class Favourite(nn.Module):
        def start(self, state: Tensor) -> None:
            return None

        def next_logits(self, token: Tensor, cache: None) -> Tensor:
            logits = torch.zeros(len(token), tokenizer.vocabulary)
            logits[:, [longest, EOS, PAD]] = torch.tensor([5.0, 9.0, 9.0])  # EOS and PAD are likelier, and not due
            return logits

    (sequence,) = pi0_fast.decode(Favourite(), tokenizer, torch.zeros(1, 4), expected=False)
    alone = tokenizer.unmerged
    fits = (50 - alone) // int(tokenizer.lengths[longest])
    assert set(tokenizer.lengths[sequence[:alone]]) == {1} and sum(tokenizer.lengths[sequence]) == 50
    assert sequence[alone : alone + fits] == [longest] * fits


class Always(nn.Module):
    """The same probabilities of the next token, by token, whatever came before."""

    def __init__(self, tokenizer: FastTokenizer, shares: dict[int, float]) -> None:
        super().__init__()
        self.logits = torch.full((1, tokenizer.vocabulary), 1e-12).log()
        self.logits[0, list(shares)] = torch.tensor(list(shares.values())).log()

    def start(self, state: Tensor) -> None:
        return None

    def next_logits(self, token: Tensor, cache: None) -> Tensor:
        return self.logits.expand(len(token), -1)


def test_expected_decoding_goes_on_near_the_expectation(tokenizer: FastTokenizer) -> None:
    single = {piece[0]: token for token, piece in enumerate(tokenizer.pieces) if len(piece) == 1}

    # The likeliest integer is 9, three quarters are about -3. Of what is likely, -2 is next to the mean, 0.13.
    broad = Always(tokenizer, {single[9]: 0.26, single[-4]: 0.24, single[-3]: 0.25, single[-2]: 0.25})
    free = dataclasses.replace(tokenizer, ranges=None)
    greedy, expected = (pi0_fast.decode(broad, free, torch.zeros(1, 4), rule)[0] for rule in (False, True))
    assert greedy == [single[9]] * 50
    assert expected == [single[-2]] * 50


def test_sampled_decoding_draws_from_the_distribution(tokenizer: FastTokenizer) -> None:
    tokens = sorted(token for token, piece in enumerate(tokenizer.pieces) if len(piece) == 1)[:3]
    network = Always(tokenizer, dict(zip(tokens, (0.2, 0.5, 0.3), strict=True)))
    free = dataclasses.replace(tokenizer, ranges=None)
    chance = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71, 1.0]).repeat(1, 9)[:, :50]
    first, second, third = tokens
    (sequence,) = pi0_fast.decode(network, free, torch.zeros(1, 4), False, chance)
    assert sequence == ([first, first, second, second, third, third] * 9)[:50]


def prepare(name: str, data: Path, **values: object) -> tuple[Prepared, TrainSettings]:
    settings = make(METHODS[name].settings_type, files_of(name, data) | values)
    return METHODS[name].prepare(settings), settings


@pytest.mark.parametrize("name", ["pi0", "regression"])
def test_data_come_with_the_warnings_of_their_horizon(name: str, data: Path) -> None:
    assert not prepare(name, data)[0].warnings
    (warning,) = prepare(name, data, patch=12)[0].warnings
    assert "it becomes 10" in warning


@pytest.mark.parametrize("arch", ["small", "original"])
@pytest.mark.parametrize("name", list(METHODS))
def test_methods_act_in_physical_units(name: str, arch: str, data: Path) -> None:
    prepared, settings = prepare(name, data, arch=arch)
    torch.manual_seed(0)
    network = METHODS[name].build(settings, prepared.interface).eval()
    states = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    with torch.inference_mode():
        plans = METHODS[name].act(
            network, METHODS[name].acting(settings), prepared.interface, states, noise_of(torch_stream(0, "act"))
        )
    actions = plans.actions
    assert (plans.tokens is not None) == (plans.undecodable is not None) == (name in TOKEN_METHODS)
    assert plans.undecodable is None or not plans.undecodable.any()
    assert actions.shape == (5, 50, 1) and actions.dtype == np.float32 and np.isfinite(actions).all()


@pytest.mark.parametrize(
    ("name", "setting", "fixed", "drawn"),
    [("pi0", "start_noise", 0, 1), ("pi0_fast", "decoding", "greedy", "sampled")],
)
def test_a_plan_that_is_drawn_comes_from_its_own_noise(
    name: str, setting: str, fixed: object, drawn: object, data: Path
) -> None:
    prepared, settings = prepare(name, data)
    torch.manual_seed(0)
    network = METHODS[name].build(settings, prepared.interface).eval()
    states = np.zeros((2, 4), np.float32)

    @torch.inference_mode()
    def act(value: object, seed: int) -> np.ndarray:
        acting = make(METHODS[name].acting_type, {setting: value})
        noise = noise_of(torch_stream(seed, "act"))
        return METHODS[name].act(network, acting, prepared.interface, states, noise).actions

    assert (act(fixed, 1) == act(fixed, 2)).all()
    assert (act(drawn, 1) == act(drawn, 1)).all() and (act(drawn, 1) != act(drawn, 2)).any()
    one, two = act(drawn, 1)
    assert (one != two).any(), "two plans for one state"


@pytest.mark.parametrize("name", list(METHODS))
def test_rows_are_standardised_by_the_training_split(name: str, data: Path) -> None:
    prepared, _ = prepare(name, data)
    assert_close(prepared.train[0].mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    assert_close(prepared.train[0].std(0, correction=0), torch.ones(4), atol=1e-4, rtol=0)
    assert [len(rows[0]) for rows in (prepared.train, prepared.val, prepared.test)] == [1200, 150, 150]
    assert dataclasses.is_dataclass(prepared.interface)
