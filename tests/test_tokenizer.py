"""FAST: exact round trips of quantised coefficients, for the data's chunks and for any."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from tokenizers import Tokenizer
from tokenizers.models import BPE

from pipeline.config import make
from pipeline.data.normalisation import Normalisation
from pipeline.data.pairs import load_action_pairs, load_token_pairs
from pipeline.data.split import split_pairs
from pipeline.errors import SettingsError, TokenizerError
from pipeline.stages.settings import TokenizeSettings
from pipeline.stages.tokenize import fit, tokenize
from pipeline.tokenizer.fast import BOS, EOS, PAD, SPECIALS, FastTokenizer
from pipeline.tokenizer.fit import MERGES, fit_tokenizer
from pipeline.tokenizer.stored import load_tokenizer, parse_tokenizer
from pipeline.tokenizer.tradeoff import VOCABULARIES, measure_tradeoff

IDENTITY = Normalisation(np.zeros(1, np.float32), np.ones(1, np.float32))


@pytest.fixture(scope="module", params=["fast", "bins"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tokenizer(data: Path, scheme: str) -> FastTokenizer:
    return load_tokenizer(data / f"{scheme}_tokenizer.json")


def test_every_chunk_decodes_to_its_coefficients(data: Path, scheme: str, tokenizer: FastTokenizer) -> None:
    pairs = load_action_pairs(data / "training_pairs_original.npz")
    sequences = load_token_pairs(data / f"training_pairs_{scheme}.npz").token_seq
    integers, _ = tokenizer.quantise(pairs.action_chunk)
    bare = [[token for token in row if token not in (BOS, EOS, PAD)] for row in sequences.tolist()]
    assert_array_equal(tokenizer.decode(bare), integers)
    assert (sequences[:, 0] == BOS).all() and ((sequences == EOS).sum(1) == 1).all()


@given(arrays(np.int64, (3, 50), elements=st.integers(-10_000, 10_000)))
def test_any_coefficients_in_range_round_trip(tokenizer: FastTokenizer, wild: np.ndarray) -> None:
    integers = wild.clip(tokenizer.low, tokenizer.high)
    assert_array_equal(tokenizer.decode(tokenizer.encode(integers)), integers)


@given(arrays(np.float32, (2, 50, 1), elements=st.floats(-30, 30, width=32)))
def test_out_of_range_values_are_clipped_and_counted(tokenizer: FastTokenizer, chunks: np.ndarray) -> None:
    integers, clipped = tokenizer.quantise(chunks)
    free = replace(tokenizer, low=-(10**9), high=10**9).quantise(chunks)[0]
    assert integers.min() >= tokenizer.low and integers.max() <= tokenizer.high
    assert clipped == (integers != free).sum()
    assert_array_equal(tokenizer.decode(tokenizer.encode(integers)), integers)


def test_quantisation_error_is_at_most_half_a_step(data: Path, tokenizer: FastTokenizer) -> None:
    pairs = load_action_pairs(data / "training_pairs_original.npz")
    train = pairs.action_chunk[split_pairs(pairs.trajectory, len(pairs.state)).train]
    integers, clipped = tokenizer.quantise(train)
    assert clipped == 0  # the alphabet is the training range
    error = np.linalg.norm(tokenizer.dequantise(integers)[..., 0] - train[..., 0], axis=1) / tokenizer.actions.std
    assert error.max() <= np.sqrt(50) * 0.5 / tokenizer.scale + 1e-5  # the DCT is orthonormal
    assert_array_equal(tokenizer.actions.std, train.std(dtype=float).astype(np.float32)[None])


def test_the_lowest_frequencies_have_the_fine_scale(data: Path) -> None:
    chunks = load_action_pairs(data / "training_pairs_original.npz").action_chunk
    plain, fine = (fit_tokenizer(chunks, 2, fine_scale=8, fine=count).quantise(chunks)[0] for count in (0, 10))
    assert_array_equal(plain[:, 10:], fine[:, 10:])
    assert_allclose(plain[:, :10], fine[:, :10] / 4, atol=0.63)  # half a step of each
    assert np.abs(plain[:, :10] - fine[:, :10] / 4).max() > 0.3


def test_fine_frequencies_are_tokens_of_their_own(data: Path) -> None:
    chunks = load_action_pairs(data / "training_pairs_original.npz").action_chunk
    for fine in (0, 5):
        tokenizer = fit_tokenizer(chunks, 2, 512, 4, fine)
        sequences = tokenizer.encode(tokenizer.quantise(chunks)[0])
        alone = [set(tokenizer.lengths[sequence[:fine]]) for sequence in sequences]
        assert all(lengths <= {1} for lengths in alone) and tokenizer.lengths.max() > 4  # others are merged
        for sequence in sequences[:50]:
            filled = 0
            for token in sequence:
                assert tokenizer.fits[50 - filled, token]
                filled += int(tokenizer.lengths[token])
        free = replace(tokenizer, ranges=None)
        begins = tokenizer.lengths == 1 if fine else tokenizer.lengths >= 1
        assert not free.fits[0].any() and (free.fits[50] == begins).all()


def test_what_fits_is_what_training_has_seen_at_that_place(tokenizer: FastTokenizer, data: Path) -> None:
    chunks = load_action_pairs(data / "training_pairs_original.npz")
    train = split_pairs(chunks.trajectory, len(chunks.state)).train
    integers = tokenizer.quantise(chunks.action_chunk[train])[0]
    low, high = integers.min(0), integers.max(0)
    free = replace(tokenizer, ranges=None).fits
    for missing in range(1, 51):
        begin = 50 - missing
        seen = [
            len(piece) <= missing and all(low[begin + i] <= value <= high[begin + i] for i, value in enumerate(piece))
            for piece in tokenizer.pieces
        ]
        assert_array_equal(tokenizer.fits[missing], free[missing] & np.array(seen))
        assert (tokenizer.fits[missing] & (tokenizer.lengths == 1)).any()  # so that every chunk can be filled
    assert tokenizer.fits.sum() < free.sum() / 2
    for sequence in tokenizer.encode(integers[::50]):
        filled = 0
        for token in sequence:
            assert tokenizer.fits[50 - filled, token]
            filled += int(tokenizer.lengths[token])


def test_bins_are_a_token_an_action(data: Path) -> None:
    chunks = load_action_pairs(data / "training_pairs_original.npz").action_chunk
    tokenizer = load_tokenizer(data / "bins_tokenizer.json")
    integers, clipped = tokenizer.quantise(chunks)
    assert {len(sequence) for sequence in tokenizer.encode(integers)} == {50}
    standard = (chunks[..., 0] - tokenizer.actions.mean) / tokenizer.actions.std
    assert_array_equal(integers, np.rint(standard * tokenizer.scale).clip(tokenizer.low, tokenizer.high))
    assert tokenizer.vocabulary == tokenizer.high - tokenizer.low + 1 + len(SPECIALS) and clipped < 10
    assert load_tokenizer(data / "fast_tokenizer.json").digest != tokenizer.digest


def test_files_without_the_newer_keys_are_plain_fast(data: Path) -> None:
    chunks = load_action_pairs(data / "training_pairs_original.npz").action_chunk
    plain = fit_tokenizer(chunks, 2, 512)
    fields = json.loads(plain.to_json())
    for key in ("fine_scale", "fine", "frequencies", "unmerged", "ranges", "sha256", "mean", "std"):
        del fields[key]
    again = parse_tokenizer(json.dumps(fields | {"format": "tinypi-fast-1"}))
    assert again.ranges is None and "ranges" not in again.to_json()
    assert_array_equal(again.quantise(plain.actions.apply(chunks))[0], plain.quantise(chunks)[0])


def test_files_of_the_first_format_take_actions_in_their_own_units() -> None:
    """The format as it was, spelled out: integers -2..2 of two actions, and one merge."""
    bpe = Tokenizer(BPE())
    bpe.add_special_tokens(list(SPECIALS))
    names = {name: token for token, name in enumerate((*SPECIALS, *map(chr, range(0x4E00, 0x4E05)), "\u4e02\u4e03"))}
    bpe.model = BPE(names, [("\u4e02", "\u4e03")])
    fields = {
        "format": "tinypi-fast-1", "scale": 10.0, "horizon": 2, "action_dim": 1, "low": -2, "high": 2,
        "fine_scale": 1.0, "fine": 0, "frequencies": False, "unmerged": 0, "bpe": json.loads(bpe.to_str()),
        "ranges": [[-2, 2], [-1, 2]],
    }  # fmt: skip
    digest = sha256(json.dumps(fields, ensure_ascii=True, indent=1).encode()).hexdigest()
    text = json.dumps(fields | {"sha256": digest}, ensure_ascii=True, indent=1)
    tokenizer = parse_tokenizer(text)
    assert tokenizer.digest == digest and tokenizer.to_json() == text  # as tokens and models made with it say
    integers, clipped = tokenizer.quantise(np.array([[[0.03], [0.11]], [[-0.2], [0.5]]], np.float32))
    assert_array_equal(integers, [[0, 1], [-2, 2]])
    assert clipped == 1 and tokenizer.encode(integers) == [[8], [3, 7]]
    assert_array_equal(tokenizer.dequantise(integers)[..., 0], np.array([[0, 0.1], [-0.2, 0.2]], np.float32))


def test_dct_is_orthonormal_and_scaled() -> None:
    fitted = fit_tokenizer(np.linspace(-3, 3, 200, dtype=np.float32).reshape(4, 50, 1), 10, 512)
    tokenizer = replace(fitted, actions=IDENTITY)
    integers, _ = tokenizer.quantise(np.full((1, 50, 1), 0.5, np.float32))
    assert integers[0, 0] == min(round(0.5 * 50**0.5 * 10), tokenizer.high) and not integers[0, 1:].any()


def test_fitting_twice_gives_the_same_bytes_and_sees_train_only(data: Path, tmp_path: Path) -> None:
    pairs = load_action_pairs(data / "training_pairs_original.npz")
    settings = TokenizeSettings(pairs=data / "training_pairs_original.npz", out=tmp_path)
    tokenize(settings)
    for name in ("fast_tokenizer.json", "training_pairs_fast.npz"):
        assert (tmp_path / name).read_bytes() == (data / name).read_bytes()
    train = pairs.action_chunk[split_pairs(pairs.trajectory, len(pairs.state)).train]
    assert fit(train, settings).digest == load_tokenizer(tmp_path / "fast_tokenizer.json").digest


def test_one_scale_is_that_of_the_paper_for_normal_actions() -> None:
    chunks = np.random.default_rng(0).normal(3, 0.2, (4000, 20, 1)).astype(np.float32)
    tokenizer = fit(chunks, TokenizeSettings(scheme="one_scale"))
    low, high = np.quantile(chunks, (0.01, 0.99))  # the paper scales these to -1 and 1, and takes 10 steps a unit
    assert_allclose(tokenizer.steps / tokenizer.actions.std, 10 / ((high - low) / 2), rtol=0.01)


@pytest.mark.parametrize(
    ("scheme", "name"),
    [
        *(("one_scale", name) for name in ("scale", "fine_scale", "fine")),
        *(("bins", name) for name in ("scale", "fine", "vocabulary")),
    ],
)
def test_what_a_scheme_does_not_use_is_refused(scheme: str, name: str) -> None:
    assert make(TokenizeSettings, {name: 700}) != TokenizeSettings()
    with pytest.raises(
        SettingsError, match=rf"{name}: expected its default, for {scheme} does not use it, found 700\."
    ):
        make(TokenizeSettings, {"scheme": scheme, name: 700})


def test_summary_is_stored(data: Path) -> None:
    metadata = load_token_pairs(data / "training_pairs_fast.npz").metadata
    summary = metadata["summary"]
    assert 3 < summary["tokens_mean"] < 25 and summary["error_max"] < 2 and summary["vocabulary_used"] > 50
    assert metadata["tokenizer_sha256"] == load_tokenizer(data / "fast_tokenizer.json").digest


def test_vocabulary_must_exceed_the_alphabet(data: Path) -> None:
    chunks = load_action_pairs(data / "training_pairs_original.npz").action_chunk
    with pytest.raises(TokenizerError, match=r"^scale: expected at most 20,000 integers, .* Lower the scales\.$"):
        fit_tokenizer(chunks, 100_000)
    with pytest.raises(TokenizerError, match=r"expected more than \d+ entries at scale 2.*found 50"):
        fit_tokenizer(chunks, 2, 50)


def test_a_vocabulary_that_is_not_chosen_has_room_for_merges(data: Path) -> None:
    chunks = load_action_pairs(data / "training_pairs_original.npz").action_chunk
    for scale in (0.5, 2, 30):
        tokenizer = fit_tokenizer(chunks, scale)
        alphabet = tokenizer.high - tokenizer.low + 1
        assert tokenizer.vocabulary == alphabet + len(SPECIALS) + MERGES


def test_decode_refuses_short_sequences_and_encode_foreign_integers(tokenizer: FastTokenizer) -> None:
    with pytest.raises(TokenizerError, match="expected 50 coefficients, found 1"):
        tokenizer.decode([[int(np.flatnonzero(tokenizer.lengths == 1)[0])]])
    with pytest.raises(TokenizerError, match=r"found 99999, which has no token"):
        tokenizer.encode(np.full((1, 50), 99999))


def test_json_round_trip_and_faults(tokenizer: FastTokenizer) -> None:
    again = parse_tokenizer(tokenizer.to_json())
    assert again.digest == tokenizer.digest and again.pieces == tokenizer.pieces
    fields = json.loads(tokenizer.to_json())
    with pytest.raises(ValueError, match="its sha256 does not match"):
        parse_tokenizer(json.dumps(fields | {"format": "tinypi-fast-1"}))
    del fields["sha256"]
    assert parse_tokenizer(json.dumps(fields)).digest == tokenizer.digest
    for fault in (
        {"format": "x"},
        {"scale": "10"},
        {"mean": None},
        {"std": [1]},
        {"std": [0.0]},
        {"std": [-1.0]},
        {"std": [float("nan")]},
        {"mean": [float("inf")]},
        {"mean": [1e39]},
        {"std": [1e-46]},
        {"mean": [0.0, 0.0]},
        {"horizon": -1},
        {"low": 10**9},
        {"bpe": {}},
        {"high": fields["low"]},
        {"fine": -1},
        {"fine_scale": 0.0},
        {"frequencies": 1},
        {"ranges": 1},
        {"ranges": fields["ranges"][1:]},
        {"ranges": [*fields["ranges"][1:], [0]]},
        {"ranges": [*fields["ranges"][1:], [0, 0.5]]},
        {"ranges": [*fields["ranges"][1:], [1, 0]]},
        {"ranges": [*fields["ranges"][1:], [0, fields["high"] + 1]]},
    ):
        with pytest.raises(ValueError):
            parse_tokenizer(json.dumps(fields | fault))


def test_what_scale_and_vocabulary_trade(data: Path) -> None:
    chunks = load_action_pairs(data / "training_pairs_original.npz").action_chunk
    rows = {scale: measure_tradeoff(chunks[:1000], chunks[1000:], scale) for scale in (1.0, 4.0)}
    coarse, fine = rows[1.0], rows[4.0]
    assert [row.vocabulary for row in coarse] == list(VOCABULARIES) and len(fine) < len(VOCABULARIES)
    assert fine[0].error_mean < coarse[0].error_mean < coarse[0].error_p99 and fine[0].alphabet > coarse[0].alphabet
    tokens = [row.tokens_mean for row in coarse]
    assert tokens == sorted(tokens, reverse=True) and tokens[-1] < fine[-1].tokens_mean
    assert coarse[0].error_mean < 0.5 / 1  # a coefficient is off by half a step at most, and the DCT keeps lengths
