"""What every policy asks of its name and of the states it acts on."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
MAX_NAME = 200  # characters


def is_name(name: object) -> bool:
    """Whether a file may call its policy that: a line of text, fit to be printed."""
    return isinstance(name, str) and len(name) <= MAX_NAME and name.isprintable()


def checked_states(name: str, state_dim: int, states: ArrayLike) -> Floats:
    """Return the states as float32 `(B, S)`; raises `ValueError` if they have another shape or are not finite."""
    array = np.asarray(states, dtype=np.float32)
    finite = np.isfinite(array).all()
    if array.ndim != 2 or array.shape[1] != state_dim or not finite:
        raise ValueError(
            f"{name}: expected finite states of shape (B, {state_dim}), found shape {array.shape}"
            + ("." if finite else " with NaN or infinity.")
        )
    return array
