"""What somebody else's policy answers: chunks, each judged by itself. An answer that cannot be used is never mended.

Shapes: B states, H horizon, A action.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import PolicyError, one_line
from pipeline.policies.states import Floats

NUMBERS = "iuf"  # NumPy's kinds of types: an action is no truth, no text, no complex number
LONGEST_FOUND = 300  # characters of a message

UNDECODABLE, MISSHAPEN, NOT_FINITE, LATE = "not numbers", "of another shape", "not finite", "late"


@dataclass(frozen=True)
class Fault:
    """Why an answer holds no plan for a state."""

    kind: str  # one of the four above
    message: str  # expected ..., found ...


Chunk = Floats | Fault
"""A plan `(H, A)`, physical units, or why there is none."""


def read_chunks(answer: Any, count: int, action_dim: int, horizon: int | None = None) -> list[Chunk]:
    """Read an answer to `count` states, nested lists or arrays `(B, H, A)`: a chunk or a fault for each state.

    All chunks have the length `horizon`; None: that of the first chunk that is one.
    """
    rows = answer if isinstance(answer, list | tuple) else _as_array(answer)
    if isinstance(rows, Fault):
        return [rows] * count
    if (isinstance(rows, np.ndarray) and not rows.ndim) or len(rows) != count:
        shape = f"({count}, steps, {action_dim})"
        found = str(rows.shape) if isinstance(rows, np.ndarray) else f"{len(rows)} chunks"
        return [Fault(MISSHAPEN, f"expected chunks of shape {shape}, one for each state, found {found}")] * count
    chunks: list[Chunk] = []
    for row in rows:
        chunks.append(_read_chunk(row, action_dim, horizon))
        if horizon is None and not isinstance(chunks[-1], Fault):
            horizon = len(chunks[-1])
    return chunks


def require_chunks(name: str, chunks: Sequence[Chunk]) -> Floats:
    """Return the actions `(B, H, A)`; raises `PolicyError` for the first fault."""
    plans: list[Floats] = []
    for chunk in chunks:
        if isinstance(chunk, Fault):
            raise PolicyError(f"{name}: {chunk.message}.")
        plans.append(chunk)
    return np.stack(plans)


def shown(text: str) -> str:
    """Return the begin of a text from elsewhere as one line of printable characters, for a message."""
    line = " ".join(text.split())[:LONGEST_FOUND]
    return "".join(letter for letter in line if letter.isprintable()) or "nothing"


def _read_chunk(row: Any, action_dim: int, horizon: int | None) -> Chunk:
    array = _as_array(row)
    if isinstance(array, Fault):
        return array
    if array.ndim != 2 or array.shape[1] != action_dim or len(array) != (horizon or max(len(array), 1)):
        expected = f"({horizon or 'steps'}, {action_dim})"
        return Fault(MISSHAPEN, f"expected a chunk of shape {expected} for each state, found {array.shape}")
    with np.errstate(over="ignore"):  # values too large for float32 become infinite
        actions = array.astype(np.float32)
    if not np.isfinite(actions).all():
        return Fault(NOT_FINITE, "expected finite actions, found NaN or infinity")
    return actions


def _as_array(found: Any) -> np.ndarray | Fault:
    """Return numbers as an array; what only converts to numbers, such as text, is a fault."""
    expected = "expected numbers (states, steps, actions)"
    if not (isinstance(found, list | tuple | np.ndarray) or hasattr(found, "__array__")):
        value = f" {shown(repr(found)[:100])}" if isinstance(found, str | int | float | dict) else ""
        return Fault(UNDECODABLE, f"{expected}, found {type(found).__name__}{value}")
    try:
        array = np.asarray(found)
    except Exception as error:  # ragged lists; tensors that track gradients: any class of error
        return Fault(UNDECODABLE, f"{expected}, found {type(found).__name__}: {shown(one_line(error))}")
    if array.dtype.kind not in NUMBERS and array.size:
        return Fault(UNDECODABLE, f"{expected}, found the type {array.dtype}: {shown(repr(found)[:100])}")
    return array
