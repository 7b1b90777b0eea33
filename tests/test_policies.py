"""Model files: ours hold all that acting needs and nothing that can run; the original's give what its layers give."""

import io
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

import pipeline
from pipeline.config import make
from pipeline.errors import CheckpointError, RunError
from pipeline.methods.registry import METHODS
from pipeline.policies.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, weights_digest
from pipeline.policies.ensemble import save_ensemble
from pipeline.policies.export import onnx_bytes
from pipeline.policies.policy import noise_of
from pipeline.policies.states import checked_states
from pipeline.tasks.pendulum.world import draw_starts
from tests.conftest import ROOT, files_of

REFERENCE = ROOT.parent / "shared" / "reference"
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the original's weights are not here")
STATES = draw_starts(np.random.default_rng(0), 6).astype(np.float32)


@pytest.fixture(params=list(METHODS))
def checkpoint(request: pytest.FixtureRequest, data: Path) -> Checkpoint:
    method = METHODS[request.param]
    settings = make(method.settings_type, {**files_of(method.name, data), "width": 16, "layers": 1})
    interface = method.prepare(settings).interface
    torch.manual_seed(0)
    return Checkpoint(method, settings, interface, method.build(settings, interface).state_dict(), {"name": "test"})


def test_checkpoint_is_all_that_is_needed(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    save_checkpoint(path, checkpoint)
    content = torch.load(path, weights_only=True)
    assert content["method"] == checkpoint.method.name and content["settings"]["width"] == 16
    again = load_checkpoint(path)
    assert weights_digest(again.weights) == weights_digest(checkpoint.weights)
    assert again.settings == checkpoint.settings and again.provenance == checkpoint.provenance

    save_checkpoint(tmp_path / "again.pth", checkpoint)
    assert (tmp_path / "again.pth").read_bytes() == path.read_bytes()

    policy = pipeline.load_policy(path)
    actions = policy.act(STATES)
    assert actions.shape == (6, 50, 1) == (6, policy.horizon, policy.action_dim)
    assert_array_equal(actions, pipeline.load_policy(str(path)).act(STATES.tolist()))
    assert_allclose(policy.act(STATES[2:3]), actions[2:3], atol=1e-4)


CHANNELS = ["x", "theta", "v", "omega"]


def test_columns_are_taken_by_name_and_numbers_of_any_type(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model.pth", checkpoint)
    policy = pipeline.load_policy(tmp_path / "model.pth")
    named = pd.DataFrame(STATES, columns=CHANNELS)
    shuffled = named[["omega", "v", "theta", "x"]]
    expected = policy.act(STATES)
    for states in (shuffled, {name: shuffled[name] for name in shuffled}, shuffled.astype(float), pd.DataFrame(STATES)):
        assert_array_equal(policy.act(states), expected)
    whole = np.array([[1, -1, 0, 2]])
    for kind in (np.float64, np.float16, np.int64, np.int8, object):
        assert_array_equal(policy.act(whole.astype(kind)), policy.act(whole))


@pytest.mark.parametrize(
    "states",
    [
        pd.DataFrame(STATES, columns=["x", "theta", "v", "speed"]),
        pd.DataFrame(STATES, columns=["x", "theta", "v", "v"]),
        pd.DataFrame(np.zeros((1, 5)), columns=[*CHANNELS, "time"]),
        pd.DataFrame(STATES, columns=CHANNELS)[CHANNELS[:3]],
        {"x": [0.1]},
        {},
    ],
)
def test_other_columns_are_refused_with_the_names_expected(states: Any) -> None:
    with pytest.raises(ValueError, match=r"x: expected the columns x, theta, v, omega, in any order; found"):
        checked_states("x", 4, states, CHANNELS)


def test_names_of_unknown_states_are_refused() -> None:
    with pytest.raises(ValueError, match="expected states without names; found a, b, c"):
        checked_states("x", 3, pd.DataFrame(np.zeros((1, 3)), columns=list("abc")))


@pytest.mark.parametrize(
    "states", [[["0.1", "0", "0", "0"]], np.zeros((1, 4), complex), np.zeros((1, 4), "M8[s]"), [[{}, 1.0]]]
)
def test_what_is_no_number_is_refused(states: Any) -> None:
    with pytest.raises(ValueError, match="expected numbers as states"):
        checked_states("x", 4, states)


def broken(checkpoint: Checkpoint) -> Checkpoint:
    """The same model with finite weights so large that what it computes is not finite."""
    return replace(checkpoint, weights={name: weight * 1e30 for name, weight in checkpoint.weights.items()})


def test_plans_that_are_not_finite_do_not_leave(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Neither from a model, nor from an average that it is in, nor from its exported form.

    (Tokens are always numbers: `export` compares, so no file is made of a model with tokens that plans nothing.)
    """
    for name, each in (("broken", broken(checkpoint)), ("whole", checkpoint)):
        save_checkpoint(tmp_path / f"{name}.pth", each)
    save_ensemble(tmp_path / "average.pth", "average", [tmp_path / "whole.pth", tmp_path / "broken.pth"])
    forms = ["broken.pth", "average.pth"]
    if checkpoint.method.graph and checkpoint.interface.tokenizer is None:
        (tmp_path / "broken.onnx").write_bytes(onnx_bytes(tmp_path / "broken.pth", broken(checkpoint)))
        forms.append("broken.onnx")
    for form in forms:
        with pytest.raises(RunError, match=r"expected plans of (finite actions|complete chunks)"):
            pipeline.load_policy(tmp_path / form).act(STATES)


def test_all_forms_of_a_model_refuse_and_accept_alike(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model.pth", checkpoint)
    save_ensemble(tmp_path / "average.pth", "test", [tmp_path / "model.pth"] * 2)
    forms = ["model.pth", "average.pth"]
    if checkpoint.method.graph:
        (tmp_path / "model.onnx").write_bytes(onnx_bytes(tmp_path / "model.pth", checkpoint))
        forms.append("model.onnx")
    for form in forms:
        policy = pipeline.load_policy(tmp_path / form)
        assert policy.act(np.zeros((0, 4))).shape == (0, 50, 1) and policy.act(np.zeros((0, 4))).dtype == np.float32
        assert np.isfinite(policy.act([[1e18, -1e18, 1e18, -1e18]])).all()
        for large in (1e19, -1e30):
            with pytest.raises(ValueError, match=r"test: expected states of numbers up to 1e\+18, found"):
                policy.act([[large, 0, 0, 0]])


@pytest.mark.parametrize("states", [np.zeros(4), np.zeros((2, 3)), np.full((1, 4), np.nan)])
def test_policy_refuses_wrong_states(checkpoint: Checkpoint, tmp_path: Path, states: np.ndarray) -> None:
    save_checkpoint(tmp_path / "model.pth", checkpoint)
    with pytest.raises(ValueError, match=r"finite states of shape \(B, 4\)"):
        pipeline.load_policy(tmp_path / "model.pth").act(states)


def test_checkpoint_that_does_not_fit_together(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    save_checkpoint(path, checkpoint)
    content = torch.load(path, weights_only=True)
    faults = {
        "format": "tinypi-0",
        "method": "pi9",
        "weights": {"x": torch.zeros(1)},
        "settings": content["settings"] | {"width": 24},
        "horizon": "50",
        "normalisation": {"state": {}},
        "tokenizer": "{}",
    }
    for key, fault in faults.items():
        torch.save(content | {key: fault}, path)
        with pytest.raises(CheckpointError, match=r"model\.pth"):
            load_checkpoint(path)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def hostile_zip(path: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, pickle.dumps(Hostile()) if name.endswith("data.pkl") else content)


@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "text", "list", "pickle", "hostile zip", "foreign"])
def test_bad_model_files_are_refused_and_nothing_runs(
    kind: str, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pth"
    save_checkpoint(path, checkpoint)
    whole = path.read_bytes()
    buffer = io.BytesIO()
    torch.save([torch.zeros(1)], buffer)
    content = {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "text": b"hello",
        "list": buffer.getvalue(),
        "pickle": pickle.dumps(Hostile()),
    }
    if kind == "missing":
        path.unlink()
    elif kind == "hostile zip":
        hostile_zip(path)
    elif kind == "foreign":
        torch.save({"layer.weight": torch.zeros(3)}, path)
    else:
        path.write_bytes(content[kind])
    with pytest.raises(CheckpointError, match=r"model\.pth") as caught:
        pipeline.load_policy(path)
    assert "\n" not in str(caught.value) and not (tmp_path / "executed").exists()


def by_hand(weights: dict[str, torch.Tensor], decoder: bool) -> nn.Module:
    """The layers of REFERENCE.md, put together without our model code."""
    kind = nn.TransformerDecoderLayer if decoder else nn.TransformerEncoderLayer
    layers = nn.ModuleList(kind(128, 4, 256, 0.1, "gelu", batch_first=True) for _ in range(4)).eval()
    layers.load_state_dict({k.removeprefix("transformer.layers."): v for k, v in weights.items() if "layers." in k})
    return layers


@needs_reference
@torch.inference_mode()
def test_original_pi0_is_its_layers() -> None:
    path = REFERENCE / "tinypi0_20250620_0133.pth"
    weights = torch.load(path, map_location="cpu", weights_only=True)
    layers = by_hand(weights, decoder=False)
    state = torch.from_numpy(STATES)
    x = torch.randn(6, 50, 1, generator=torch.Generator().manual_seed(3)).clamp(-3, 3)
    for step in range(10):
        time = torch.full((6, 50, 1), step / 10)
        embedded = nn.functional.linear(x, weights["action_embedding.weight"], weights["action_embedding.bias"])
        embedded = embedded + nn.functional.linear(
            time, weights["time_embedding.weight"], weights["time_embedding.bias"]
        )
        first = nn.functional.linear(state, weights["state_embedding.weight"], weights["state_embedding.bias"])
        h = torch.cat((first[:, None], embedded), 1) + weights["position_embedding.weight"]
        for layer in layers:
            h = layer(h, src_mask=nn.Transformer.generate_square_subsequent_mask(51))
        x = x + 0.1 * nn.functional.linear(h[:, 1:], weights["flow_output.weight"], weights["flow_output.bias"])
    policy = pipeline.load_policy(path)
    assert_allclose(policy.act(STATES, noise_of(torch.Generator().manual_seed(3))), x.numpy(), atol=2e-5)


@needs_reference
@torch.inference_mode()
def test_original_pi0_fast_is_its_layers() -> None:
    import json

    from scipy.fft import idct

    path, tokenizer = REFERENCE / "tinypi0fast_20250624_0911.pth", REFERENCE / "original_fast_tokenizer.json"
    weights = torch.load(path, map_location="cpu", weights_only=True)
    layers = by_hand(weights, decoder=True)
    pieces = {token: name for name, token in json.loads(tokenizer.read_text())["vocab"].items()}
    memory = nn.functional.linear(
        torch.from_numpy(STATES), weights["state_embedding.weight"], weights["state_embedding.bias"]
    )[:, None]
    expected, tokens_needed, short = [], [], []
    for row in range(len(STATES)):
        tokens = [0]
        while len(tokens) < 25 and tokens[-1] != 1:
            x = weights["token_embedding.weight"][tokens] + weights["position_embedding.weight"][: len(tokens)]
            x = x[None]
            for layer in layers:
                x = layer(x, memory[row : row + 1], nn.Transformer.generate_square_subsequent_mask(len(tokens)))
            logits = nn.functional.linear(x[0, -1], weights["output_layer.weight"], weights["output_layer.bias"])
            tokens.append(int(logits.argmax()))
        integers = [int(v) for token in tokens if token > 3 for v in pieces[token].split(",")]
        padded = (integers + [0] * 50)[:50]
        expected.append(idct(np.array(padded) / 10, norm="ortho"))
        tokens_needed.append(len(tokens) - 1 - (tokens[-1] == 1))
        short.append(len(integers) != 50)
    plans = pipeline.load_policy(path, tokenizer).plan(STATES)
    assert_allclose(plans.actions[..., 0], np.array(expected), atol=1e-5)
    assert_array_equal(plans.tokens, tokens_needed)
    assert_array_equal(plans.undecodable, short)


@needs_reference
def test_original_fast_weights_need_their_tokenizer() -> None:
    with pytest.raises(CheckpointError, match="name it with --tokenizer"):
        pipeline.load_policy(REFERENCE / "tinypi0fast_20250624_0911.pth")
