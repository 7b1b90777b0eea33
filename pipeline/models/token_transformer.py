"""The network of pi0-FAST: the next token, given the state and the tokens so far.

Tokens encode integers. The network reads and writes them as features of these integers, so neighbouring integers
generalise to each other, and the number of parameters hardly depends on the vocabulary.

Shapes: B batch, L tokens, R real tokens of the batch (padding left out), K slots of a packed row, W width,
V vocabulary, F features, C coefficients of a chunk, S state.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
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

ROW_SLOTS = 32  # slots of a packed row
ROW_SLACK = 1.3  # most slots per token; rows become twice as long where they have more
FEATURE_INTEGERS = 3  # the first integers of a token are its features
FEATURE_PERIODS = 8  # periods of the waves that represent an integer, from 4 steps to 4 times the largest integer
CODE = 6  # learned features per token, for what its first integers do not tell


@dataclass
class Cache:
    """The cache of decoding.

    The embedded state `(B, W)`, the token tables `(V, W)`, how many coefficients are filled `(B,)`, and keys and values
    per layer `(B, N, l, D)`.
    """

    condition: Tensor
    embedding: Tensor
    head: Tensor
    filled: Tensor
    keys_values: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows of the batch."""
        self.condition, self.filled = self.condition[rows], self.filled[rows]
        self.keys_values = [(keys[rows], values[rows]) for keys, values in self.keys_values]


class TokenTransformer(nn.Module):
    """A causal transformer. The state is added to every token; sequences begin with BOS.

    In training, sequences are packed into rows of equal length under a block mask. So padding costs next to nothing
    (sequences average a third of the longest), and batches need not be sorted by length.
    """

    features: Tensor
    lengths: Tensor
    first: Tensor
    steps: Tensor

    def __init__(
        self,
        state_dim: int,
        pieces: Sequence[tuple[int, ...]],
        steps: NDArray[np.float64],
        *,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
    ) -> None:
        """`pieces` are the integers of each token, `V` tuples; `steps (C,)` are those per unit of each coefficient."""
        super().__init__()
        self.max_tokens = len(steps) + 1  # BOS and, at worst, one token per coefficient
        self.heads = heads
        self.register_buffer("features", token_features(pieces), persistent=False)
        self.register_buffer("lengths", torch.tensor([len(piece) for piece in pieces]), persistent=False)
        first = torch.tensor([float(piece[0]) if piece else 0.0 for piece in pieces])
        self.register_buffer("first", first, persistent=False)  # first integers, 0 for specials
        self.register_buffer("steps", torch.from_numpy(steps).float(), persistent=False)
        count = self.features.shape[1] + CODE
        self.state_embedding = mlp_embedding(state_dim, width)
        self.code = nn.Parameter(0.3 * torch.randn(len(pieces), CODE))
        self.token_embedding = nn.Linear(count, width)
        self.token_head = nn.Parameter(0.02 * torch.randn(count, width))
        self.token_bias = nn.Parameter(torch.zeros(len(pieces)))
        self.positions = learned_positions(len(steps) + 1, width)  # by coefficients filled, not by tokens
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return the input and output embeddings of the tokens, each `(V, W)`."""
        features = torch.cat((self.features, self.code), 1)
        return self.token_embedding(features), features @ self.token_head

    def forward(self, state: Tensor, tokens: Tensor, real: Tensor) -> Tensor:
        """Return the logits `(R, V)` of the token after each real one of `tokens (B, L)`; `real (B, L)` marks those."""
        lengths = real.sum(1).tolist()
        starts, rows, slots = pack(lengths)
        sequence, position = real.nonzero(as_tuple=True)  # (R,), sequence after sequence
        slot = torch.tensor(starts, device=tokens.device)[sequence] + position

        owner = torch.full((rows * slots,), -1, device=tokens.device).index_copy(0, slot, sequence).view(rows, slots)
        earlier = torch.ones(slots, slots, dtype=torch.bool, device=tokens.device).tril()
        mask = looking_mask((owner[:, :, None] == owner[:, None, :]) & earlier)

        # index_select, not [...]: its gradient adds up in one order for any number of threads.
        embedding, head = self.tables()
        filled = self.lengths[tokens].cumsum(1)[real].clamp(max=self.max_tokens - 1)
        real_x = embedding.index_select(0, tokens[real]) + self.positions.index_select(0, filled)
        real_x = real_x + self.state_embedding(state).index_select(0, sequence)
        x = real_x.new_zeros(rows * slots, real_x.shape[1]).index_copy(0, slot, real_x).view(rows, slots, -1)
        for block in self.blocks:
            x = block(x, lambda qkv: attend(qkv, self.heads, mask))
        return F.linear(self.norm(x.flatten(0, 1)[slot]), head, self.token_bias)

    def padded(self, state: Tensor, tokens: Tensor, real: Tensor) -> Tensor:
        """Return the logits `(B, L, V)` after each of `tokens (B, L)`, padding at the end included, without packing.

        Shapes depend on no value, and tables are read by products of matrices, whose gradients add up in one order on a
        GPU as well.
        """
        length = tokens.shape[1]
        mask = looking_mask(torch.ones(1, length, length, dtype=torch.bool, device=tokens.device).tril())
        embedding, head = self.tables()
        filled = self.lengths[tokens].cumsum(1).clamp(max=self.max_tokens - 1)
        x = one_hot(tokens, len(embedding)) @ embedding + one_hot(filled, self.max_tokens) @ self.positions
        x = x + self.state_embedding(state)[:, None]
        for block in self.blocks:
            x = block(x, lambda qkv: attend(qkv, self.heads, mask))
        return F.linear(self.norm(x), head, self.token_bias)

    def start(self, state: Tensor) -> Cache:
        """Start decoding for `state (B, S)`."""
        filled = torch.zeros(len(state), dtype=torch.long, device=state.device)
        return Cache(self.state_embedding(state), *self.tables(), filled)

    def next_logits(self, token: Tensor, cache: Cache) -> Tensor:
        """Add the keys and values of `token (B,)` to the cache, and return the logits `(B, V)` of the next token."""
        cache.filled = (cache.filled + self.lengths[token]).clamp(max=self.max_tokens - 1)
        x = cache.embedding[token] + self.positions[cache.filled] + cache.condition
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
        return F.linear(self.norm(x), cache.head, self.token_bias)


def one_hot(ids: Tensor, count: int) -> Tensor:
    """Return `ids (...)` as `(..., count)`: 1 at the id, 0 elsewhere. (Torch's own waits for a GPU.)"""
    return (ids[..., None] == torch.arange(count, device=ids.device)).float()


def token_features(pieces: Sequence[tuple[int, ...]]) -> Tensor:
    """Return the fixed features of tokens, `(V, F)`: their first integers as waves, and their number of integers."""
    largest = max((abs(integer) for piece in pieces for integer in piece), default=0) or 1
    value, present = np.zeros((2, len(pieces), FEATURE_INTEGERS))
    for token, piece in enumerate(pieces):
        first = piece[:FEATURE_INTEGERS]
        value[token, : len(first)], present[token, : len(first)] = first, 1
    share = 2 * value / largest
    phases = value[..., None] * (2 * np.pi / np.geomspace(4, 4 * largest, FEATURE_PERIODS))
    waves = np.stack((np.sin(phases), np.cos(phases)), -1).reshape(*value.shape, -1)
    shown = np.concatenate((np.stack((np.ones_like(share), share, share**2), -1), waves), -1) * present[..., None]
    lengths = np.array([len(piece) for piece in pieces])
    size = np.stack((np.log1p(lengths), lengths / lengths.max(initial=1)), 1)
    return torch.from_numpy(np.concatenate((shown.reshape(len(pieces), -1), size), 1)).float()


def pack(lengths: list[int]) -> tuple[list[int], int, int]:
    """Pack sequences into rows of `ROW_SLOTS`, or as many as the longest sequence needs; into rows twice as long where
    too many slots would stay empty.

    Returns the start of each sequence, counted over the concatenated rows, the number of rows, and their slots.
    """
    slots = max(ROW_SLOTS, *lengths)
    starts, rows = fill_rows(lengths, slots)
    if rows * slots > ROW_SLACK * sum(lengths):
        longer_starts, longer_rows = fill_rows(lengths, 2 * slots)
        if 2 * longer_rows < rows:
            return longer_starts, longer_rows, 2 * slots
    return starts, rows, slots


def fill_rows(lengths: list[int], slots: int) -> tuple[list[int], int]:
    """Put each sequence, longest first, into the first row of `slots` with enough space.

    Returns the start of each sequence, counted over the concatenated rows, and the number of rows.
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
