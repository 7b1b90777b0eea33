"""Actions of several dimensions in different units: tokens, losses, plans, exported files and averages.

The data set is synthetic: force, large and about zero, and an angle, small and far from zero. No simulator is needed.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import pipeline
from pipeline.config import make
from pipeline.data.normalisation import Normalisation
from pipeline.data.pairs import ActionPairs, TokenPairs, load_action_pairs, save_action_pairs, save_token_pairs
from pipeline.data.split import split_pairs
from pipeline.methods import pi0_fast
from pipeline.methods.registry import METHODS
from pipeline.models.token_transformer import TokenTransformer
from pipeline.policies.checkpoint import Checkpoint, save_checkpoint
from pipeline.policies.ensemble import save_ensemble
from pipeline.stages import tokenize
from pipeline.stages.export import export
from pipeline.stages.settings import ExportSettings, TokenizeSettings
from pipeline.tokenizer.fast import FastTokenizer
from pipeline.tokenizer.fit import fit_bins, fit_tokenizer
from pipeline.tokenizer.stored import load_tokenizer
from pipeline.training.fit import Epoch, fit, problem_of
from tests.conftest import TOKEN_METHODS, files_of

TRAJECTORIES, EACH, HORIZON, STATE_DIM = 30, 4, 20, 3
SPREAD, OFFSET = np.array([40.0, 0.002]), np.array([0.0, 0.3])  # newtons, radians
STATES = np.random.default_rng(7).normal(0, 1, (40, STATE_DIM)).astype(np.float32)


def chunks_of(states: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Chunks `(N, H, 2)` in physical units for `states (N, S)`: two waves of the state."""
    time = np.arange(HORIZON) / HORIZON
    force = states[:, :1] * np.cos(3 * time) + states[:, 1:2] * np.sin(5 * time)
    angle = states[:, 1:2] * np.exp(-2 * time) - states[:, 2:] * np.sin(4 * time)
    return ((np.stack((force, angle), 2) + 0.1 * noise) * SPREAD + OFFSET).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "data"
    folder.mkdir()
    random = np.random.default_rng(0)
    states = random.normal(0, 1, (TRAJECTORIES * EACH, STATE_DIM)).astype(np.float32)
    chunks = chunks_of(states, random.normal(0, 1, (len(states), HORIZON, 2)))
    trajectory, step = np.divmod(np.arange(len(states)), EACH)
    save_action_pairs(folder / "training_pairs_original.npz", ActionPairs(states, chunks, trajectory, step, {}))
    train = chunks[split_pairs(trajectory, len(states)).train]
    for scheme in TOKEN_METHODS.values():
        fitted = tokenize.fit(train, TokenizeSettings(scheme=scheme))
        rows = tokenize.pad_sequences(fitted.encode(fitted.quantise(chunks)[0]))
        about = {"tokenizer_sha256": fitted.digest}
        fitted.save(folder / f"{scheme}_tokenizer.json")
        save_token_pairs(folder / f"training_pairs_{scheme}.npz", TokenPairs(states, rows, trajectory, step, about))
    return folder


@pytest.fixture(scope="module")
def chunks(data: Path) -> np.ndarray:
    return load_action_pairs(data / "training_pairs_original.npz").action_chunk


@pytest.fixture(scope="module", params=TOKEN_METHODS.values())
def tokenizer(request: pytest.FixtureRequest, data: Path) -> FastTokenizer:
    return load_tokenizer(data / f"{request.param}_tokenizer.json")


# Tokens


@pytest.mark.parametrize("action_dim", [1, 2, 3])
@pytest.mark.parametrize("fine", [0, 2])
def test_integers_are_flattened_lowest_frequency_first_across_dimensions(action_dim: int, fine: int) -> None:
    """Chunks are made by the formula of the DCT from coefficients that are known: 0, 1, 2, .. in the tokens' order."""
    horizon, scale, fine_scale = 5, 8.0, 16.0
    wanted = np.arange(horizon * action_dim)
    place = np.arange(horizon)[:, None, None]  # (H, 1, 1) beside frequencies (1, H, 1)
    frequency = np.arange(horizon)[None, :, None]
    waves = np.sqrt((2 - (frequency == 0)) / horizon) * np.cos(np.pi * (2 * place + 1) * frequency / (2 * horizon))
    steps = np.where(frequency < fine, fine_scale, scale)
    standard = (waves * wanted.reshape(1, horizon, action_dim) / steps).sum(1)  # (H, A)
    mean, std = np.linspace(-3, 3, action_dim), np.geomspace(1e-3, 1e3, action_dim)
    random = np.random.default_rng(0).normal(0, 8, (200, horizon, action_dim))
    fitted = fit_tokenizer((random * std + mean).astype(np.float32), scale, 0, fine_scale, fine)
    chunk = fitted.actions.invert(standard[None].astype(np.float32))
    integers, clipped = fitted.quantise(chunk)
    assert clipped == 0 and fitted.unmerged == fine * action_dim
    assert_array_equal(integers, [wanted])
    assert_allclose(fitted.dequantise(integers), chunk, rtol=1e-5)
    (sequence,) = fitted.encode(integers)
    alone = sequence[: fine * action_dim]
    assert [fitted.pieces[token] for token in alone] == [(integer,) for integer in wanted[: fine * action_dim]]


@given(st.integers(0, 1), st.floats(1e-4, 1e4), st.floats(-10, 10), st.sampled_from(["fast", "bins"]))
@settings(max_examples=30, deadline=None)
def test_tokens_do_not_depend_on_the_unit_of_a_dimension(which: int, factor: float, offset: float, scheme: str) -> None:
    """Not on its zero either. All sizes that occur in float32 are far enough from a tie for its rounding."""
    standard = np.random.default_rng(3).normal(0, 1, (40, 6, 2)).astype(np.float32)
    changed = standard.copy()
    changed[..., which] = factor * (standard[..., which] + offset)

    def tokens(chunks: np.ndarray) -> tuple[list[list[int]], np.ndarray]:
        fitted = fit_tokenizer(chunks, 2.0, 0, 12.0, 1) if scheme == "fast" else fit_bins(chunks, 12.0)
        integers, clipped = fitted.quantise(chunks)
        assert clipped == 0
        error = (fitted.dequantise(integers) - chunks) / fitted.actions.std
        return fitted.encode(integers), np.abs(error).mean((0, 1))

    (before, error), (after, scaled) = tokens(standard), tokens(changed)
    assert after == before
    assert_allclose(scaled, error, rtol=1e-3)
    assert_allclose(error[0], error[1], rtol=0.2)  # the dimensions are equally exact


def test_any_unit_is_accepted(data: Path, chunks: np.ndarray) -> None:
    """So are newtons in place of a hundred of them."""
    default = TokenizeSettings()
    for factor in (0.01, 100):
        fitted = fit_tokenizer(factor * chunks, default.scale, 0, default.fine_scale, default.fine)
        integers, _ = fitted.quantise(factor * chunks)
        error = np.abs(fitted.dequantise(integers) / factor - chunks) / SPREAD
        assert error.mean() < 0.1 and error.max() < 1.5


@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)])
def test_a_constant_dimension_costs_nothing_and_stays(chunks: np.ndarray, which: tuple[int, ...]) -> None:
    still = chunks.copy()
    still[..., which] = -0.7
    for fitted in (fit_tokenizer(still, 2.0, 0, 12.0, 3), fit_bins(still, 12.0)):
        integers, _ = fitted.quantise(still)
        assert not integers.reshape(len(still), HORIZON, 2)[..., which].any()
        assert_array_equal(fitted.decode(fitted.encode(integers)), integers)
        assert_allclose(fitted.dequantise(integers)[..., which], -0.7, rtol=1e-6)
        assert (fitted.fits[1:].any(1)).all()


def test_tables_of_decoding_follow_the_dimensions(tokenizer: FastTokenizer, chunks: np.ndarray) -> None:
    integers, _ = tokenizer.quantise(chunks)
    sequences = tokenizer.encode(integers)
    size = 2 * HORIZON
    for sequence, row in zip(sequences, integers, strict=True):
        filled = 0
        for token in sequence:
            outside = (row < tokenizer.ranges[:, 0]) | (row > tokenizer.ranges[:, 1])
            assert tokenizer.fits[size - filled, token] or outside.any()  # of the parts that were not fitted on
            filled += int(tokenizer.lengths[token])
        assert filled == size and len(sequence) <= size


# Methods


@pytest.mark.parametrize("name", TOKEN_METHODS)
def test_prepared_rows_and_interface(name: str, data: Path, chunks: np.ndarray) -> None:
    prepared = METHODS[name].prepare(make(METHODS[name].settings_type, files_of(name, data)))
    tokenizer = prepared.interface.tokenizer
    pairs = load_action_pairs(data / "training_pairs_original.npz")
    expected = Normalisation.of(chunks[split_pairs(pairs.trajectory, len(pairs.state)).train])
    assert tokenizer is not None and prepared.interface.action is tokenizer.actions
    assert_array_equal(tokenizer.actions.mean, expected.mean)
    assert_array_equal(tokenizer.actions.std, expected.std)
    sequences = prepared.train[1]
    assert (torch.from_numpy(tokenizer.lengths)[sequences].sum(1) == 2 * HORIZON).all()
    assert (sequences.shape[1] == 2 * HORIZON) == (name == "binning")


@given(seed=st.integers(0, 10_000), expected=st.booleans())
@settings(max_examples=10, deadline=None)
def test_every_decoded_sequence_fills_the_chunk_in_any_batch(
    tokenizer: FastTokenizer, seed: int, expected: bool
) -> None:
    torch.manual_seed(seed)
    steps = np.repeat(tokenizer.steps, 2)
    network = TokenTransformer(STATE_DIM, tokenizer.pieces, steps, width=8, layers=1, heads=1, dropout=0.0).eval()
    for parameter in network.parameters():
        parameter.data *= 3
    state = torch.randn(6, STATE_DIM)
    with torch.inference_mode():
        together = pi0_fast.decode(network, tokenizer, state, expected)
        alone = [pi0_fast.decode(network, tokenizer, row, expected)[0] for row in state.split(1)]
    assert together == alone
    integers = tokenizer.decode(together)  # raises if one is not full
    assert tokenizer.ranges is not None
    assert ((integers >= tokenizer.ranges[:, 0]) & (integers <= tokenizer.ranges[:, 1])).all()


def trained(name: str, data: Path, seed: int = 0) -> Checkpoint:
    """A small model after two steps of training."""
    method = METHODS[name]
    small = {"width": 16, "layers": 1, "batch_size": 48, "epochs": 1, "warmup": 0, "ema": 0, "seed": seed}
    chosen = make(method.settings_type, files_of(name, data) | small)
    prepared = method.prepare(chosen)
    torch.manual_seed(seed)
    network = method.build(chosen, prepared.interface)
    before = {key: weight.clone() for key, weight in network.state_dict().items()}
    (last,) = [
        event for event in fit(problem_of(method, network, prepared, chosen), chosen) if isinstance(event, Epoch)
    ]
    assert last.weights is not None and all(weight.isfinite().all() for weight in last.weights.values())
    assert any(not torch.equal(weight, before[key]) for key, weight in last.weights.items())
    return Checkpoint(method, chosen, prepared.interface, last.weights, {"name": f"two {name}", "run_id": "r1"})


@pytest.mark.parametrize("name", METHODS)
def test_models_train_plan_export_and_average(name: str, data: Path, tmp_path: Path) -> None:
    paths = []
    for seed in (0, 1):
        paths.append(tmp_path / f"{seed}.pth")
        save_checkpoint(paths[-1], trained(name, data, seed))
    one, two = (pipeline.load_policy(path) for path in paths)
    plans = one.act(STATES)
    assert plans.shape == (len(STATES), HORIZON, 2) and plans.dtype == np.float32
    standard = (plans - OFFSET) / SPREAD
    assert np.isfinite(standard).all() and standard.std((0, 1)).min() > 0.01 and np.abs(standard).max() < 10
    made = export(ExportSettings(checkpoint=paths[0]))
    assert made.deviation < 1e-5
    exported = pipeline.load_policy(made.path)
    for size in (1, 40):
        assert_allclose(exported.act(STATES[:size]) / SPREAD, plans[:size] / SPREAD, atol=1e-4)
    save_ensemble(tmp_path / "average.pth", "both", paths)
    average = pipeline.load_policy(tmp_path / "average.pth").act(STATES)
    assert_allclose(average / SPREAD, (plans + two.act(STATES)) / 2 / SPREAD, atol=1e-4)


@pytest.mark.parametrize("name", TOKEN_METHODS)
def test_both_rules_of_decoding_are_exported(name: str, data: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model.pth", trained(name, data))
    plans = {}
    for rule in ("expected", "greedy"):
        made = export(ExportSettings(checkpoint=tmp_path / "model.pth", act=(f"decoding={rule}",)))
        plans[rule] = pipeline.load_policy(made.path).act(STATES)
    assert (plans["expected"] != plans["greedy"]).any()
