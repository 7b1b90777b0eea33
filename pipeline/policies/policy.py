"""A trained controller of any method: `policy.act(states (B, S)) -> actions (B, H, A)`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from pipeline.errors import RunError, TokenizerError
from pipeline.methods.method import Noise, Plans
from pipeline.names import NAME
from pipeline.policies.checkpoint import Checkpoint
from pipeline.policies.states import Floats, checked_actions, checked_states
from pipeline.streams import torch_stream
from pipeline.tasks.facts import TaskFacts

Act = Callable[[Floats, Noise], Plans]


def noise_of(generator: torch.Generator) -> Noise:
    """Return noise for consecutive plans, all from one generator."""
    return lambda shape: torch.randn(shape, generator=generator)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A controller for states of `state_dim` numbers, planning `horizon` actions of `action_dim` numbers."""

    name: str
    method: str
    task: TaskFacts
    state_dim: int
    horizon: int
    action_dim: int
    _act: Act
    provenance: dict[str, Any] = field(default_factory=dict)  # of the checkpoint
    rebuild: Callable[[Floats], Floats] | None = None  # chunks (N, H, A) as its tokenizer rebuilds them, if it has one
    _noise: Noise = field(default_factory=lambda: noise_of(torch_stream(0, "act")))

    def act(self, states: ArrayLike, noise: Noise | None = None) -> Floats:
        """Plan chunks of actions `(B, H, A)` for `states (B, S)`, both in physical units; see `plan`."""
        return self.plan(states, noise).actions

    @torch.inference_mode()
    def plan(self, states: ArrayLike, noise: Noise | None = None) -> Plans:
        """Plan chunks for `states (B, S)` in physical units, and count their tokens.

        Methods that start from noise draw it by `noise`; without it, the policy draws from its own stream.
        Raises `ValueError` for states that `checked_states` refuses, `RunError` for plans that are not complete
        and finite.
        """
        array = checked_states(self.name, self.state_dim, states, self.task.observation)
        if not len(array):
            return Plans(np.empty((0, self.horizon, self.action_dim), np.float32))
        try:
            plans = self._act(array, self._noise if noise is None else noise)
        except TokenizerError as error:  # all logits are NaN
            raise RunError(
                f"{self.name}: expected plans of complete chunks, found less. Train the model again."
            ) from error
        checked_actions(self.name, plans.actions)
        return plans


def policy_of(checkpoint: Checkpoint) -> Policy:
    """Make the policy of a checkpoint."""
    network, acting, interface = checkpoint.network(), checkpoint.acting, checkpoint.interface

    def act(states: Floats, noise: Noise) -> Plans:
        return checkpoint.method.act(network, acting, interface, states, noise)

    def rebuild(chunks: Floats) -> Floats:
        assert interface.tokenizer is not None
        return interface.tokenizer.dequantise(interface.tokenizer.quantise(chunks)[0])

    name = str(checkpoint.provenance.get(NAME, checkpoint.method.name))
    return Policy(
        name=name,
        method=checkpoint.method.name,
        task=interface.task,
        state_dim=len(interface.state.mean),
        horizon=interface.horizon,
        action_dim=len(interface.action.mean),
        _act=act,
        provenance=checkpoint.provenance,
        rebuild=rebuild if interface.tokenizer else None,
    )
