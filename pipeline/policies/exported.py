"""A controller from an `.onnx` file of `python -m pipeline export`. Needs ONNX Runtime, and never torch.

input   state    (B, S) float32, physical units
output  actions  (B, H, A) float32, physical units

Its metadata, all text: format "tinypi-onnx-1", name, method, horizon, state_dim, action_dim, and provenance as JSON.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pipeline.errors import CheckpointError, MissingExtraError, one_line
from pipeline.policies.states import Floats, checked_states

FORMAT = "tinypi-onnx-1"
INSTALL = "Install what it needs with: pip install -e '.[export]'"


@dataclass(frozen=True)
class ExportedPolicy:
    """A controller for states of `state_dim` numbers, planning `horizon` actions of `action_dim` numbers."""

    name: str
    method: str
    state_dim: int
    horizon: int
    action_dim: int
    provenance: dict[str, Any]  # what the model it was made from says of itself
    _session: Any

    def act(self, states: ArrayLike) -> Floats:
        """Plan chunks of actions `(B, H, A)` for `states (B, S)`, both in physical units.

        Raises `ValueError` if the states have another shape or are not finite.
        """
        array = checked_states(self.name, self.state_dim, states)
        if not len(array):
            return np.empty((0, self.horizon, self.action_dim), np.float32)
        actions: Floats = self._session.run(("actions",), {"state": array})[0]
        return actions


def load_exported(path: str | Path) -> ExportedPolicy:
    """Open an `.onnx` file, ready to act on one core.

    Raises `CheckpointError` if it is missing, damaged or not one of ours, `MissingExtraError` without ONNX Runtime.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"{path}: expected an exported policy, found no file. Make one with 'python -m pipeline export'."
        )
    session = _open(path)
    facts: dict[str, str] = session.get_modelmeta().custom_metadata_map
    ports = [
        (name, [port.name for port in found], [port.shape[1:] for port in found])
        for name, found in (("state", session.get_inputs()), ("actions", session.get_outputs()))
    ]
    try:
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']!r}")
        state_dim, horizon, action_dim = (int(facts[key]) for key in ("state_dim", "horizon", "action_dim"))
        expected = [("state", ["state"], [[state_dim]]), ("actions", ["actions"], [[horizon, action_dim]])]
        if ports != expected:
            raise ValueError(f"inputs and outputs {ports}")
        provenance = json.loads(facts["provenance"])
        return ExportedPolicy(facts["name"], facts["method"], state_dim, horizon, action_dim, provenance, session)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path}: expected a policy in the format {FORMAT}, found an ONNX file of another kind or version "
            f"({one_line(error)[:200]}). Make it with 'python -m pipeline export'."
        ) from error


def _open(path: Path) -> Any:
    """A session for one core: the networks are so small that a second thread, or spinning for it, only costs."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(f"{path}: ONNX Runtime is not installed. {INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # its errors arrive as exceptions
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises kinds of its own, without a common base
        raise CheckpointError(
            f"{path}: expected an exported policy, found a damaged or foreign file ({one_line(error)[:200]}). "
            "Make it with 'python -m pipeline export'."
        ) from error
