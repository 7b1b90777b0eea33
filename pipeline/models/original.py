"""The reference system's two networks, layer for layer, so that its trained weights load strictly.

Parameter names are those of its files. Shapes: B batch, H = 50 horizon, L tokens, V = 256 vocabulary, S = 4 state.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

WIDTH, LAYERS, HEADS, FEEDFORWARD, DROPOUT = 128, 4, 4, 256, 0.1
MAX_TOKENS = 25  # positions of its trained weights; trained on our chunks, it gets as many as they need
LAYER_OPTIONS = {"dropout": DROPOUT, "activation": "gelu", "batch_first": True}


def causal_mask(length: int, device: torch.device) -> Tensor:
    """Return a mask `(length, length)` that is True where attention is forbidden."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


class OriginalFlowTransformer(nn.Module):
    """`(state (B, S), noisy (B, H, 1), time (B,)) -> velocity (B, H, 1)`: one token per action, causal, post-norm."""

    noise_limit = 3.0  # the reference system clips its noise

    def __init__(self, state_dim: int, horizon: int) -> None:
        super().__init__()
        self.state_embedding = nn.Linear(state_dim, WIDTH)
        self.action_embedding = nn.Linear(1, WIDTH)
        self.time_embedding = nn.Linear(1, WIDTH)
        self.position_embedding = nn.Embedding(horizon + 1, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, FEEDFORWARD, **LAYER_OPTIONS)  # type: ignore[arg-type]
        self.transformer = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.flow_output = nn.Linear(WIDTH, 1)

    def forward(self, state: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        actions = self.action_embedding(noisy) + self.time_embedding(time[:, None, None])
        x = torch.cat((self.state_embedding(state)[:, None], actions), 1) + self.position_embedding.weight
        x = self.transformer(x, mask=causal_mask(x.shape[1], x.device), is_causal=True)
        velocity: Tensor = self.flow_output(x[:, 1:])
        return velocity


@dataclass
class Prefix:
    """The cache of decoding: the embedded state `(B, 1, W)` and the tokens so far `(B, l)`."""

    memory: Tensor
    tokens: Tensor

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows of the batch."""
        self.memory, self.tokens = self.memory[rows], self.tokens[rows]


class OriginalTokenTransformer(nn.Module):
    """Next-token logits from a decoder whose memory is the embedded state. No key-value cache, like the original."""

    first = None  # trained by likelihood only

    def __init__(self, state_dim: int, vocabulary: int, max_tokens: int = MAX_TOKENS) -> None:
        super().__init__()
        self.state_embedding = nn.Linear(state_dim, WIDTH)
        self.token_embedding = nn.Embedding(vocabulary, WIDTH)
        self.position_embedding = nn.Embedding(max_tokens, WIDTH)
        layer = nn.TransformerDecoderLayer(WIDTH, HEADS, FEEDFORWARD, **LAYER_OPTIONS)  # type: ignore[arg-type]
        self.transformer = nn.TransformerDecoder(layer, LAYERS)
        self.output_layer = nn.Linear(WIDTH, vocabulary)

    def forward(self, state: Tensor, tokens: Tensor, real: Tensor) -> Tensor:
        """Return the logits `(R, V)` of the token after each real one of `tokens (B, L)`."""
        return self.padded(state, tokens, real)[real]

    def padded(self, state: Tensor, tokens: Tensor, real: Tensor) -> Tensor:
        """Return the logits `(B, L, V)` after each of `tokens (B, L)`, padding included."""
        return self._logits(self.start(state).memory, tokens, ~real)

    def start(self, state: Tensor) -> Prefix:
        """Start decoding for `state (B, S)`."""
        memory = self.state_embedding(state)[:, None]
        return Prefix(memory, torch.empty(len(state), 0, dtype=torch.long, device=state.device))

    def next_logits(self, token: Tensor, prefix: Prefix) -> Tensor:
        """Append `token (B,)` to the prefix, and return the logits `(B, V)` of the next token."""
        prefix.tokens = torch.cat((prefix.tokens, token[:, None]), 1)
        return self._logits(prefix.memory, prefix.tokens, None)[:, -1]

    def _logits(self, memory: Tensor, tokens: Tensor, padding: Tensor | None) -> Tensor:
        length = tokens.shape[1]
        x = self.token_embedding(tokens) + self.position_embedding.weight[:length]
        x = self.transformer(
            x, memory, tgt_mask=causal_mask(length, x.device), tgt_key_padding_mask=padding, tgt_is_causal=True
        )
        logits: Tensor = self.output_layer(x)
        return logits
