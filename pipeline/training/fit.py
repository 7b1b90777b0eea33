"""The training engine for any network and any loss.

`fit` is a generator, so logging, files and progress bars stay outside: `for event in fit(...)`. Neither the consumer
nor interrupting and resuming changes the result. All random numbers come from the streams named in `state.py`, and
dropout's.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.errors import DivergedError
from pipeline.methods.method import Loss, Method, Prepared, Rows, Stacked
from pipeline.methods.settings import TrainSettings
from pipeline.streams import global_torch_stream, torch_stream
from pipeline.training.state import Progress, Snapshot, State, start

EVALUATION_SEED = 7  # never the run's seed: validation and test use the same noise in every epoch and run
EVALUATION_BATCH = 512
STEP_EVENTS, STEP_SECONDS = 20, 1.0  # a Step event follows after so many steps or seconds


@dataclass(frozen=True)
class Problem:
    """The training problem: a network on its device, a loss, and the three parts of the data (on the CPU)."""

    network: nn.Module
    loss: Loss
    train: Rows
    val: Rows
    test: Rows
    weights: Tensor  # (N,) float64, of the training examples, see `draw_order`
    stacked: Stacked | None = None  # the loss, if models can be trained together


@dataclass(frozen=True)
class Step:
    """Progress within an epoch. `snapshot()` copies the training's state; valid until the generator resumes."""

    steps_done: int
    steps_total: int
    loss: float
    samples_per_second: float
    snapshot: Callable[[], Snapshot]


@dataclass(frozen=True)
class Epoch:
    """A pass over as many pairs as the training split has. Validation and test losses use the averaged weights."""

    epoch: int  # from 1
    train_loss: float
    val_loss: float
    test_loss: float
    lr: float  # of the last step
    grad_norm: float  # mean over the steps, before clipping
    samples_per_second: float  # of the steps alone, since the start or resumption; of models together each one's share
    weights: dict[str, Tensor] | None  # the averaged weights, if this is the best validation loss so far
    snapshot: Callable[[], Snapshot]


def problem_of(method: Method, network: nn.Module, prepared: Prepared, settings: TrainSettings) -> Problem:
    """Make the training problem.

    First pairs of trajectories have a higher weight: when the policy acts, one plan in seven to ten is for the start of
    an episode, but only one pair in 25 is from a start, and only starts cover the corners of the start box.
    """
    weights = torch.where(prepared.starts, settings.start_weight, 1.0).double()
    return Problem(network, method.loss, prepared.train, prepared.val, prepared.test, weights, method.stacked)


def draw_order(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the rows of an epoch: N of N rows, in proportion to their weights `(N,)`, in random order.

    By systematic resampling (e.g. Douc and Cappe 2005, arXiv cs/0507025), a row of weight w is drawn N * w / sum times,
    rounded up or down. So with equal weights each is drawn once.
    """
    count = len(weights)
    order = torch.randperm(count, generator=generator)
    ends = weights[order].cumsum(0)
    points = (torch.arange(count) + torch.rand((), generator=generator, dtype=ends.dtype)) * (ends[-1] / count)
    drawn = order[torch.searchsorted(ends, points, right=True).clamp(max=count - 1)]
    return drawn[torch.randperm(count, generator=generator)]


def fit(problem: Problem, settings: TrainSettings, resumed: Snapshot | None = None) -> Iterator[Step | Epoch]:
    """Train until the last epoch, or until the validation loss has not improved for `patience` epochs.

    With `resumed` it continues from that snapshot, to the same bits as without an interruption. The test loss does not
    affect the training.

    Raises `DivergedError` naming the step, before any update, if loss or gradient is not finite.
    """
    at = start(problem.network, settings)
    if resumed:
        at.restore(resumed)
    device = next(problem.network.parameters()).device
    steps_per_epoch = epoch_steps(problem.train, settings)
    steps_total = settings.epochs * steps_per_epoch
    samples, seconds = 0, 0.0

    while at.goes_on(settings):
        at.network.train()
        at.order_before = at.order.get_state()
        batches = torch.split(draw_order(problem.weights, at.order), settings.batch_size)
        done_before = at.step - (at.epoch - 1) * steps_per_epoch
        shown = time.perf_counter()
        for batch in batches[done_before:]:
            begun = time.perf_counter()
            loss = take_step(at, problem, settings, to_device(problem.train, batch, device), steps_total)
            now = time.perf_counter()
            samples, seconds = samples + len(batch), seconds + now - begun
            if at.step % STEP_EVENTS == 0 or now - shown > STEP_SECONDS:
                shown = now
                yield Step(at.step, steps_total, loss, samples / seconds, at.snapshot)

        val_loss = evaluate(at.averaged, settings, problem.loss, problem.val)
        test_loss = evaluate(at.averaged, settings, problem.loss, problem.test)
        improved, sums = at.end_epoch(settings, val_loss)
        weights = {key: value.cpu().clone() for key, value in at.averaged.state_dict().items()} if improved else None
        yield Epoch(
            epoch=at.epoch - 1,
            train_loss=sums.loss / sums.terms,
            val_loss=val_loss,
            test_loss=test_loss,
            lr=at.lr,
            grad_norm=sums.norm / steps_per_epoch,
            samples_per_second=samples / seconds if samples else 0.0,
            weights=weights,
            snapshot=at.snapshot,
        )


def take_step(at: State, problem: Problem, settings: TrainSettings, rows: Rows, steps_total: int) -> float:
    """Update the weights and their average by one batch; return its mean loss."""
    parameters: list[Tensor] = list(at.network.parameters())
    with global_torch_stream(settings.seed, "dropout", at.step):
        total, terms = problem.loss(at.network, settings, rows, at.chance)
    mean = total / terms
    for optimizer in at.optimizers:
        optimizer.zero_grad()
    mean.backward()  # type: ignore[no-untyped-call]
    norm = float(nn.utils.clip_grad_norm_(parameters, settings.grad_clip))
    value = float(mean.detach())
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise DivergedError(not_finite(at.step, at.epoch, value, norm))
    at.lr = step_lr(at, settings, steps_total)
    for optimizer in at.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = at.lr
        optimizer.step()
    at.step += 1
    with torch.no_grad():
        torch._foreach_lerp_(list(at.averaged.parameters()), parameters, 1 - average_decay(settings, at.step))
    at.sums.loss, at.sums.terms, at.sums.norm = at.sums.loss + value * terms, at.sums.terms + terms, at.sums.norm + norm
    return value


def not_finite(step: int, epoch: int, loss: float, norm: float) -> str:
    """Return the message about a step that was not done, after `step` steps."""
    return (
        f"training step {step + 1} (epoch {epoch}): expected a finite loss and gradient, found loss {loss:g} "
        f"and gradient norm {norm:g}. The weights were not updated; try a lower --lr."
    )


def step_lr(at: Progress, settings: TrainSettings, steps_total: int) -> float:
    """Return the learning rate of the next step."""
    return settings.lr * at.plateau.factor * schedule_factor(settings, at.step, steps_total)


def average_decay(settings: TrainSettings, step: int) -> float:
    """Return the decay of the averaged weights after `step` steps: a shorter average at the beginning."""
    return min(settings.ema, step / (step + 10))


def training_warnings(settings: TrainSettings, prepared: Prepared) -> tuple[str, ...]:
    """Return warnings about the settings, before the training starts."""
    steps = settings.epochs * epoch_steps(prepared.train, settings)
    if (warmup := warmup_steps(settings, steps)) == settings.warmup:
        return ()
    return (f"a warm-up of {settings.warmup} steps is too long for {steps} training steps: it becomes {warmup}.",)


def epoch_steps(rows: Rows, settings: TrainSettings) -> int:
    """Return the number of optimiser steps per epoch."""
    return math.ceil(len(rows[0]) / settings.batch_size)


def warmup_steps(settings: TrainSettings, steps_total: int) -> int:
    """Return the number of warm-up steps: as set, but at most a quarter of the training."""
    return min(settings.warmup, steps_total // 4)


def schedule_factor(settings: TrainSettings, step: int, steps_total: int) -> float:
    """Return the factor of the peak learning rate at `step` (from 0): linear warm-up, then cosine to 0 or constant."""
    warmup = warmup_steps(settings, steps_total)
    if step < warmup:
        return (step + 1) / warmup
    if settings.schedule != "cosine":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps_total - warmup)))


@torch.inference_mode()
def evaluate(network: nn.Module, settings: TrainSettings, loss: Loss, rows: Rows) -> float:
    """Return the mean loss over all `rows`, with noise that is the same in every epoch and run."""
    network.eval()
    device = next(network.parameters()).device
    chance = torch_stream(EVALUATION_SEED, "evaluation")
    loss_sum = loss_count = 0.0
    for batch in torch.split(torch.arange(len(rows[0])), EVALUATION_BATCH):
        total, terms = loss(network, settings, to_device(rows, batch, device), chance)
        loss_sum, loss_count = loss_sum + float(total), loss_count + terms
    return loss_sum / loss_count


def to_device(rows: Rows, batch: Tensor, device: torch.device) -> Rows:
    """Move the examples with indices `batch` to the device."""
    return tuple(tensor[batch].to(device) for tensor in rows)
