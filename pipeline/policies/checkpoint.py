"""The `.pth` file: weights and all data needed to act with them. Opens with `torch.load(weights_only=True)`.

format         "tinypi-1"
method         "pi0", "pi0_fast", ...
settings       the run's settings, as plain values; those of acting are how the model acts by default
weights        the network's state_dict
horizon        actions per chunk
normalisation  {"state": {"mean", "std"}, "action": {"mean", "std"}} as tensors
tokenizer      the FAST tokenizer's JSON text, or None
task           {"name", "digest", "observation", "action"}, see `tasks.facts`; files of earlier versions have none
provenance     plain values: name, run id, best epoch and losses, digests, code, versions
content_sha256 of all of the above; files of earlier versions have none

Loading never runs pickled code: `weights_only` uses torch's restricted reader, which makes only tensors and plain
values. The file is a zip, and is checked as one first.
"""

import json
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.config import make
from pipeline.data.normalisation import Normalisation
from pipeline.errors import CheckpointError, one_line, reason
from pipeline.files import arrays_digest, check_zip, is_file, whole_file
from pipeline.methods.method import Interface, Method
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import Acting, TrainSettings
from pipeline.names import NAME, WEIGHTS_SHA256
from pipeline.policies.states import is_name
from pipeline.tasks.facts import BEFORE, read_facts
from pipeline.tokenizer.fast import MAX_CHUNK
from pipeline.tokenizer.stored import parse_tokenizer

FORMAT = "tinypi-1"
DIGEST = "content_sha256"
MAX_VALUES = 1_000_000  # keys, numbers and tensors in a file


@dataclass(frozen=True)
class Checkpoint:
    """The checked content of a file."""

    method: Method
    settings: TrainSettings
    interface: Interface
    weights: dict[str, Tensor]
    provenance: dict[str, Any]

    @property
    def acting(self) -> Acting:
        """How the model acts."""
        return self.method.acting(self.settings)

    def acting_by(self, act: Mapping[str, Any]) -> "Checkpoint":
        """Return the same weights with other values of `acting`, as text or typed; raises `SettingsError`."""
        self.method.check_acting(act)
        return replace(self, settings=make(type(self.settings), self.settings.model_dump() | dict(act)))

    def network(self) -> nn.Module:
        """Return the network with its weights, in evaluation mode."""
        network = self.method.build(self.settings, self.interface)
        network.load_state_dict(self.weights, strict=True)
        return network.requires_grad_(False).eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file atomically; the same checkpoint gives the same bytes."""
    write_pth(path, content_of(checkpoint))


def content_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the file's content, digest included."""
    interface = checkpoint.interface
    plain = {
        "format": FORMAT,
        "method": checkpoint.method.name,
        "settings": checkpoint.settings.model_dump(mode="json"),
        "horizon": interface.horizon,
        "tokenizer": interface.tokenizer.to_json() if interface.tokenizer else None,
        "provenance": checkpoint.provenance,
        "task": interface.task.values(),
    }
    # Copied by JSON: the file's bytes would depend on which texts are one object.
    content: dict[str, Any] = json.loads(json.dumps(plain)) | {
        "weights": {name: checkpoint.weights[name] for name in sorted(checkpoint.weights)},
        "normalisation": {
            name: {"mean": torch.from_numpy(part.mean), "std": torch.from_numpy(part.std)}
            for name, part in (("state", interface.state), ("action", interface.action))
        },
    }
    return content | {DIGEST: content_digest(content)}


def write_pth(path: Path, content: dict[str, Any]) -> None:
    """Write plain values and tensors atomically."""
    stream = BytesIO()  # given a path, torch stores its name in the file, and hides that a disk is full
    torch.save(content, stream)
    with whole_file(path) as temporary:
        temporary.write_bytes(stream.getvalue())


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, types, shapes and bytes of the weights: equal digests mean identical weights."""
    return arrays_digest({name: tensor.numpy() for name, tensor in weights.items()})


def check_weights(weights: Mapping[str, Tensor], network: nn.Module) -> None:
    """Raise `ValueError` unless the weights have the network's names, shapes and types, and are finite."""
    wanted = network.state_dict()
    if weights.keys() != wanted.keys():
        raise ValueError(f"weights: expected other names, found {sorted(map(str, weights.keys() ^ wanted.keys()))[:3]}")
    for name, tensor in weights.items():
        expected = wanted[name].dtype, tuple(wanted[name].shape)
        if (found := (tensor.dtype, tuple(tensor.shape))) != expected:
            raise ValueError(f"weights: '{name}' must be {expected}, found {found}")
        if not tensor.isfinite().all():
            raise ValueError(f"weights: '{name}' holds NaN or infinite numbers")


def read_pth(path: Path) -> dict[str, Any]:
    """Read a `.pth` without running any code in it; raises `CheckpointError`.

    The content is plain: a dictionary of text, numbers, and tensors on the CPU that are no larger than the file.
    """
    if not is_file(path):
        raise CheckpointError(
            f"{path}: expected a model file, found none. Name a .pth, e.g. from train/trained_models."
        )
    try:
        size = check_zip(path)
        with warnings.catch_warnings(action="ignore"):  # torch warns about files that it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
            _check_plain(content, size)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: expected plain tensors and values, found Python objects or damage, which are never loaded "
            "(they can run code). Take the file from a source you trust, written by tinypi or as a bare state_dict."
        ) from error
    except Exception as error:  # damage can surface as nearly anything
        raise CheckpointError(
            f"{path}: expected a .pth file, found a truncated or foreign one ({reason(error)[:200]}). "
            "Copy or train it again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a dictionary of weights, found {type(content).__name__}.")
    return content


def parse_checkpoint(path: Path, content: dict[str, Any]) -> Checkpoint:
    """Rebuild a checkpoint from a file's content; raises `CheckpointError` naming the part that does not fit."""
    found = content.get("format")
    if found != FORMAT or str(content.get("method")) not in METHODS:
        raise CheckpointError(
            f"{path}: expected a {FORMAT} checkpoint of {' or '.join(METHODS)}, found format {str(found)[:50]!r} and "
            f"method {str(content.get('method'))[:50]!r}. It is another kind of file, or of another version."
        )
    try:
        for name in ("settings", "weights", "normalisation", "provenance"):
            if not isinstance(content[name], dict):
                raise ValueError(f"'{name}' must be a dictionary, found {type(content[name]).__name__}")
        method, horizon = METHODS[content["method"]], content["horizon"]
        tokenizer = None if content["tokenizer"] is None else parse_tokenizer(content["tokenizer"])
        if type(horizon) is not int or horizon < 1:
            raise ValueError(f"'horizon' must be a positive number, found {horizon!r}")
        checkpoint = Checkpoint(
            method,
            make(method.settings_type, content["settings"]),
            Interface(
                horizon,
                _normalisation(content["normalisation"]["state"]),
                _normalisation(content["normalisation"]["action"]),
                tokenizer,
                read_facts(content["task"]) if "task" in content else BEFORE,
            ),
            content["weights"],
            content["provenance"],
        )
        _check_fit(checkpoint)
        _check_digests(content)
    except Exception as error:  # as above
        raise CheckpointError(
            f"{path}: its parts do not fit together ({one_line(error)[:200]}). Copy or train it again."
        ) from error
    return checkpoint


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and check one of our `.pth` files; raises `CheckpointError`."""
    return parse_checkpoint(path, read_pth(path))


def _normalisation(part: Any) -> Normalisation:
    if not isinstance(part, dict):
        raise ValueError(f"'normalisation' must hold dictionaries, found {type(part).__name__}")
    mean, std = part["mean"].numpy(), part["std"].numpy()
    plain = mean.ndim == 1 and len(mean) > 0 and mean.shape == std.shape and mean.dtype == std.dtype == np.float32
    if not plain or not np.isfinite(mean).all() or not ((std > 0) & np.isfinite(std)).all():
        raise ValueError("'normalisation' must hold finite means and positive deviations, float32, of one shape (D,)")
    return Normalisation(mean, std)


def _check_plain(content: Any, size: int) -> None:
    """Raise `ValueError` unless `content` is made of plain values and CPU tensors, no more than `size` bytes can hold.

    A file may repeat a value in many places, and expand a tensor of one number: a small file can describe huge content.
    """
    waiting, seen, held = [content], 0, 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, str):
            held += len(value)
        elif isinstance(value, Tensor):
            if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
                raise ValueError("a tensor that is not plain numbers")
            held += value.nbytes
        elif value is not None and not isinstance(value, int | float):
            raise ValueError(f"a value of the type {type(value).__name__}")
        if seen + len(waiting) > MAX_VALUES or held > 2 * size:
            raise ValueError("more values than the file has room for")


def _check_fit(checkpoint: Checkpoint) -> None:
    """Raise `ValueError` or `RuntimeError` unless the parts, each valid by itself, fit together.

    The file claims the size of its network, so the weights are compared with a network that takes no memory.
    """
    interface, tokenizer = checkpoint.interface, checkpoint.interface.tokenizer
    if not is_name(checkpoint.provenance.get(NAME, "")):
        raise ValueError("'name' in 'provenance' must be a line of text")
    if tokenizer and (tokenizer.horizon, tokenizer.action_dim) != (interface.horizon, len(interface.action.mean)):
        raise ValueError("'horizon' and the actions of 'normalisation' must be the tokenizer's")
    if interface.horizon * len(interface.action.mean) > MAX_CHUNK:
        raise ValueError(f"a chunk must have at most {MAX_CHUNK:,} numbers, found {interface.horizon} actions")
    with torch.device("meta"):
        network = checkpoint.method.build(checkpoint.settings, interface)
    check_weights(checkpoint.weights, network)


def _check_digests(content: dict[str, Any]) -> None:
    """Raise `ValueError` if the content, or in files of earlier versions the weights, changed since it was written."""
    if DIGEST in content and content[DIGEST] != content_digest(content):
        raise ValueError(f"the content has changed since it was written: its {DIGEST} does not match")
    declared = content["provenance"].get(WEIGHTS_SHA256)
    if declared is not None and declared != weights_digest(content["weights"]):
        raise ValueError("the weights have changed since they were written: their weights_sha256 does not match")


def content_digest(content: Mapping[str, Any]) -> str:
    """Return the sha256 over the content without the digest itself: tensors by their bytes, the rest as JSON."""
    plain = {name: value for name, value in content.items() if name not in ("weights", "normalisation", DIGEST)}
    parts = {f"{name} {key}": part[key].numpy() for name, part in content["normalisation"].items() for key in part}
    text = json.dumps([plain, weights_digest(content["weights"]), arrays_digest(parts)], sort_keys=True)
    return sha256(text.encode()).hexdigest()
