"""Training pairs on disk: a state and the chunk of actions that follows it, as numbers or tokens.

Shapes: N pairs, H horizon, S state, A action, L tokens. The files keep the reference system's keys and shapes
(`state`, and `action_chunk` or `token_seq`) and add the origin of each pair (`trajectory`, `step`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.npz import Arrays, read_npz, require, write_npz
from pipeline.errors import DataError, one_line
from pipeline.tasks.facts import KEY, UNKNOWN, TaskFacts, read_facts

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ActionPairs:
    """States with their chunks of actions in physical units."""

    state: NDArray[np.float32]  # (N, S)
    action_chunk: NDArray[np.float32]  # (N, H, A)
    trajectory: Ints | None  # (N,) the trajectory a pair was cut from; None in files without it
    step: Ints | None  # (N,)
    metadata: dict[str, Any]
    task: TaskFacts = UNKNOWN


@dataclass(frozen=True)
class TokenPairs:
    """States with their chunks as FAST tokens: BOS, the chunk's tokens, EOS, then PAD to the longest."""

    state: NDArray[np.float32]  # (N, S)
    token_seq: Ints  # (N, L)
    trajectory: Ints | None
    step: Ints | None
    metadata: dict[str, Any]
    task: TaskFacts = UNKNOWN


def save_action_pairs(path: Path, pairs: ActionPairs) -> None:
    """Write `state (N, S)` and `action_chunk`, as `(N, H)` where A is 1 (the reference system's shape)."""
    chunk = pairs.action_chunk
    chunk = chunk[..., 0] if chunk.shape[-1] == 1 else chunk
    write_npz(path, {"state": pairs.state, "action_chunk": chunk, **_origin(pairs)}, pairs.metadata)


def save_token_pairs(path: Path, pairs: TokenPairs) -> None:
    """Write `state (N, S)` and `token_seq (N, L)` int32."""
    arrays = {"state": pairs.state, "token_seq": pairs.token_seq.astype(np.int32), **_origin(pairs)}
    write_npz(path, arrays, pairs.metadata)


def load_action_pairs(path: Path) -> ActionPairs:
    """Read pairs of states and actions, the reference system's files included; raises `DataError`."""
    from pipeline.tasks.dataset import maker_of  # served models carry this file, and not that one

    rebuild = maker_of(path)
    arrays, metadata = read_npz(path, rebuild)
    state = require(path, arrays, "state", (None, None), "f", rebuild)
    dims = 3 if "action_chunk" in arrays and arrays["action_chunk"].ndim == 3 else 2
    chunk = require(path, arrays, "action_chunk", (len(state), *[None] * (dims - 1)), "f", rebuild)
    chunk = chunk.reshape(*chunk.shape[:2], -1)
    origin = _load_origin(path, arrays, len(state), rebuild)
    return ActionPairs(state, chunk, *origin, metadata, load_task(path, metadata, rebuild))


def load_token_pairs(path: Path) -> TokenPairs:
    """Read pairs of states and tokens, the reference system's files included; raises `DataError`."""
    rebuild = "python -m pipeline tokenize"
    arrays, metadata = read_npz(path, rebuild)
    state = require(path, arrays, "state", (None, None), "f", rebuild)
    tokens = require(path, arrays, "token_seq", (len(state), None), "i", rebuild)
    origin = _load_origin(path, arrays, len(state), rebuild)
    return TokenPairs(state, tokens.astype(np.int64), *origin, metadata, load_task(path, metadata, rebuild))


def _origin(pairs: ActionPairs | TokenPairs) -> Arrays:
    columns = {"trajectory": pairs.trajectory, "step": pairs.step}
    return {key: column.astype(np.int32) for key, column in columns.items() if column is not None}


def _load_origin(path: Path, arrays: Arrays, count: int, rebuild: str) -> tuple[Ints | None, Ints | None]:
    columns = []
    for key in ("trajectory", "step"):
        column = require(path, arrays, key, (count,), "i", rebuild) if key in arrays else None
        columns.append(None if column is None else column.astype(np.int64))
    return columns[0], columns[1]


def load_task(path: Path, metadata: dict[str, Any], rebuild: str) -> TaskFacts:
    """Return the task that a file's metadata tell; raises `DataError`."""
    try:
        return read_facts(metadata.get(KEY))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: expected metadata that tell its task, found: {one_line(error)}. Make it with '{rebuild}'."
        ) from error
