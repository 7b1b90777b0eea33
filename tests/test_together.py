"""Models trained together: as each alone, whatever happens to the others, and the same bits each time."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from pipeline.config import make
from pipeline.errors import SettingsError
from pipeline.methods.method import Rows, Stacked, draw_nothing
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import Pi0Settings, TrainSettings
from pipeline.policies.checkpoint import weights_digest
from pipeline.streams import global_torch_stream, torch_stream
from pipeline.training.fit import Epoch, Problem, Step, fit, problem_of
from pipeline.training.state import Snapshot
from pipeline.training.together import Broken, fit_together
from tests.conftest import files_of

Models = list[tuple[Problem, TrainSettings]]

SEEDS = 3
MOST_PAIRS = 90  # of each part of the data: batches of 40 end with a short one


def models_of(
    name: str,
    data: Path,
    each: Sequence[Mapping[str, object]] = ({},) * SEEDS,
    pairs: int = MOST_PAIRS,
    **values: object,
) -> Models:
    """Models of a method, with seeds that count up, and with settings of their own."""
    method = METHODS[name]
    small = {"epochs": 2, "width": 16, "layers": 1, "warmup": 2, "batch_size": 40, **files_of(name, data)}
    prepared = method.prepare(make(method.settings_type, small))
    parts = {part: tuple(rows[:pairs] for rows in getattr(prepared, part)) for part in ("train", "val", "test")}
    fewer = dataclasses.replace(prepared, starts=prepared.starts[:pairs], **parts)
    models = []
    for seed, own in enumerate(each):
        settings = make(method.settings_type, small | {"seed": seed} | values | dict(own))
        with global_torch_stream(settings.seed, "weights"):
            network = method.build(settings, prepared.interface)
        models.append((problem_of(method, network, fewer, settings), settings))
    return models


def together(models: Models, resumed: Sequence[Snapshot | None] = ()) -> Iterator[tuple[int, Step | Epoch | Broken]]:
    return fit_together([problem for problem, _ in models], [settings for _, settings in models], resumed)


def epochs_of(events: Iterator[tuple[int, Any]], count: int = SEEDS) -> list[list[Epoch]]:
    found: list[list[Epoch]] = [[] for _ in range(count)]
    for number, event in events:
        if isinstance(event, Epoch):
            found[number].append(event)
    return found


def alone(models: Models) -> list[list[Epoch]]:
    return [[event for event in fit(*model) if isinstance(event, Epoch)] for model in models]


def numbers(epochs: Sequence[Epoch]) -> list[list[float]]:
    return [[e.train_loss, e.val_loss, e.test_loss, e.grad_norm, e.lr] for e in epochs]


def fingerprint(epochs: Sequence[Epoch]) -> list[object]:
    return [(*row, e.weights and weights_digest(e.weights)) for row, e in zip(numbers(epochs), epochs, strict=True)]


@pytest.mark.parametrize("name", list(METHODS))
def test_each_is_as_alone(name: str, data: Path) -> None:
    own = {"expectation_weight": 0.3} if name in ("pi0_fast", "binning") else {"far_weight": 0.6, "near": 20}
    differ = [{}, {"lr": 0.02, "weight_decay": 0.3, "start_weight": 2}, {"ema": 0.8, "grad_clip": 0.1, **own}]
    expected = alone(models_of(name, data, differ))
    found = epochs_of(together(models_of(name, data, differ)))
    for mine, theirs in zip(found, expected, strict=True):
        assert_close(numbers(mine), numbers(theirs), rtol=1e-4, atol=1e-4)
        assert [e.weights is None for e in mine] == [e.weights is None for e in theirs]


@pytest.mark.parametrize("name", ["pi0", "pi0_fast"])
def test_the_original_networks_too(name: str, data: Path) -> None:
    """Their dropout cannot be switched off in training, so what is compared is what they are judged by."""
    models = models_of(name, data, [{}, {}], 20, arch="original", width=64, layers=3, epochs=1, lr=1e-6, ema=0)
    assert_close(
        *([epochs[0].val_loss for epochs in found] for found in (epochs_of(together(models), 2), alone(models))),
        rtol=1e-4, atol=1e-3,
    )  # fmt: skip


def test_the_same_call_gives_the_same_bits_also_with_dropout(data: Path) -> None:
    first, again, other = (
        [fingerprint(epochs) for epochs in epochs_of(together(models_of("pi0", data, **values)))]
        for values in ({"dropout": 0.2}, {"dropout": 0.2}, {"dropout": 0.0})
    )
    assert first == again and len({str(each) for each in first}) == SEEDS
    assert all(one != without for one, without in zip(first, other, strict=True))


@pytest.mark.parametrize("schedule", ["cosine", "plateau", "constant"])
def test_one_that_stops_early_leaves_the_others_as_they_are(schedule: str, data: Path) -> None:
    """The second soon gets worse; with patience 1 it ends after its first epoch without a better loss."""
    common = {"epochs": 9, "schedule": schedule, "warmup": 0, "pairs": 30, "batch_size": 30}
    differ = [{}, {"lr": 1.0, "patience": 1, "ema": 0}, {"seed": 5}]
    found = epochs_of(together(models_of("regression", data, differ, **common)))
    patient = [each | {"patience": 20} for each in differ]
    undisturbed = epochs_of(together(models_of("regression", data, patient, **common)))
    assert 1 < len(found[1]) < 9 and found[1][-1].weights is None
    assert [len(found[0]), len(found[2])] == [9, 9]
    assert fingerprint(found[1]) == fingerprint(undisturbed[1])[: len(found[1])]
    for number in (0, 2):
        assert fingerprint(found[number]) == fingerprint(undisturbed[number])
    expected = alone(models_of("regression", data, differ, **common))
    assert [len(epochs) for epochs in expected] == [len(epochs) for epochs in found]
    assert_close([e.lr for e in found[1]], [e.lr for e in expected[1]])


class Line(nn.Module):
    """One weight."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))


def line_loss(network: nn.Module, numbers: object, rows: Rows) -> tuple[Tensor, Tensor]:
    inputs, targets = rows
    errors = torch.sqrt(network.weight) * inputs - targets  # not a number below 0
    return errors.square(), torch.ones_like(errors)


def lines(weights: Sequence[float], **values: object) -> Models:
    inputs = torch.linspace(0.5, 1, 64)
    rows = (inputs, torch.zeros(64))
    common = {"batch_size": 8, "warmup": 0, "schedule": "constant", "ema": 0, "weight_decay": 0, "epochs": 3}
    stacked = Stacked(line_loss, draw_nothing, ())

    def loss(network: nn.Module, settings: object, rows: Rows, generator: object) -> tuple[Tensor, int]:
        sums, _ = line_loss(network, {}, rows)
        return sums.sum(), len(sums)

    even = torch.ones(64, dtype=torch.float64)
    settings = [make(Pi0Settings, {"lr": 0.125, **common, "seed": seed} | values) for seed in range(len(weights))]
    return [
        (Problem(Line(weight), loss, rows, rows, rows, even, stacked), each)
        for weight, each in zip(weights, settings, strict=True)
    ]


@pytest.mark.parametrize("steps", [0, 2])
def test_a_loss_that_is_not_finite_ends_one_and_is_named_by_its_step(steps: int) -> None:
    """A weight of 0.3 is below 0 after three steps of 0.125, so the fourth has no loss; one below 0 has none at all."""
    bad = {0: -1.0, 2: 0.2}[steps]
    models = lines([40.0, bad, 50.0])
    events = list(together(models))
    ((number, broken),) = [(number, event) for number, event in events if isinstance(event, Broken)]
    assert number == 1 and f"training step {steps + 1} (epoch 1)" in broken.reason and "found loss nan" in broken.reason
    assert not any(n == 1 for n, event in events if isinstance(event, Epoch))
    whole = [fingerprint(epochs) for epochs in epochs_of(together(lines([40.0, 45.0, 50.0])))]
    found = [fingerprint(epochs) for epochs in epochs_of(iter(events))]
    assert [found[0], found[2]] == [whole[0], whole[2]] and len(found[0]) == 3
    with pytest.raises(Exception, match=rf"training step {steps + 1} \(epoch 1\)"):
        list(fit(*lines([40.0, bad, 50.0])[1]))


def test_two_steps_by_hand() -> None:
    (first, second), weight = lines([4.0, 9.0], batch_size=64, epochs=2, lr=0.5), 4.0
    found = epochs_of(together([first, second]), 2)
    inputs = first[0].train[0].double()
    losses = []
    for _ in range(2):
        losses.append(float((weight * inputs.square()).mean()))
        weight -= 0.5  # AdamW's first steps along a gradient that does not change
    assert_close([e.train_loss for e in found[0]], losses, rtol=1e-5, atol=0)
    assert_close([e.train_loss for e in found[1]], [loss + float(5 * inputs.square().mean()) for loss in losses])
    assert found[0][-1].weights is not None and float(found[0][-1].weights["weight"]) == pytest.approx(weight)


@pytest.mark.parametrize("moments", [(3, 3, 3), (5, 1, 3), (None, 4, 2)])
def test_it_goes_on_to_the_same_bits(moments: Sequence[int | None], data: Path) -> None:
    """Also from snapshots of several moments, as a group has that is killed while it writes them."""
    values = {"pairs": 50, "batch_size": 9, "schedule": "plateau", "patience": 2, "dropout": 0.1}
    expected = [fingerprint(epochs) for epochs in epochs_of(together(models_of("pi0", data, **values)))]
    kept: list[list[Snapshot]] = [[] for _ in range(SEEDS)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.training.together.STEP_EVENTS", 1)
        for number, event in together(models_of("pi0", data, **values)):
            if isinstance(event, Step):
                kept[number].append(event.snapshot())
    resumed = [moment if moment is None else kept[n][moment] for n, moment in enumerate(moments)]
    found = [fingerprint(epochs) for epochs in epochs_of(together(models_of("pi0", data, **values), resumed))]
    assert found == expected
    assert all(snapshot is None or snapshot.values["step"] == moments[n] + 1 for n, snapshot in enumerate(resumed))


def test_settings_that_differ_otherwise_are_refused(data: Path) -> None:
    with pytest.raises(SettingsError, match="batch_size: expected one value for models that are trained together"):
        next(together(models_of("pi0", data, [{}, {"batch_size": 50}])))
    ours = lines([1.0, 1.0])
    without = [(dataclasses.replace(problem, stacked=None), settings) for problem, settings in ours]
    with pytest.raises(SettingsError, match="can be trained together, found one without"):
        next(together(without))


def test_what_is_drawn_is_what_the_method_draws(data: Path) -> None:
    (problem, settings), *_ = models_of("pi0", data, [{}])
    assert problem.stacked is not None
    rows = tuple(each[:7] for each in problem.train)
    total, count = problem.loss(problem.network, settings, rows, torch_stream(1, "noise"))
    drawn = problem.stacked.draw(problem.network, rows, torch_stream(1, "noise"))
    sums, counts = problem.stacked.loss(problem.network, settings.model_dump(), (*rows, *drawn))
    assert_close(sums.sum(), total)
    assert math.isclose(float(counts.sum()), count)
