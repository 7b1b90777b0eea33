"""How a model uses the several good ways of a task: entropy over the ways taken, and changes of the planned way.

Shapes: B episodes or plans, D decisions, P state, H horizon, A action. An option is -1 where none was taken.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.tasks.task import Array, Ints, World


def demonstrators_entropy(decisions: Sequence[Sequence[str]]) -> float:
    """Return the entropy, in bits, of demonstrators that draw each decision's options with equal chances."""
    return float(sum(np.log2(len(options)) for options in decisions))


def entropy_terms(taken: Ints, of_demonstrators: float) -> Array:
    """Return each episode's part of the entropy of the ways `taken (B, D)` by one model in one condition: `(B,)`.

    It is -log2 of the share of its way among the episodes that took one, over the demonstrators' entropy in bits; 0 for
    an episode that took no complete way. So the mean over B is the entropy as a share of the demonstrators', times the
    share of episodes that took a way. Few episodes underestimate it: a hundred that draw from 24 equal ways reach 0.96.
    """
    complete = (taken >= 0).all(1)
    if not complete.any():
        return np.zeros(len(taken))
    _, way, counts = np.unique(taken[complete], axis=0, return_inverse=True, return_counts=True)
    terms = np.zeros(len(taken))
    terms[complete] = -np.log2(counts[way.ravel()] / complete.sum()) / of_demonstrators
    return np.abs(terms)  # no -0


def count_switches(before: Ints, after: Ints) -> Ints:
    """Count the decisions that two plans, `before (B, D)` and `after (B, D)`, both make, and make differently: `(B,)`."""
    counts: Ints = ((before >= 0) & (after >= 0) & (before != after)).sum(1)
    return counts


def carry_out(world: World, states: Array, chunks: Array) -> Array:
    """Return what plans lead to: `(B, H+1, P)` from `states (B, P)` by `chunks (B, H, A)`, without noise."""
    found, _ = world.simulate(lambda step, _states: chunks[:, step], states, np.zeros_like(chunks, dtype=float), 1)
    return found
