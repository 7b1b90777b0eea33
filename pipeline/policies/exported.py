"""A controller from an `.onnx` file of `python -m pipeline export`. Needs ONNX Runtime, and never torch.

input   state    (B, S) float32, physical units
output  actions  (B, H, A) float32, physical units

The metadata, all text: format "tinypi-onnx-1", name, method, horizon, state_dim, action_dim, task and provenance as
JSON, and content_sha256, the digest of the file's bytes with zeros in place of the digest.
"""

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pipeline.errors import CheckpointError, MissingExtraError, reason
from pipeline.files import is_file
from pipeline.policies.states import Floats, checked_actions, checked_states, is_name
from pipeline.tasks.facts import BEFORE, TaskFacts, read_facts

FORMAT = "tinypi-onnx-1"
DIGEST, UNSEALED = "content_sha256", 64 * "0"
# the digest's place in an ONNX file: the key, then (field 2, 64 bytes long) the value
PLACE = re.compile(DIGEST.encode() + rb"\x12\x40([0-9a-f]{64})")
INSTALL = "Install what it needs with: pip install -e '.[export]'"


@dataclass(frozen=True)
class ExportedPolicy:
    """A controller for states of `state_dim` numbers, planning `horizon` actions of `action_dim` numbers."""

    name: str
    method: str
    task: TaskFacts
    state_dim: int
    horizon: int
    action_dim: int
    provenance: dict[str, Any]  # copied from the model that was exported
    _session: Any

    def act(self, states: ArrayLike) -> Floats:
        """Plan chunks of actions `(B, H, A)` for `states (B, S)`, both in physical units.

        Raises `ValueError` for states that `checked_states` refuses, `RunError` for plans that are not finite.
        """
        array = checked_states(self.name, self.state_dim, states, self.task.observation)
        if not len(array):
            return np.empty((0, self.horizon, self.action_dim), np.float32)
        return checked_actions(self.name, self._session.run(("actions",), {"state": array})[0])


def seal(content: bytes) -> bytes:
    """Return the content of an `.onnx` file with its digest filled in.

    Raises `ValueError` if it has no place for a digest, or more than one.
    """
    (place,) = PLACE.finditer(content)
    start, end = place.span(1)
    zeroed = content[:start] + UNSEALED.encode() + content[end:]
    return content[:start] + sha256(zeroed).hexdigest().encode() + content[end:]


def load_exported(path: str | Path) -> ExportedPolicy:
    """Open an `.onnx` file, ready to act on one core.

    Raises `CheckpointError` if it is missing, damaged, changed since it was exported, or not one of ours,
    `MissingExtraError` without ONNX Runtime.
    """
    path = Path(path)
    if not is_file(path):
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
        if DIGEST not in facts:
            raise ValueError(f"no {DIGEST}")
        if not (is_name(facts["name"]) and is_name(facts["method"])):
            raise ValueError("'name' or 'method' is not a line of text")
        state_dim, horizon, action_dim = (int(facts[key]) for key in ("state_dim", "horizon", "action_dim"))
        expected = [("state", ["state"], [[state_dim]]), ("actions", ["actions"], [[horizon, action_dim]])]
        if ports != expected:
            raise ValueError(f"inputs and outputs {ports}")
        provenance = json.loads(facts["provenance"])
        if not isinstance(provenance, dict):
            raise ValueError("provenance that is not a JSON object")
        task = read_facts(json.loads(facts["task"])) if "task" in facts else BEFORE
        return ExportedPolicy(facts["name"], facts["method"], task, state_dim, horizon, action_dim, provenance, session)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: expected a policy in the format {FORMAT}, found an ONNX file of another kind or version "
            f"({reason(error)[:200]}). Make it with 'python -m pipeline export'."
        ) from error


def _open(path: Path) -> Any:
    """Make a session for one core: for such small networks a second thread, or spinning for it, costs time."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(f"{path}: ONNX Runtime is not installed. {INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # errors are raised as exceptions
    try:
        content = path.read_bytes()
        if PLACE.search(content) and seal(content) != content:
            raise ValueError(f"it has changed since it was exported: its {DIGEST} does not match")
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's exceptions have no common base class
        raise CheckpointError(
            f"{path}: expected an exported policy, found a damaged or foreign file ({reason(error)[:200]}). "
            "Make it with 'python -m pipeline export'."
        ) from error
