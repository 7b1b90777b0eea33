"""The parts that both networks are built from.

Shapes: B batch, T tokens, W width, N heads, D = W / N, S state.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MLP_RATIO = 2

Attend = Callable[[Tensor], Tensor]
"""Attention: maps stacked queries, keys and values `(..., 3W)` to values `(..., W)`."""


class Block(nn.Module):
    """A pre-norm transformer layer. The caller passes the attention as `attend`."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, MLP_RATIO * width)
        self.mlp_out = nn.Linear(MLP_RATIO * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, attend: Attend) -> Tensor:
        mixed = self.attention_out(attend(self.queries_keys_values(self.attention_norm(x))))
        x = x + self.dropout(mixed)
        out: Tensor = x + self.dropout(self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x)))))
        return out


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split `(B, T, 3W)` into queries, keys and values, each `(B, N, T, D)`."""
    batch, tokens, _ = qkv.shape
    queries, keys, values = qkv.view(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    return queries, keys, values


def join_heads(values: Tensor) -> Tensor:
    """Join `(B, N, T, D)` into `(B, T, W)`."""
    return values.transpose(1, 2).flatten(2)


def attend(qkv: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention over `(B, T, 3W)`, to `(B, T, W)`.

    `mask (B or 1, 1, T, T)` is added to the scores: 0 where attention is allowed, -inf where not. (Torch uses its fast
    kernel only if the mask has all four axes.)
    """
    return join_heads(F.scaled_dot_product_attention(*split_heads(qkv, heads), attn_mask=mask))


def looking_mask(allowed: Tensor) -> Tensor:
    """Turn `allowed (B, T, T)`, True where attention is allowed, into a mask `(B, 1, T, T)` for `attend`."""
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill(~allowed, -torch.inf).unsqueeze(1)


def mlp_embedding(inputs: int, width: int) -> nn.Sequential:
    """Make a small network that maps `(B, inputs)` to `(B, W)`."""
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))


def learned_positions(count: int, width: int) -> nn.Parameter:
    """Make a table of `count` position embeddings `(count, W)`."""
    return nn.Parameter(0.02 * torch.randn(count, width))
