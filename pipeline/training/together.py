"""Several models trained at once on one device, as one stack of networks: the same data order, noise and initial
weights as alone, from each model's own streams.

The bits are others than alone: sums run in another order. Dropout's masks come from one stream of the stack. The same
call gives the same bits twice on one device.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from pipeline.errors import SettingsError
from pipeline.methods.method import Stacked
from pipeline.methods.settings import Acting, TrainSettings
from pipeline.training.fit import (
    STEP_EVENTS,
    STEP_SECONDS,
    Epoch,
    Problem,
    Step,
    average_decay,
    draw_order,
    epoch_steps,
    not_finite,
    step_lr,
)
from pipeline.training.stack import BETAS, RESTING, Rates, Stack
from pipeline.training.state import Progress, Snapshot, streams_of

MOST = 100  # models of a stack: as many as `benchmarks.gpu` trains at once; the memory grows with each
M = TypeVar("M")
MAY_DIFFER = {
    "seed", "run_name", "resume", "experiment", "threads", "lr", "weight_decay", "grad_clip", "ema", "start_weight",
    "schedule", "warmup", "patience",
}  # fmt: skip


@dataclass(frozen=True)
class Broken:
    """The training of a model has ended here: its loss was not finite. The others go on."""

    reason: str


Told = tuple[int, Step | Epoch | Broken]
"""The number of a model, and what happened to it."""


def fit_together(
    problems: Sequence[Problem], settings: Sequence[TrainSettings], resumed: Sequence[Snapshot | None] = ()
) -> Iterator[Told]:
    """Train models of one method on the same rows, each as `fit` trains it, and yield the events of each.

    Settings may differ in those of `MAY_DIFFER`, in how models act, and in the numbers of their loss. With `resumed`,
    every model continues from its own snapshot: those that are ahead wait until the others have caught up. With the
    same models, it continues to the same bits.

    Raises `SettingsError` for settings that differ otherwise, and for a method whose models train alone only.
    """
    stacked = require_alike(problems[0].stacked, settings)
    stack = Stack(stacked, problems, settings)
    models = [Progress(**streams_of(each.seed)) for each in settings]
    for number, snapshot in enumerate(resumed):
        if snapshot is not None:
            models[number].go_on_from(snapshot)
            stack.restore(number, snapshot.tensors)
    yield from Together(stack, problems, settings, models).run()


def require_alike(stacked: Stacked | None, settings: Sequence[TrainSettings]) -> Stacked:
    """Return the loss of a method's models; raises `SettingsError` if those with these settings cannot be one stack."""
    if stacked is None:
        raise SettingsError("together: expected a method whose models can be trained together, found one without.")
    shared = [in_common(stacked, each) for each in settings]
    for name in shared[0]:
        found = {each[name] for each in shared}
        if len(found) > 1:
            raise SettingsError(
                f"{name}: expected one value for models that are trained together, found {' and '.join(sorted(found))}."
            )
    return stacked


def in_common(stacked: Stacked, settings: TrainSettings) -> dict[str, str]:
    """The settings, as text, that all models of one stack share; those that have them equal can be one stack."""
    kinds = [kind for kind in type(settings).__mro__ if issubclass(kind, Acting)]
    acting = {name for kind in kinds if not issubclass(kind, TrainSettings) for name in kind.model_fields}
    free = MAY_DIFFER | acting | set(stacked.numbers)
    return {name: str(getattr(settings, name)) for name in type(settings).model_fields if name not in free}


def stacks_of(models: Sequence[M]) -> list[Sequence[M]]:
    """Cut models that can be one stack into stacks of at most `MOST`."""
    return [models[first : first + MOST] for first in range(0, len(models), MOST)]


class Together:
    """A training of several models under way."""

    def __init__(
        self, stack: Stack, problems: Sequence[Problem], settings: Sequence[TrainSettings], models: list[Progress]
    ) -> None:
        self.stack, self.problems, self.settings, self.models = stack, problems, settings, models
        self.epoch_steps = epoch_steps(problems[0].train, settings[0])
        self.steps_total = settings[0].epochs * self.epoch_steps
        self.batches: dict[int, tuple[Tensor, ...]] = {}  # of the current epoch, by model
        self.broken: set[int] = set()
        self.untold: list[tuple[list[int], Tensor]] = []  # steps that were not looked at: their models, what they told
        self.samples = [0] * len(models)
        self.seconds = 0.0

    def run(self) -> Iterator[Told]:
        """Train all to their ends, and yield what happens to each."""
        shown = time.perf_counter()
        while running := [n for n in range(len(self.models)) if self._goes_on(n)]:
            if done := [n for n in running if self.models[n].step == self.models[n].epoch * self.epoch_steps]:
                yield from self._end_epoch(done)
                continue
            begun = time.perf_counter()
            step = min(self.models[n].step for n in running)
            self._step([n for n in running if self.models[n].step == step])
            looks = (step + 1) % STEP_EVENTS == 0 or (step + 1) % self.epoch_steps == 0
            events = self._look() if looks or time.perf_counter() - shown > STEP_SECONDS else []
            now = time.perf_counter()
            self.seconds += now - begun
            shown = now if events else shown
            yield from events

    def _goes_on(self, n: int) -> bool:
        return n not in self.broken and self.models[n].goes_on(self.settings[n])

    def _step(self, now: Sequence[int]) -> None:
        """Do the next step of the models `now`, which have done equally many; the others rest."""
        batches = {n: self._next_batch(n) for n in now}
        problem = self.problems[0]
        shapes = tuple(each[: len(batches[now[0]])] for each in problem.train)
        drawn = {n: self.stack.stacked.draw(problem.network, shapes, self.models[n].chance) for n in now}
        rates = {n: self._rates(n) for n in now}
        step = self.models[now[0]].step
        every = range(len(self.models))
        self.stack.step(
            step,
            [batches.get(n, batches[now[0]]) for n in every],
            [drawn.get(n, drawn[now[0]]) for n in every],
            [rates.get(n, RESTING) for n in every],
        )
        for n in now:
            self.models[n].step += 1
            self.samples[n] += len(batches[n])
        self.untold.append((list(now), self.stack.told.clone()))

    def _batches(self, n: int) -> tuple[Tensor, ...]:
        """Return the batches of a model's epoch, drawn once."""
        at = self.models[n]
        if n not in self.batches:
            at.order_before = at.order.get_state()
            order = draw_order(self.problems[n].weights, at.order)
            self.batches[n] = torch.split(order, self.settings[n].batch_size)
        return self.batches[n]

    def _next_batch(self, n: int) -> Tensor:
        at = self.models[n]
        return self._batches(n)[at.step - (at.epoch - 1) * self.epoch_steps]

    def _rates(self, n: int) -> Rates:
        at, settings = self.models[n], self.settings[n]
        at.lr = step_lr(at, settings, self.steps_total)
        steps = at.step + 1
        bias, bias_of_square = (1 - beta**steps for beta in BETAS)
        return 1.0, at.lr, 1 - average_decay(settings, steps), bias, bias_of_square

    def _look(self) -> list[Told]:
        """Wait for the device, and take down what the steps have told; returns an event for each that took part."""
        steps = [now for now, _ in self.untold]
        told = torch.stack([each for _, each in self.untold]).tolist()
        self.untold = []
        events: dict[int, Step | Broken] = {}
        for place, (now, rows) in enumerate(zip(steps, told, strict=True)):
            for n in now:
                at, (loss, terms, norm) = self.models[n], rows[n]
                if n in self.broken:
                    continue
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    later = sum(n in others for others in steps[place:])
                    events[n] = Broken(not_finite(at.step - later, at.epoch, loss, norm))
                    self.broken.add(n)
                    continue
                at.sums.loss, at.sums.terms = at.sums.loss + loss * terms, at.sums.terms + terms
                at.sums.norm += norm
                events[n] = Step(at.step, self.steps_total, loss, self._rate_of_samples(n), partial(self._snapshot, n))
        return list(events.items())

    def _end_epoch(self, now: Sequence[int]) -> Iterator[Told]:
        """Judge the averages of the models `now`, which have done an epoch."""
        problem = self.problems[0]
        val, test = (self.stack.evaluate(rows) for rows in (problem.val, problem.test))
        for n in now:
            at = self.models[n]
            self._batches(n)  # drawn, also by one that goes on from here
            del self.batches[n]
            improved, sums = at.end_epoch(self.settings[n], val[n])
            yield (
                n,
                Epoch(
                    epoch=at.epoch - 1,
                    train_loss=sums.loss / sums.terms,
                    val_loss=val[n],
                    test_loss=test[n],
                    lr=at.lr,
                    grad_norm=sums.norm / self.epoch_steps,
                    samples_per_second=self._rate_of_samples(n),
                    weights=self.stack.best_weights(n) if improved else None,
                    snapshot=partial(self._snapshot, n),
                ),
            )

    def _rate_of_samples(self, n: int) -> float:
        return self.samples[n] / self.seconds if self.seconds else 0.0

    def _snapshot(self, n: int) -> Snapshot:
        return Snapshot(self.stack.rows_of(n) | self.models[n].streams(), self.models[n].values())
