"""The state of a training: all that resuming needs, so that it continues to the same bits."""

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import CheckpointError
from pipeline.methods.settings import TrainSettings
from pipeline.models.transformer import Block
from pipeline.streams import torch_stream
from pipeline.training.muon import Muon

PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.6, 6


@dataclass(frozen=True)
class Snapshot:
    """A copy of a training's state between two steps: tensors on the CPU, and plain values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]

    @property
    def averaged(self) -> dict[str, Tensor]:
        """The averaged weights, which are kept if the training ends here."""
        return _below("averaged", self.tensors)


@dataclass(frozen=True)
class Plateau:
    """The learning-rate factor of the `plateau` schedule: cut when validation has not improved for some epochs."""

    factor: float = 1.0
    waited: int = 0

    def after(self, improved: bool) -> "Plateau":
        """Return the state after an epoch."""
        if improved:
            return Plateau(self.factor)
        if self.waited < PLATEAU_PATIENCE:
            return Plateau(self.factor, self.waited + 1)
        return Plateau(self.factor * PLATEAU_FACTOR)


@dataclass
class Sums:
    """Sums over the steps of an epoch."""

    loss: float = 0.0
    terms: float = 0.0  # of the loss
    norm: float = 0.0


@dataclass(kw_only=True)
class Progress:
    """How far a training is: its random streams and counters, without the weights."""

    order: torch.Generator
    chance: torch.Generator
    order_before: Tensor  # state of `order` before it drew this epoch's batches
    step: int = 0  # steps done, over all epochs
    epoch: int = 1  # the current one
    lr: float = 0.0  # of the last step
    sums: Sums = field(default_factory=Sums)  # of this epoch
    best: float = math.inf  # validation loss
    best_epoch: int = 0
    plateau: Plateau = field(default_factory=Plateau)

    def goes_on(self, settings: TrainSettings) -> bool:
        """Whether there is another epoch to train."""
        return self.epoch <= settings.epochs and self.epoch - 1 - self.best_epoch < settings.patience

    def end_epoch(self, settings: TrainSettings, val_loss: float) -> tuple[bool, Sums]:
        """Go to the next epoch; returns whether the validation loss has improved, and the sums of the epoch."""
        improved = val_loss < self.best
        if improved:
            self.best, self.best_epoch = val_loss, self.epoch
        if settings.schedule == "plateau":
            self.plateau = self.plateau.after(improved)
        sums, self.sums = self.sums, Sums()
        self.epoch += 1
        self.order_before = self.order.get_state()
        return improved, sums

    def values(self) -> dict[str, Any]:
        """What a snapshot holds of it beside the streams, as plain values."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "lr": self.lr,
            "sums": [self.sums.loss, self.sums.terms, self.sums.norm],
            "best": self.best if self.best_epoch else None,  # JSON knows no infinity
            "best_epoch": self.best_epoch,
            "plateau": [self.plateau.factor, self.plateau.waited],
        }

    def streams(self) -> dict[str, Tensor]:
        """The states of the streams, from which this epoch is drawn again and the noise goes on."""
        return {"order": self.order_before, "chance": self.chance.get_state()}

    def go_on_from(self, snapshot: Snapshot) -> None:
        """Continue where the training of a snapshot was."""
        values = snapshot.values
        self.order.set_state(snapshot.tensors["order"])
        self.chance.set_state(snapshot.tensors["chance"])
        self.step, self.epoch, self.lr = values["step"], values["epoch"], values["lr"]
        self.sums = Sums(*values["sums"])
        self.best_epoch = values["best_epoch"]
        self.best = values["best"] if self.best_epoch else math.inf
        self.plateau = Plateau(*values["plateau"])


@dataclass(kw_only=True)
class State(Progress):
    """A running training: its progress, weights, their average, and optimisers."""

    network: nn.Module
    averaged: nn.Module
    optimizers: tuple[torch.optim.Optimizer, ...]

    def snapshot(self) -> Snapshot:
        """Return a CPU copy of all that resuming needs."""
        moments = {
            f"{type(optimizer).__name__}.{number}.{name}": tensor
            for optimizer in self.optimizers
            for number, each in optimizer.state_dict()["state"].items()
            for name, tensor in each.items()
        }
        tensors = {
            **{f"network.{name}": tensor for name, tensor in self.network.state_dict().items()},
            **{f"averaged.{name}": tensor for name, tensor in self.averaged.state_dict().items()},
            **moments,
            **self.streams(),
        }
        return Snapshot({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, self.values())

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot of a training with the same settings and data.

        Raises `CheckpointError` if an optimiser's moments are missing: other code wrote it.
        """
        tensors = snapshot.tensors
        self.network.load_state_dict(_below("network", tensors))
        self.averaged.load_state_dict(snapshot.averaged)
        for optimizer in self.optimizers:
            kind = type(optimizer).__name__
            moments: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _below(kind, tensors).items():
                number, _, moment = name.partition(".")
                moments.setdefault(int(number), {})[moment] = tensor
            count = sum(len(group["params"]) for group in optimizer.param_groups)
            if snapshot.values["step"] and len(moments) != count:
                raise CheckpointError(
                    f"snapshot: expected the moments of {count} parameters of {kind}, found {len(moments)}. "
                    "It was written by other code: start a new training, without --resume."
                )
            optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
        self.go_on_from(snapshot)


def start(network: nn.Module, settings: TrainSettings) -> State:
    """Return the state before the first step."""
    return State(
        network=network,
        averaged=copy.deepcopy(network).requires_grad_(False),
        optimizers=optimizers_of(network, settings),
        **streams_of(settings.seed),
    )


def streams_of(seed: int) -> dict[str, Any]:
    """Return the streams of a training's `Progress`, before the first step."""
    order = torch_stream(seed, "order")
    return {"order": order, "chance": torch_stream(seed, "noise"), "order_before": order.get_state()}


def matrices_of(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that Muon updates: the matrices of our transformer blocks."""
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    return [parameter for block in blocks for parameter in block.parameters() if parameter.ndim == 2]


def optimizers_of(network: nn.Module, settings: TrainSettings) -> tuple[torch.optim.Optimizer, ...]:
    """Make the optimisers: Muon for the matrices of our transformer blocks, AdamW for the rest and the original's."""
    matrices = matrices_of(network)
    taken = {id(matrix) for matrix in matrices}
    others = [parameter for parameter in network.parameters() if id(parameter) not in taken]
    fused = others[0].device.type != "mps"
    adamw = torch.optim.AdamW(others, lr=settings.lr, weight_decay=settings.weight_decay, fused=fused)
    return (adamw, Muon(matrices, settings.lr, settings.weight_decay)) if matrices else (adamw,)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors named PREFIX.REST, by REST."""
    return {name.removeprefix(f"{prefix}."): each for name, each in tensors.items() if name.startswith(f"{prefix}.")}
