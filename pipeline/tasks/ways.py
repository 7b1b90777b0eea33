"""How a policy chooses among the several good ways of a task: entropy over the ways taken, and changes of plan.

Shapes: B episodes, D decisions; an option that was not taken or not reached is -1.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def entropy_terms(taken: Ints, of_demonstrators: float) -> NDArray[np.float64]:
    """Return a number per episode `(B,)` whose mean is the entropy over the ways `taken (B, D)`.

    It is the way's surprisal, -log2 of its share of all B episodes, divided by the entropy `of_demonstrators` in bits;
    0 for an episode that did not decide everything: it took no way.
    """
    terms = np.zeros(len(taken))
    whole = (taken >= 0).all(1)
    if whole.any():
        _, which, counts = np.unique(taken[whole], axis=0, return_inverse=True, return_counts=True)
        terms[whole] = -np.log2(counts[which.reshape(-1)] / len(taken)) / of_demonstrators
    return terms


def count_switches(before: Ints, after: Ints) -> Ints:
    """Count the decisions that two plans `(B, D)` make differently, `(B,)`."""
    changed: Ints = ((before >= 0) & (after >= 0) & (before != after)).sum(1)
    return changed
