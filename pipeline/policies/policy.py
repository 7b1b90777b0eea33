"""A trained controller, whatever its method: `policy.act(states (B, S)) -> actions (B, H, A)`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from pipeline.errors import RunError, TokenizerError
from pipeline.methods.method import Plans
from pipeline.policies.checkpoint import Checkpoint
from pipeline.policies.states import Floats, checked_actions, checked_states
from pipeline.streams import torch_stream

Act = Callable[[Floats, torch.Generator], Plans]


@dataclass(frozen=True)
class Policy:
    """A controller for states of `state_dim` numbers, planning `horizon` actions of `action_dim` numbers."""

    name: str
    method: str
    state_dim: int
    horizon: int
    action_dim: int
    _act: Act
    provenance: dict[str, Any] = field(default_factory=dict)  # what the checkpoint says of itself
    _generator: torch.Generator = field(default_factory=lambda: torch_stream(0, "act"))

    def act(self, states: ArrayLike, generator: torch.Generator | None = None) -> Floats:
        """Plan chunks of actions `(B, H, A)` for `states (B, S)`, both in physical units; see `plan`."""
        return self.plan(states, generator).actions

    @torch.inference_mode()
    def plan(self, states: ArrayLike, generator: torch.Generator | None = None) -> Plans:
        """Plan chunks for `states (B, S)` in physical units, and say how many tokens they took.

        `generator` is where methods that start from noise draw it; without one the policy uses its own.
        Raises `ValueError` for states that `checked_states` refuses, `RunError` for plans that are not
        whole and finite.
        """
        array = checked_states(self.name, self.state_dim, states)
        if not len(array):
            return Plans(np.empty((0, self.horizon, self.action_dim), np.float32))
        try:
            plans = self._act(array, self._generator if generator is None else generator)
        except TokenizerError as error:  # no token was likelier than any other: they are all NaN
            raise RunError(
                f"{self.name}: expected plans of whole chunks, found less. Train the model again."
            ) from error
        checked_actions(self.name, plans.actions)
        return plans


def policy_of(checkpoint: Checkpoint) -> Policy:
    """The policy that a checkpoint describes."""
    network, interface = checkpoint.network(), checkpoint.interface

    def act(states: Floats, generator: torch.Generator) -> Plans:
        return checkpoint.method.act(network, checkpoint.settings, interface, states, generator)

    name = str(checkpoint.provenance.get("name", checkpoint.method.name))
    return Policy(
        name,
        checkpoint.method.name,
        len(interface.state.mean),
        interface.horizon,
        len(interface.action.mean),
        act,
        checkpoint.provenance,
    )
