"""Exported policies: one ONNX file that acts as its model does, without torch; and what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from onnx import helper

import pipeline
from pipeline.cli.main import COMMANDS, main
from pipeline.config import make
from pipeline.data.normalisation import Normalisation
from pipeline.errors import CheckpointError, MissingExtraError
from pipeline.methods.method import Interface
from pipeline.methods.registry import METHODS
from pipeline.policies.checkpoint import Checkpoint, save_checkpoint, weights_digest
from pipeline.policies.exported import seal
from pipeline.stages import export as workflow
from pipeline.stages.settings import ExportSettings
from pipeline.tokenizer.fit import fit_bins, fit_tokenizer
from tests.conftest import ROOT, files_of

EXPORTABLE = [name for name, method in METHODS.items() if method.graph]
STATE_DIM, HORIZON, ACTION_DIM = 3, 20, 2
RANDOM = np.random.default_rng(0)
STATES = RANDOM.normal(0.5, 2, (300, STATE_DIM)).astype(np.float32)


def random_model(method_name: str, **settings: Any) -> Checkpoint:
    """A small model with random weights of a task that is not the pendulum's: 3 states, chunks of 20 x 2 actions."""
    method = METHODS[method_name]
    walks = np.random.default_rng(1).normal(0, 0.5, (200, HORIZON, ACTION_DIM)).cumsum(1)
    chunks = (walks * [1, 0.01] + [0, 0.2]).astype(np.float32)
    tokenizer = {"pi0_fast": fit_tokenizer(chunks, 4.0, 400, 6.0, 3), "binning": fit_bins(chunks, 4.0)}.get(method_name)
    interface = Interface(HORIZON, Normalisation.of(STATES), Normalisation.of(chunks), tokenizer)
    made = make(method.settings_type, {"width": 16, "layers": 2, **settings})
    torch.manual_seed(0)
    weights = method.build(made, interface).state_dict()
    return Checkpoint(method, made, interface, weights, {"name": f"random {method_name}", "run_id": "r1", "loss": 0.5})


@pytest.fixture(params=EXPORTABLE)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"{request.param}.pth"
    save_checkpoint(path, random_model(request.param))
    return path


@pytest.fixture
def exported(model: Path) -> Path:
    return workflow.export(ExportSettings(checkpoint=model)).path


def test_acts_as_the_model(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(COMMANDS, ["export", "--checkpoint", str(model)]) == 0
    said = capfd.readouterr()
    assert said.err == "" and "of the actions' size at most, over 256 states" in said.out
    policy, exported = pipeline.load_policy(model), pipeline.load_policy(model.with_suffix(".onnx"))
    expected = policy.act(STATES)
    assert np.abs(expected).max() > 0.1
    assert_array_equal(exported.act(STATES[:2].tolist()), exported.act(STATES[:2].astype(float)))
    for size in (0, 1, 2, 7, 300):
        actions = exported.act(STATES[:size])
        assert actions.shape == (size, HORIZON, ACTION_DIM) and actions.dtype == np.float32
        assert_allclose(actions, expected[:size], atol=1e-5)


def test_says_what_it_is(exported: Path) -> None:
    policy = pipeline.load_policy(str(exported))
    method = exported.stem
    sizes = policy.state_dim, policy.horizon, policy.action_dim
    assert (policy.name, policy.method, sizes) == (f"random {method}", method, (STATE_DIM, HORIZON, ACTION_DIM))
    digest = weights_digest(random_model(method).weights)
    assert policy.provenance == {"name": f"random {method}", "run_id": "r1", "loss": 0.5, "weights_sha256": digest}
    content = onnx.load(exported)
    assert {entry.domain for entry in content.opset_import} == {""}  # no operators of one runtime's own
    assert {entry.key: entry.value for entry in content.metadata_props}["format"] == "tinypi-onnx-1"


def test_same_model_same_bytes(exported: Path, model: Path) -> None:
    again = workflow.export(ExportSettings(checkpoint=model, out=str(model.parent / "made/again.onnx")))
    assert again.path.read_bytes() == exported.read_bytes()


def test_acts_without_torch(exported: Path) -> None:
    code = (
        f"import sys, pipeline; actions = pipeline.load_policy({str(exported)!r}).act({STATES[:2].tolist()})\n"
        "heavy = {'torch', 'onnx', 'mlflow', 'scipy', 'tokenizers'} & set(sys.modules)\n"
        "print([float(actions.sum()), sorted(heavy)])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    total, heavy = json.loads(result.stdout.replace("'", '"'))
    assert heavy == [] and result.stderr == ""
    assert total == pytest.approx(float(pipeline.load_policy(exported).act(STATES[:2]).sum()))


@pytest.mark.parametrize("states", [np.zeros(3), np.zeros((2, 4)), np.full((1, 3), np.nan)])
def test_refuses_wrong_states(exported: Path, model: Path, states: np.ndarray) -> None:
    messages = []
    for path in (exported, model):
        with pytest.raises(ValueError, match=r"finite states of shape \(B, 3\)") as caught:
            pipeline.load_policy(path).act(states)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_bad_input_is_one_line(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model.parent
    monkeypatch.chdir(folder)
    Path("folder.onnx").mkdir()
    Path("text.pth").write_text("hello")
    save_checkpoint(Path("noisy.pth"), random_model("pi0", start_noise=0.5))
    shutil.copy(model, "model.onnx")
    before = sorted(folder.iterdir())
    for words, message in (
        ([], "checkpoint: expected a value, found none. Give it by --checkpoint."),
        (["--checkpoint", "none.pth"], "none.pth: expected a model file, found none"),
        (["--checkpoint", "text.pth"], "text.pth: expected a .pth file, found a truncated or foreign one"),
        (["--checkpoint", "noisy.pth"], "noisy.pth: start_noise: an exported policy starts from zero, found 0.5"),
        (["--checkpoint", model, "--out", "folder.onnx"], "out: expected a file, found the folder 'folder.onnx'"),
        (["--checkpoint", model, "--out", "x.pth"], "out: expected a file name ending in .onnx, found 'x.pth'"),
        (
            ["--checkpoint", model, "--out", "text.pth/x.onnx"],
            "out: expected a folder to write 'x.onnx' to, found 'text.pth'",
        ),
        (["--checkpoint", model, "--out", ""], "out: "),
        (["--checkpoint", "model.onnx"], "out: expected another file than the model 'model.onnx'"),
    ):
        assert main(COMMANDS, ["export", *map(str, words)]) == 2, words
        errors = capsys.readouterr().err
        assert message in errors and errors.startswith("error: ") and errors.count("\n") == 1
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("method_name", EXPORTABLE)
def test_reference_networks_are_refused(method_name: str, tmp_path: Path, data: Path) -> None:
    method = METHODS[method_name]
    settings = make(method.settings_type, {**files_of(method_name, data), "arch": "original"})
    interface = method.prepare(settings).interface
    weights = method.build(settings, interface).state_dict()
    save_checkpoint(tmp_path / "original.pth", Checkpoint(method, settings, interface, weights, {}))
    with pytest.raises(CheckpointError, match=r"original\.pth: arch: only the small network can be exported"):
        workflow.export(ExportSettings(checkpoint=tmp_path / "original.pth"))


def test_a_file_that_acts_otherwise_is_not_left(
    model: Path, exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, policy, network = exported.read_bytes(), pipeline.load_policy(model), Checkpoint.network

    def another(checkpoint: Checkpoint) -> torch.nn.Module:
        changed = network(checkpoint)
        changed.load_state_dict({name: 1.5 * weight for name, weight in changed.state_dict().items()})
        return changed

    monkeypatch.setattr(workflow, "policy_of", lambda checkpoint: policy)
    monkeypatch.setattr(Checkpoint, "network", another)
    for out in (exported, model.parent / "new.onnx"):
        assert main(COMMANDS, ["export", "--checkpoint", str(model), "--out", str(out)]) == 1
        assert "not written, because it does not act like" in capsys.readouterr().err
    assert sorted(path.name for path in model.parent.iterdir()) == sorted((model.name, exported.name))
    assert exported.read_bytes() == before


class Steps:
    """Plans that jump at `edge`: near it rounding decides."""

    def __init__(self, edge: float) -> None:
        self.edge = edge

    def act(self, states: np.ndarray) -> np.ndarray:
        return np.where(states > self.edge, 1.0, -1.0)[:, :, None].astype(np.float32)


def test_ties_are_told_from_faults() -> None:
    states = np.array([[0.0], [0.25], [0.3]], np.float32)
    rounding, size = np.array([1e-6], np.float32), np.ones(1, np.float32)
    largest_deviation: Any = workflow.largest_deviation
    assert largest_deviation(Steps(0.3), Steps(0.3), states, rounding, size) == (0, 0)
    assert largest_deviation(Steps(0.3), Steps(0.3 - 3e-7), states, rounding, size) == (0, 1)
    assert largest_deviation(Steps(0.3), Steps(0.2), states, rounding, size)[0] == 2


class Fixed:
    """Plans the same chunk `(H, A)` always."""

    def __init__(self, chunk: list[list[float]]) -> None:
        self.chunk = np.array(chunk, np.float32)

    def act(self, states: np.ndarray) -> np.ndarray:
        return np.repeat(self.chunk[None], len(states), 0)


def test_deviations_are_relative_to_the_actions_of_their_dimension() -> None:
    states, size = np.zeros((2, 1), np.float32), np.array([0.02, 100], np.float32)
    largest_deviation: Any = workflow.largest_deviation
    for found, expected in (
        ([[0.001, 10], [0, 1]], 0.05),  # of a deviation of 0.02
        ([[0, 60], [0, 1]], 0.5),
        ([[0, 10], [0, 2]], 0.01),
    ):
        model = Fixed([[0, 10], [0, 1]])
        assert largest_deviation(model, Fixed(found), states, size[:1], size)[0] == pytest.approx(expected, rel=1e-5)
    assert largest_deviation(Fixed([[0, 1000]]), Fixed([[0, 1001]]), states, size[:1], size)[0] == pytest.approx(1e-3)


def test_files_of_other_kinds_are_refused(exported: Path, tmp_path: Path) -> None:
    whole = exported.read_bytes()
    path = tmp_path / "other.onnx"
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(
            CheckpointError, match=r"other\.onnx: expected an exported policy, found a damaged"
        ) as fault:
            pipeline.load_policy(path)
        assert "\n" not in str(fault.value)
    facts = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    for changes in ({"format": "tinypi-onnx-9"}, {"horizon": "7"}, {"state_dim": "x"}, {"provenance": "{"}):
        foreign = onnx.load(exported)
        helper.set_model_props(foreign, facts | changes)
        path.write_bytes(foreign.SerializeToString())
        with pytest.raises(CheckpointError, match="its content_sha256 does not match"):
            pipeline.load_policy(path)
        path.write_bytes(seal(foreign.SerializeToString()))
        with pytest.raises(CheckpointError, match=r"other\.onnx: expected a policy in the format tinypi-onnx-1"):
            pipeline.load_policy(path)
    foreign = onnx.load(exported)
    del foreign.metadata_props[:]
    onnx.save(foreign, path)
    with pytest.raises(CheckpointError, match="found an ONNX file of another kind"):
        pipeline.load_policy(path)
    with pytest.raises(CheckpointError, match="found no file"):
        pipeline.load_policy(tmp_path / "nowhere.onnx")


def test_missing_packages_are_named(exported: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnxruntime", "onnx"):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtraError, match=r"pip install -e '\.\[export\]'"):
            workflow.export(ExportSettings(checkpoint=model, out=str(model.parent / "new.onnx")))
        with pytest.raises(MissingExtraError, match="ONNX Runtime is not installed"):
            pipeline.load_policy(exported)
    assert sorted(path.name for path in model.parent.iterdir()) == sorted((model.name, exported.name))
