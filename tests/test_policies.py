"""Model files: ours hold all that acting needs and nothing that can run; the original's give what its layers give."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

import pipeline
from pipeline.config import make
from pipeline.env.pendulum import draw_starts
from pipeline.errors import CheckpointError
from pipeline.methods.registry import METHODS
from pipeline.policies.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, weights_digest
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
    assert_allclose(policy.act(STATES, torch.Generator().manual_seed(3)), x.numpy(), atol=2e-5)


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
