"""The loss of pi0-FAST for models trained together: rows padded to one length, where alone they are packed.

Shapes: B batch, L tokens, V vocabulary.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.methods.method import Numbers, Rows
from pipeline.models.token_transformer import one_hot
from pipeline.tokenizer.fast import BOS, PAD


def stacked_loss(network: nn.Module, numbers: Numbers, rows: Rows) -> tuple[Tensor, Tensor]:
    """Sum and count by row of `pi0_fast.loss`, for `state (B, S)` and bare `sequences (B, L)`: see `Stacked`."""
    state, sequences = rows
    real = sequences != PAD
    read = F.pad(sequences[:, :-1], (1, 0), value=BOS)
    log_p = network.padded(state, read, real).log_softmax(2)  # type: ignore[operator]  # both token networks have it
    losses = -(log_p * one_hot(sequences, log_p.shape[2])).sum(2)
    first = cast(Tensor | None, network.first)  # None: likelihood only
    if first is not None:
        lengths, steps = cast(Tensor, network.lengths)[sequences], cast(Tensor, network.steps)
        next_up = (lengths.cumsum(1) - lengths).clamp(max=len(steps) - 1)
        miss = (log_p.exp() @ first - first[sequences]) / steps[next_up]
        losses = losses + numbers["expectation_weight"] * miss.square()
    return losses.masked_fill(~real, 0).sum(1), real.sum(1)
