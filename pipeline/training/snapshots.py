"""Snapshots of a training as safetensors files, which run no code when read. Written atomically, with a digest."""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pipeline.errors import CheckpointError, reason
from pipeline.files import arrays_digest, whole_file
from pipeline.training.state import Snapshot

VALUES, DIGEST = "values", "sha256"


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write the file; an earlier file is kept until the new one is complete."""
    values = json.dumps(snapshot.values, sort_keys=True)
    with whole_file(path) as temporary:
        temporary.write_bytes(save(snapshot.tensors, {VALUES: values, DIGEST: _digest(snapshot, values)}))


def load_snapshot(path: Path) -> Snapshot:
    """Read the file; raises `CheckpointError` if it is damaged or changed."""
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            snapshot = Snapshot({name: file.get_tensor(name) for name in file.keys()}, json.loads(about[VALUES]))  # noqa: SIM118  # not a dict
        if about[DIGEST] != _digest(snapshot, about[VALUES]):
            raise ValueError("its digest does not match")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: expected the snapshot of a training, found a damaged file ({reason(error)}). "
            "Start a new training, without --resume."
        ) from error
    return snapshot


def _digest(snapshot: Snapshot, values: str) -> str:
    arrays = {name: tensor.numpy() for name, tensor in snapshot.tensors.items()}
    return arrays_digest(arrays | {VALUES: np.array(values)})
