"""Standardisation of states and actions: zero mean, unit deviation per dimension, from the training split only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
MIN_STD = 1e-6  # a constant dimension is centred, not scaled


@dataclass(frozen=True)
class Normalisation:
    """Mean and deviation of each dimension `(D,)`."""

    mean: Floats
    std: Floats

    @classmethod
    def of(cls, values: Floats) -> "Normalisation":
        """Measure `values (..., D)`."""
        flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
        std = flat.std(0)
        return cls(flat.mean(0).astype(np.float32), np.where(std < MIN_STD, 1.0, std).astype(np.float32))

    def apply(self, values: Floats) -> Floats:
        """Convert physical units to standard units, `(..., D)`."""
        return (values - self.mean) / self.std

    def invert(self, values: Floats) -> Floats:
        """Convert standard units to physical units, `(..., D)`."""
        return values * self.std + self.mean
