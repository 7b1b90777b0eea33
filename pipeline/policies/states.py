"""Checks that every policy shares: of its name, of states, and of plans."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.data.npz import LARGEST
from pipeline.errors import RunError

Floats = NDArray[np.float32]
MAX_NAME = 200  # characters
NUMBERS = "biufO"  # NumPy's kinds of types that may hold numbers


def is_name(name: object) -> bool:
    """Tell whether this is a valid name of a policy: a line of printable text."""
    return isinstance(name, str) and len(name) <= MAX_NAME and name.isprintable()


def checked_states(
    name: str, state_dim: int, states: ArrayLike | Mapping[str, ArrayLike], channels: tuple[str, ...] = ()
) -> Floats:
    """Return the states as float32 `(B, S)`, from any type of number.

    Named columns, as of a DataFrame or a mapping, are ordered as `channels`, the names that the model knows.
    Raises `ValueError` for other columns, another shape, or values that are not numbers up to 1e18, the limit of data.
    """
    found = np.asarray(_in_order(name, channels, states))
    if found.dtype.kind not in NUMBERS:
        raise ValueError(f"{name}: expected numbers as states, found the type {found.dtype}.")
    try:
        with np.errstate(over="ignore"):  # values beyond float32 become infinite
            array = found.astype(np.float32, order="C")  # matrix products round by the order in memory
    except TypeError as error:
        raise ValueError(f"{name}: expected numbers as states, found other objects.") from error
    finite = bool(np.isfinite(array).all())
    if array.ndim != 2 or array.shape[1] != state_dim or not finite:
        raise ValueError(
            f"{name}: expected finite states of shape (B, {state_dim}), found shape {array.shape}"
            + ("." if finite else " with NaN or infinity.")
        )
    if (largest := float(np.abs(array).max(initial=0))) > LARGEST:
        raise ValueError(f"{name}: expected states of numbers up to {LARGEST:g}, found {largest:g}.")
    return array


def _in_order(name: str, channels: tuple[str, ...], states: Any) -> Any:
    """Return named columns in the order of `channels`, as an array; anything else unchanged."""
    mapping = isinstance(states, Mapping)
    columns = list(states if mapping else getattr(states, "columns", ()))
    if not mapping and columns == list(range(len(columns))):  # an array, or a DataFrame made of one
        return states
    if len(columns) != len(channels) or set(columns) != set(channels):
        expected = f"the columns {', '.join(channels)}, in any order" if channels else "states without names"
        raise ValueError(f"{name}: expected {expected}; found {', '.join(map(str, columns))[:200] or 'none'}.")
    return np.stack([np.asarray(states[channel]) for channel in channels], axis=-1)


def checked_actions(name: str, actions: Floats) -> Floats:
    """Return planned actions `(B, H, A)`; raises `RunError` if they are not finite."""
    if not np.isfinite(actions).all():
        raise RunError(f"{name}: expected plans of finite actions, found NaN or infinity. Train the model again.")
    return actions
