"""A checkpoint as an ONNX file that acts without torch; `exported.py` describes the file."""

import json
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import CheckpointError, MissingExtraError, SettingsError
from pipeline.models.graph import Graph
from pipeline.names import NAME, WEIGHTS_SHA256
from pipeline.policies.checkpoint import Checkpoint, weights_digest
from pipeline.policies.exported import DIGEST, FORMAT, INSTALL, UNSEALED, seal


def onnx_bytes(path: Path, checkpoint: Checkpoint) -> bytes:
    """Return the content of a checkpoint's `.onnx` file; `path` is its name in errors.

    Raises `CheckpointError` if its method or its settings cannot be exported, `MissingExtraError` without onnx.
    """
    if find_spec("onnx") is None:
        raise MissingExtraError(f"{path}: the package onnx, which exports it, is not installed. {INSTALL}")
    method, interface, graph = checkpoint.method, checkpoint.interface, Graph()
    if method.graph is None:
        raise CheckpointError(f"{path}: models of the method {method.name} cannot be exported.")
    try:
        actions = method.graph(graph, checkpoint.network(), checkpoint.acting, interface)
    except SettingsError as error:
        raise CheckpointError(f"{path}: {error}") from error
    state_dim, action_dim = len(interface.state.mean), len(interface.action.mean)
    metadata = {
        "format": FORMAT,
        "name": str(checkpoint.provenance.get(NAME, method.name)),
        "method": method.name,
        "horizon": str(interface.horizon),
        "state_dim": str(state_dim),
        "action_dim": str(action_dim),
        "provenance": json.dumps(checkpoint.provenance | {WEIGHTS_SHA256: weights_digest(checkpoint.weights)}),
        "task": json.dumps(interface.task.values()),
        DIGEST: UNSEALED,
    }
    return seal(graph.to_bytes(("B", state_dim), actions, ("B", interface.horizon, action_dim), metadata))
