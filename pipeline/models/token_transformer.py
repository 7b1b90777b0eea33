"""The network of pi0-FAST: the next token, given the state and the tokens so far.

Shapes: B batch, L tokens, R real tokens of the batch (padding left out), K slots of a packed row, W width,
V vocabulary, S state.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.transformer import (
    Block,
    attend,
    join_heads,
    learned_positions,
    looking_mask,
    mlp_embedding,
    split_heads,
)

ROW_SLOTS = 32  # slots of a packed row, or as many as the longest sequence needs


@dataclass
class Cache:
    """What decoding keeps between tokens: the embedded state `(B, W)`, and keys and values a layer `(B, N, l, D)`."""

    condition: Tensor
    length: int = 0
    keys_values: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the batch only."""
        self.condition = self.condition[rows]
        self.keys_values = [(keys[rows], values[rows]) for keys, values in self.keys_values]


class TokenTransformer(nn.Module):
    """A causal transformer. The state is added to every token; sequences begin with BOS.

    In training, sequences are packed side by side into rows of equal length under a block mask, so padding costs
    next to nothing (sequences average a third of the longest) and every batch keeps its mix of lengths.
    """

    def __init__(
        self, state_dim: int, vocabulary: int, max_tokens: int, *, width: int, layers: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.max_tokens = max_tokens
        self.heads = heads
        self.state_embedding = mlp_embedding(state_dim, width)
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positions = learned_positions(max_tokens, width)
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, vocabulary)

    def forward(self, state: Tensor, tokens: Tensor, real: Tensor) -> Tensor:
        """Logits `(R, V)` of the token after each real one of `tokens (B, L)`; `real (B, L)` marks prefixes."""
        lengths = real.sum(1).tolist()
        slots = max(ROW_SLOTS, *lengths)
        starts, rows = pack(lengths, slots)
        sequence, position = real.nonzero(as_tuple=True)  # (R,), sequence after sequence
        slot = torch.tensor(starts, device=tokens.device)[sequence] + position

        owner = torch.full((rows * slots,), -1, device=tokens.device).index_copy(0, slot, sequence).view(rows, slots)
        earlier = torch.ones(slots, slots, dtype=torch.bool, device=tokens.device).tril()
        mask = looking_mask((owner[:, :, None] == owner[:, None, :]) & earlier)

        # index_select, not [...]: its gradient adds up in one order, whatever the number of threads.
        real_x = self.token_embedding(tokens[real]) + self.positions.index_select(0, position)
        real_x = real_x + self.state_embedding(state).index_select(0, sequence)
        x = real_x.new_zeros(rows * slots, real_x.shape[1]).index_copy(0, slot, real_x).view(rows, slots, -1)
        for block in self.blocks:
            x = block(x, lambda qkv: attend(qkv, self.heads, mask))
        logits: Tensor = self.logits(self.norm(x.flatten(0, 1)[slot]))
        return logits

    def start(self, state: Tensor) -> Cache:
        """Begin decoding for `state (B, S)`."""
        return Cache(self.state_embedding(state))

    def next_logits(self, token: Tensor, cache: Cache) -> Tensor:
        """Logits `(B, V)` of the token after `token (B,)`, whose keys and values join the cache."""
        x = self.token_embedding(token) + self.positions[cache.length] + cache.condition
        for layer, block in enumerate(self.blocks):

            def attend_cached(qkv: Tensor, layer: int = layer) -> Tensor:
                queries, keys, values = split_heads(qkv[:, None], self.heads)
                if layer < len(cache.keys_values):
                    past_keys, past_values = cache.keys_values[layer]
                    keys, values = torch.cat((past_keys, keys), 2), torch.cat((past_values, values), 2)
                    cache.keys_values[layer] = keys, values
                else:
                    cache.keys_values.append((keys, values))
                return join_heads(F.scaled_dot_product_attention(queries, keys, values))[:, 0]

            x = block(x, attend_cached)
        cache.length += 1
        logits: Tensor = self.logits(self.norm(x))
        return logits


def pack(lengths: list[int], slots: int) -> tuple[list[int], int]:
    """Lay sequences into rows of `slots`, longest first, each into the first row with room.

    Returns the start of each sequence, counted over rows laid end to end, and the number of rows.
    """
    starts = [0] * len(lengths)
    used: list[int] = []
    for sequence in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        length = lengths[sequence]
        row = next((row for row, taken in enumerate(used) if taken + length <= slots), len(used))
        if row == len(used):
            used.append(0)
        starts[sequence] = row * slots + used[row]
        used[row] += length
    return starts, len(used)
