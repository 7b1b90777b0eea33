"""The one split of all runs: 80% train, 10% validation, 10% test, by trajectory.

Neighbouring chunks of one trajectory overlap, so a split by pair would put near-copies of the test set into training.
"""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.streams import numpy_stream

SPLIT_SEED = 2025  # never the run's seed: all runs of all methods share one split
MIN_GROUPS = 10


@dataclass(frozen=True)
class Split:
    """Row numbers of the pairs in each part, ascending, and a digest of the assignment of trajectories to parts."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    digest: str  # sha256, 64 hex digits; equal for the two methods' files of the same trajectories
    by_trajectory: bool


def split_pairs(trajectory: NDArray[np.int64] | None, count: int) -> Split:
    """Split `count` pairs by their trajectory `(count,)`, or by pair if it is None.

    Raises `DataError` if there are fewer than 10 trajectories, too few to fill the three parts.
    """
    group = np.arange(count) if trajectory is None else trajectory
    groups = np.unique(group)
    if len(groups) < MIN_GROUPS:
        raise DataError(
            f"training pairs: expected at least {MIN_GROUPS} trajectories, to split 80/10/10 by trajectory; "
            f"found {len(groups)}. Collect more with 'python -m pipeline collect --trajectories N'."
        )
    order = numpy_stream(SPLIT_SEED, "split").permutation(groups)
    tenth = len(groups) // 10
    parts = {"val": order[:tenth], "test": order[tenth : 2 * tenth], "train": order[2 * tenth :]}

    digest = sha256()
    for name in ("train", "val", "test"):
        digest.update(name.encode() + np.sort(parts[name]).astype("<i8").tobytes())
    rows = {name: np.flatnonzero(np.isin(group, part)) for name, part in parts.items()}
    return Split(**rows, digest=digest.hexdigest(), by_trajectory=trajectory is not None)
