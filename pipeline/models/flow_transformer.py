"""The network of pi0: it predicts the velocity from a noisy chunk to the actions.

Shapes: B batch, H horizon, A action, P = H / patch tokens, W width, S state.
State and time are added to every token, so the sequence has only one token per patch.
"""

import torch
from torch import Tensor, nn

from pipeline.models.transformer import Block, attend, learned_positions, mlp_embedding

TIME_FREQUENCIES = 16
MAX_FREQUENCY = 150.0  # rad over t in [0, 1]


class FlowTransformer(nn.Module):
    """`(state (B, S), noisy (B, H, A), time (B,)) -> velocity (B, H, A)`, all in standard units, time in [0, 1]."""

    frequencies: Tensor
    noise_limit = None  # noise is not clipped

    def __init__(
        self,
        state_dim: int,
        horizon: int,
        action_dim: int,
        *,
        patch: int,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.patches = (horizon // patch, patch * action_dim)
        self.heads = heads
        self.register_buffer("frequencies", MAX_FREQUENCY ** torch.linspace(0, 1, TIME_FREQUENCIES), persistent=False)
        self.state_embedding = mlp_embedding(state_dim, width)
        self.time_embedding = mlp_embedding(2 * TIME_FREQUENCIES, width)
        self.patch_embedding = nn.Linear(self.patches[1], width)
        self.positions = learned_positions(self.patches[0], width)
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.velocity = nn.Linear(width, self.patches[1])

    def embed_time(self, time: Tensor) -> Tensor:
        """Embed `time (B,)` as `(B, W)`."""
        phases = time[:, None] * self.frequencies
        embedded: Tensor = self.time_embedding(torch.cat((phases.sin(), phases.cos()), 1))
        return embedded

    def forward(self, state: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        condition = self.state_embedding(state) + self.embed_time(time)
        x = self.patch_embedding(noisy.reshape(-1, *self.patches)) + self.positions + condition[:, None]
        for block in self.blocks:
            x = block(x, lambda qkv: attend(qkv, self.heads))
        velocity: Tensor = self.velocity(self.norm(x))
        return velocity.view_as(noisy)
