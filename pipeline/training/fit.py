"""The one training engine: any network, any loss, one epoch after another.

`fit` is a generator, so logging, files and progress bars stay outside: `for event in fit(...)`. Being watched changes
nothing. All chance comes from the streams named here.
"""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.config import TrainSettings
from pipeline.errors import RunError
from pipeline.methods.method import Loss, Rows
from pipeline.streams import global_torch_stream, torch_stream

EVALUATION_SEED = 7  # never the run's seed: validation and test see the same noise in every epoch and every run
EVALUATION_BATCH = 512
STEP_EVENTS = 20  # steps between two Step events
PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.6, 6


@dataclass(frozen=True)
class Problem:
    """What is trained: a network on its device, a loss, and the three parts of the data (on the CPU)."""

    network: nn.Module
    loss: Loss
    train: Rows
    val: Rows
    test: Rows


@dataclass(frozen=True)
class Step:
    """A sign of life within an epoch."""

    steps_done: int
    steps_total: int
    loss: float
    samples_per_second: float


@dataclass(frozen=True)
class Epoch:
    """One pass over the training split. Validation and test losses are those of the averaged weights."""

    epoch: int  # from 1
    train_loss: float
    val_loss: float
    test_loss: float
    lr: float  # of the last step
    grad_norm: float  # mean over the steps, before clipping
    samples_per_second: float  # training alone
    weights: dict[str, Tensor] | None  # the averaged weights, if this is the best validation loss so far


def fit(problem: Problem, settings: TrainSettings) -> Iterator[Step | Epoch]:
    """Train until the last epoch, or until `patience` epochs bring no better validation loss.

    The test loss decides nothing.

    Raises `RunError` naming the step, before any update, where loss or gradient is not finite.
    """
    network, seed = problem.network, settings.seed
    device = next(network.parameters()).device
    parameters: list[Tensor] = list(network.parameters())
    averaged = copy.deepcopy(network).requires_grad_(False)
    averages: list[Tensor] = list(averaged.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=device.type != "mps"
    )
    order, chance = torch_stream(seed, "order"), torch_stream(seed, "noise")

    count = len(problem.train[0])
    steps_per_epoch = math.ceil(count / settings.batch_size)
    steps_total = settings.epochs * steps_per_epoch
    step, best, best_epoch, plateau = 0, math.inf, 0, Plateau()

    for epoch in range(1, settings.epochs + 1):
        network.train()
        loss_sum = loss_count = norm_sum = 0.0
        started = time.perf_counter()
        for batch in torch.split(torch.randperm(count, generator=order), settings.batch_size):
            with global_torch_stream(seed, "dropout", step):
                total, terms = problem.loss(network, settings, to_device(problem.train, batch, device), chance)
            mean = total / terms
            optimizer.zero_grad()
            mean.backward()  # type: ignore[no-untyped-call]
            norm = float(nn.utils.clip_grad_norm_(parameters, settings.grad_clip))
            value = float(mean.detach())
            if not (math.isfinite(value) and math.isfinite(norm)):
                raise RunError(
                    f"training step {step + 1} (epoch {epoch}): expected a finite loss and gradient, found loss "
                    f"{value:g} and gradient norm {norm:g}. The weights were not updated; try a lower --lr."
                )
            lr = settings.lr * plateau.factor * schedule_factor(settings, step, steps_total)
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            step += 1
            decay = min(settings.ema, step / (step + 10))  # a young average follows fast
            with torch.no_grad():
                torch._foreach_lerp_(averages, parameters, 1 - decay)
            loss_sum, loss_count, norm_sum = loss_sum + value * terms, loss_count + terms, norm_sum + norm
            if step % STEP_EVENTS == 0:
                seen = ((step - 1) % steps_per_epoch + 1) * settings.batch_size
                yield Step(step, steps_total, value, seen / (time.perf_counter() - started))
        seconds = time.perf_counter() - started

        val_loss = evaluate(averaged, settings, problem.loss, problem.val)
        test_loss = evaluate(averaged, settings, problem.loss, problem.test)
        improved = val_loss < best
        if improved:
            best, best_epoch = val_loss, epoch
        if settings.schedule == "plateau":
            plateau = plateau.after(improved)
        yield Epoch(
            epoch=epoch,
            train_loss=loss_sum / loss_count,
            val_loss=val_loss,
            test_loss=test_loss,
            lr=lr,
            grad_norm=norm_sum / steps_per_epoch,
            samples_per_second=count / seconds,
            weights={key: value.cpu().clone() for key, value in averaged.state_dict().items()} if improved else None,
        )
        if epoch - best_epoch >= settings.patience:
            return


@dataclass(frozen=True)
class Plateau:
    """The learning-rate factor of the `plateau` schedule: cut when validation has stood still for some epochs."""

    factor: float = 1.0
    waited: int = 0

    def after(self, improved: bool) -> "Plateau":
        """The state after an epoch."""
        if improved:
            return Plateau(self.factor)
        if self.waited < PLATEAU_PATIENCE:
            return Plateau(self.factor, self.waited + 1)
        return Plateau(self.factor * PLATEAU_FACTOR)


def schedule_factor(settings: TrainSettings, step: int, steps_total: int) -> float:
    """The factor of the peak learning rate at `step` (from 0): linear warm-up, then cosine to 0 or constant."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    if settings.schedule != "cosine":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - settings.warmup) / max(1, steps_total - settings.warmup)))


@torch.inference_mode()
def evaluate(network: nn.Module, settings: TrainSettings, loss: Loss, rows: Rows) -> float:
    """The mean loss over all `rows`, with the fixed noise that every epoch and run sees."""
    network.eval()
    device = next(network.parameters()).device
    chance = torch_stream(EVALUATION_SEED, "evaluation")
    loss_sum = loss_count = 0.0
    for batch in torch.split(torch.arange(len(rows[0])), EVALUATION_BATCH):
        total, terms = loss(network, settings, to_device(rows, batch, device), chance)
        loss_sum, loss_count = loss_sum + float(total), loss_count + terms
    return loss_sum / loss_count


def to_device(rows: Rows, batch: Tensor, device: torch.device) -> Rows:
    """Take the examples numbered `batch` to the device."""
    return tuple(tensor[batch].to(device) for tensor in rows)
