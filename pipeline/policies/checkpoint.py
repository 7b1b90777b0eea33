"""The `.pth` file: weights and all that is needed to act with them. Opens with `torch.load(weights_only=True)`.

format         "tinypi-1"
method         "pi0", "pi0_fast", ...
settings       the run's settings, as plain values
weights        the network's state_dict
horizon        actions a chunk
normalisation  {"state": {"mean", "std"}, "action": {"mean", "std"}} as tensors
tokenizer      the FAST tokenizer's JSON text, or None
provenance     plain values: name, run id, best epoch and losses, digests, code, versions
"""

import pickle
import warnings
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config import TrainSettings, make
from pipeline.data.normalisation import Normalisation
from pipeline.errors import CheckpointError, UserError, one_line
from pipeline.files import whole_file
from pipeline.methods import METHODS
from pipeline.methods.method import Interface, Method
from pipeline.tokenizer.fast import parse_tokenizer

FORMAT = "tinypi-1"


@dataclass(frozen=True)
class Checkpoint:
    """What the file holds, checked and rebuilt."""

    method: Method
    settings: TrainSettings
    interface: Interface
    weights: dict[str, Tensor]
    provenance: dict[str, Any]

    def network(self) -> nn.Module:
        """The network with its weights, in evaluation mode."""
        network = self.method.build(self.settings, self.interface)
        network.load_state_dict(self.weights, strict=True)
        return network.requires_grad_(False).eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file, whole or not at all."""
    interface = checkpoint.interface
    content = {
        "format": FORMAT,
        "method": checkpoint.method.name,
        "settings": checkpoint.settings.model_dump(mode="json"),
        "weights": checkpoint.weights,
        "horizon": interface.horizon,
        "normalisation": {
            name: {"mean": torch.from_numpy(part.mean), "std": torch.from_numpy(part.std)}
            for name, part in (("state", interface.state), ("action", interface.action))
        },
        "tokenizer": interface.tokenizer.to_json() if interface.tokenizer else None,
        "provenance": checkpoint.provenance,
    }
    with whole_file(path) as temporary:
        torch.save(content, temporary)


def weights_digest(weights: dict[str, Tensor]) -> str:
    """sha256 over the names, shapes and bytes of the weights: equal digests, equal weights to the bit."""
    digest = sha256()
    for name in sorted(weights):
        array = weights[name].numpy()
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def read_pth(path: Path) -> dict[str, Any]:
    """Read a `.pth` without running any code in it; raises `CheckpointError`."""
    if not path.is_file():
        raise CheckpointError(
            f"{path}: expected a model file, found none. Name a .pth, e.g. from train/trained_models."
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns of files that it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: expected plain tensors and values, found Python objects or damage, which are never loaded "
            "(they can run code). Take the file from a source you trust, written by tinypi or as a bare state_dict."
        ) from error
    except Exception as error:  # damage can surface as nearly anything
        raise CheckpointError(
            f"{path}: expected a .pth file, found a truncated or foreign one ({one_line(error)[:200]}). "
            "Copy or train it again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a dictionary of weights, found {type(content).__name__}.")
    return content


def parse_checkpoint(path: Path, content: dict[str, Any]) -> Checkpoint:
    """Rebuild a checkpoint from a file's content; raises `CheckpointError` saying what does not fit."""
    found = content.get("format")
    if found != FORMAT or str(content.get("method")) not in METHODS:
        raise CheckpointError(
            f"{path}: expected a {FORMAT} checkpoint of {' or '.join(METHODS)}, found format {found!r} and "
            f"method {content.get('method')!r}. It is another kind of file, or of another version."
        )
    try:
        method, horizon = METHODS[content["method"]], content["horizon"]
        tokenizer = None if content["tokenizer"] is None else parse_tokenizer(content["tokenizer"])
        if not isinstance(content["provenance"], dict):
            raise ValueError("'provenance' must be a dictionary")
        if type(horizon) is not int or horizon < 1 or (tokenizer and tokenizer.horizon != horizon):
            raise ValueError(
                f"'horizon' must be a positive number, and the tokenizer's if there is one, found {horizon!r}"
            )
        checkpoint = Checkpoint(
            method,
            make(method.settings_type, content["settings"]),
            Interface(
                horizon,
                _normalisation(content["normalisation"]["state"]),
                _normalisation(content["normalisation"]["action"]),
                tokenizer,
            ),
            content["weights"],
            content["provenance"],
        )
        checkpoint.network()
    except (UserError, KeyError, TypeError, AttributeError, AssertionError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: its parts do not fit together ({one_line(error)[:200]}). Copy or train it again."
        ) from error
    return checkpoint


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and check one of our `.pth` files; raises `CheckpointError`."""
    return parse_checkpoint(path, read_pth(path))


def _normalisation(part: dict[str, Tensor]) -> Normalisation:
    mean, std = part["mean"].numpy(), part["std"].numpy()
    if mean.ndim != 1 or mean.shape != std.shape or not (std > 0).all():
        raise ValueError("'normalisation' must hold means and positive deviations of one shape (D,)")
    return Normalisation(mean, std)
