"""How a policy chooses among the several good ways of a task: entropy over the ways taken, and changes of plan.

Shapes: B episodes or plans, D decisions, P state, H horizon, A action; an option not taken or not reached is -1.
"""

import numpy as np

from pipeline.tasks.task import Array, Ints, World


def entropy_terms(taken: Ints, of_demonstrators: float) -> Array:
    """Return each episode's part of the entropy over the ways `taken (B, D)` of one model in one condition: `(B,)`.

    It is the way's surprisal, -log2 of its share of the episodes that took one, divided by the entropy
    `of_demonstrators` in bits; 0 for an episode that did not decide everything: it took no way. So the mean over B is
    the entropy as a share of the demonstrators', times the share of episodes that took a way: one way, taken or not
    from chance to chance, has none. Few episodes fall short: a hundred that draw from 24 ways alike reach some 0.96.
    """
    terms = np.zeros(len(taken))
    whole = (taken >= 0).all(1)
    if whole.any():
        _, which, counts = np.unique(taken[whole], axis=0, return_inverse=True, return_counts=True)
        terms[whole] = np.log2(whole.sum() / counts[which.reshape(-1)]) / of_demonstrators
    return terms


def count_switches(before: Ints, after: Ints) -> Ints:
    """Count the decisions that two plans `(B, D)` both make, and make differently: `(B,)`."""
    changed: Ints = ((before >= 0) & (after >= 0) & (before != after)).sum(1)
    return changed


def carry_out(world: World, states: Array, chunks: Array) -> Array:
    """Return where plans lead: states `(B, H+1, P)` from `states (B, P)` by `chunks (B, H, A)`, without noise."""
    found, _ = world.simulate(lambda step, _states: chunks[:, step], states, np.zeros(chunks.shape), 1)
    return found
