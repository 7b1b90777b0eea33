"""The engine: reproducible to the bit, undisturbed by being watched, and stopped before a bad update."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from pipeline.config import make
from pipeline.errors import RunError, SettingsError
from pipeline.methods.method import UNUSED_BY_ORIGINAL, Prepared
from pipeline.methods.pi0 import PI0
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import Pi0Settings, TrainSettings
from pipeline.policies.checkpoint import weights_digest
from pipeline.streams import derive, global_torch_stream, torch_stream
from pipeline.training.device import faults_said, find_device, same_bits, use_device
from pipeline.training.fit import (
    Epoch,
    Problem,
    Step,
    draw_order,
    evaluate,
    fit,
    problem_of,
    schedule_factor,
    training_warnings,
)
from pipeline.training.state import Plateau
from tests.conftest import files_of


def train(name: str, data: Path, watch: object = None, first: int | None = None, **values: object) -> list[Epoch]:
    """Train on the `first` pairs of each part, or all."""
    method = METHODS[name]
    defaults = {"epochs": 2, "width": 16, "layers": 1, "warmup": 5, "batch_size": 100}
    settings = make(method.settings_type, files_of(name, data) | defaults | values)
    prepared = method.prepare(settings)
    with global_torch_stream(settings.seed, "weights"):
        network = method.build(settings, prepared.interface)
    epochs = []
    parts = {part: tuple(rows[:first] for rows in getattr(prepared, part)) for part in ("train", "val", "test")}
    fewer = dataclasses.replace(prepared, starts=prepared.starts[:first], **parts)
    for event in fit(problem_of(method, network, fewer, settings), settings):
        if isinstance(event, Epoch):
            epochs.append(event)
        if watch:
            watch(event)
    return epochs


def fingerprint(epochs: list[Epoch]) -> list[object]:
    return [
        (e.train_loss, e.val_loss, e.test_loss, e.grad_norm, e.lr, e.weights and weights_digest(e.weights))
        for e in epochs
    ]


@pytest.mark.parametrize(("name", "dropout"), [("pi0", 0.0), ("pi0", 0.2), ("pi0_fast", 0.1)])
def test_same_seed_same_bits_even_when_watched(name: str, dropout: float, data: Path) -> None:
    def meddle(event: object) -> None:
        torch.rand(3)  # a watcher that draws from the global generator

    first = fingerprint(train(name, data, dropout=dropout))
    assert first == fingerprint(train(name, data, meddle, dropout=dropout))
    assert first != fingerprint(train(name, data, dropout=dropout, seed=1))


@pytest.mark.parametrize("arch", ["small", "original"])
@pytest.mark.parametrize("name", list(METHODS))
def test_training_learns(name: str, arch: str, data: Path) -> None:
    own = {"width": 64, "layers": 3} if arch == "original" else {}  # which the original network does not take
    epochs = train(name, data, first=None if arch == "small" else 200, arch=arch, lr=0.002, batch_size=50, **own)
    assert epochs[-1].val_loss < epochs[0].val_loss and epochs[-1].weights is not None


class Line(nn.Module):
    """One weight, so that a training can be followed by hand."""

    def __init__(self, weight: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))


def line_loss(
    network: nn.Module, settings: TrainSettings, rows: tuple[Tensor, ...], generator: torch.Generator
) -> tuple[Tensor, int]:
    inputs, targets = rows
    return (network.weight * inputs - targets).square().sum(), len(inputs)


def line_rows(count: int, slope: float = 3.0) -> tuple[Tensor, Tensor]:
    inputs = torch.linspace(-1, 1, count)
    return inputs, slope * inputs


def line_problem(loss: object = line_loss, val_slope: float = 3.0) -> Problem:
    weights = torch.ones(64, dtype=torch.float64)
    return Problem(Line(), loss, line_rows(64), line_rows(16, val_slope), line_rows(16, -3.0), weights)


def settings(**values: object) -> TrainSettings:
    defaults = {"batch_size": 64, "warmup": 0, "schedule": "constant", "ema": 0, "weight_decay": 0, "lr": 0.1}
    return make(Pi0Settings, defaults | values)


def test_two_steps_by_hand() -> None:
    reference = Line()
    optimizer = torch.optim.AdamW(reference.parameters(), lr=0.1, weight_decay=0)
    inputs, targets = line_rows(64)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = (reference.weight * inputs - targets).square().mean()
        losses.append(float(loss.detach()))
        loss.backward()
        nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
        optimizer.step()
    epochs = [event for event in fit(line_problem(), settings(epochs=2)) if isinstance(event, Epoch)]
    assert_close([epoch.train_loss for epoch in epochs], losses)
    assert epochs[-1].weights is not None
    assert_close(epochs[-1].weights["weight"], reference.weight.detach())


def test_average_follows_the_weights() -> None:
    (epoch,) = (event for event in fit(line_problem(), settings(epochs=1, ema=0.9)) if isinstance(event, Epoch))
    assert epoch.weights is not None
    assert_close(
        float(epoch.weights["weight"]), 0.1 * (1 - 1 / 11), atol=1e-4, rtol=0
    )  # one step of 0.1, young average


def test_short_last_batch_does_not_bias_the_mean() -> None:
    events = list(fit(line_problem(), settings(epochs=1, batch_size=40, lr=1e-9)))
    _, targets = line_rows(64)
    assert isinstance(events[-1], Epoch)
    assert_close(events[-1].train_loss, float(targets.square().mean()), rtol=1e-4, atol=0)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_non_finite_stops_before_the_update(where: str) -> None:
    problem = line_problem()
    steps = 0

    def poisoned(network: nn.Module, *others: Any) -> tuple[Tensor, int]:
        nonlocal steps
        total, count = line_loss(network, *others)
        steps += network.training
        if steps == 3:
            bad = network.weight * math.inf if where == "loss" else torch.sqrt(network.weight * 0)
            total = total + bad
        return total, count

    before = {}

    def run() -> Iterator[object]:
        for event in fit(dataclasses.replace(problem, loss=poisoned), settings(epochs=5)):
            before["weight"] = float(problem.network.weight)
            yield event

    with pytest.raises(RunError, match=r"step 3 \(epoch 3\).*found loss"):
        list(run())
    assert float(problem.network.weight) == before["weight"]


def test_early_stopping_and_best_epoch_go_by_validation() -> None:
    # The target of validation is passed on the way to that of training; the test loss only ever grows.
    epochs = [
        event
        for event in fit(line_problem(val_slope=0.35), settings(epochs=50, patience=4))
        if isinstance(event, Epoch)
    ]
    best = min(epochs, key=lambda epoch: epoch.val_loss)
    assert len(epochs) == best.epoch + 4 < 50
    assert [epoch.epoch for epoch in epochs if epoch.weights is not None][-1] == best.epoch
    assert min(epochs, key=lambda epoch: epoch.test_loss).epoch == 1


@given(st.lists(st.sampled_from([0.25, 1.0, 5.0, 7.0]), min_size=1, max_size=60), st.integers(0, 99))
def test_rows_come_as_often_as_their_weights_ask_for(weights: list[float], seed: int) -> None:
    of_rows = torch.tensor(weights, dtype=torch.float64)
    order = draw_order(of_rows, torch_stream(seed, "order"))
    asked = of_rows * len(weights) / of_rows.sum()
    counts = torch.bincount(order, minlength=len(weights))
    assert len(order) == len(weights) and ((counts - asked).abs() < 1 + 1e-9).all()
    assert torch.equal(order, draw_order(of_rows, torch_stream(seed, "order")))


def test_rows_of_equal_weight_come_once_each_and_in_random_order() -> None:
    order = draw_order(torch.full((1000,), 5.0, dtype=torch.float64), torch_stream(0, "order"))
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert (order[1:] == order[:-1] + 1).sum() < 10


def test_repeated_rows_are_spread_over_the_epoch() -> None:
    weights = torch.ones(1000, dtype=torch.float64)
    weights[500] = 50
    places = (draw_order(weights, torch_stream(0, "order")) == 500).nonzero()[:, 0]
    assert len(places) in (47, 48) and places.min() < 200 and places.max() > 800
    assert places.diff().min() >= 1 and places.diff().max() < 200


@pytest.mark.parametrize("name", list(METHODS))
def test_first_pairs_of_trajectories_weigh_more(name: str, data: Path) -> None:
    method = METHODS[name]
    settings = make(method.settings_type, files_of(name, data) | {"start_weight": 3})
    prepared = method.prepare(settings)
    weights = problem_of(method, Line(), prepared, settings).weights
    assert weights.tolist() == ([3.0] + 24 * [1.0]) * (len(weights) // 25)


def test_pairs_without_steps_weigh_the_same(data: Path, tmp_path: Path) -> None:
    with np.load(data / "training_pairs_original.npz") as arrays:
        np.savez(tmp_path / "pairs.npz", **{key: arrays[key] for key in ("state", "action_chunk", "trajectory")})
    settings = Pi0Settings(pairs=tmp_path / "pairs.npz")
    assert not PI0.prepare(settings).starts.any()


def test_schedules() -> None:
    cosine = settings(schedule="cosine", warmup=10)
    assert [schedule_factor(cosine, step, 110) for step in (0, 9, 10)] == [0.1, 1.0, 1.0]
    assert_close(schedule_factor(cosine, 60, 110), 0.5)
    assert_close(schedule_factor(cosine, 110, 110), 0.0)
    assert schedule_factor(settings(schedule="constant"), 99, 100) == 1.0
    plateau = Plateau()
    factors = []
    for improved in [True] + [False] * 14 + [True]:
        plateau = plateau.after(improved)
        factors.append(plateau.factor)
    assert factors[6:9] == [1.0, 0.6, 0.6] and factors[14] == pytest.approx(0.36) == factors[-1]


def test_plateau_cuts_the_rate_in_training() -> None:
    epochs = [
        event
        for event in fit(line_problem(val_slope=-3.0), settings(epochs=9, schedule="plateau"))
        if isinstance(event, Epoch)
    ]
    assert epochs[0].lr == 0.1 and epochs[-1].lr == pytest.approx(0.06)


def test_evaluation_sees_the_same_noise_every_time(data: Path) -> None:
    method = METHODS["pi0"]
    chosen = make(method.settings_type, {"pairs": data / "training_pairs_original.npz"})
    prepared = method.prepare(chosen)
    network = method.build(chosen, prepared.interface)
    assert evaluate(network, chosen, method.loss, prepared.val) == evaluate(network, chosen, method.loss, prepared.val)


def test_progress_is_reported_within_epochs() -> None:
    steps = [event for event in fit(line_problem(), settings(epochs=2, batch_size=1)) if isinstance(event, Step)]
    assert [step.steps_done for step in steps] == [20, 40, 60, 80, 100, 120] and steps[0].steps_total == 128


def test_a_short_training_reaches_its_peak_and_says_so(data: Path) -> None:
    assert max(schedule_factor(settings(warmup=200), step, 158) for step in range(158)) == 1.0
    assert schedule_factor(settings(warmup=200), 198, 1250) == 199 / 200  # a default run's
    assert schedule_factor(settings(warmup=200), 0, 1) == 1.0
    chosen = make(Pi0Settings, files_of("pi0", data))
    prepared = PI0.prepare(chosen)
    (warning,) = training_warnings(chosen, prepared)
    steps = 2 * math.ceil(len(prepared.train[0]) / 128)
    assert f"a warm-up of 200 steps is too long for {steps} training steps: it becomes {steps // 4}." in warning
    assert training_warnings(chosen.model_copy(update={"warmup": 1}), prepared) == () == prepared.warnings


def test_first_pairs_are_known_by_step_or_it_is_said(data: Path, tmp_path: Path) -> None:
    chosen = make(Pi0Settings, files_of("pi0", data))
    arrays = dict(np.load(chosen.pairs))
    prepared = PI0.prepare(chosen)

    def without(*left_out: str, shift: int = 0) -> Prepared:
        kept = {name: array for name, array in arrays.items() if name not in (*left_out, "metadata")}
        if "step" in kept:
            kept["step"] = kept["step"] + shift
        np.savez(tmp_path / "x.npz", **kept)
        return PI0.prepare(chosen.model_copy(update={"pairs": tmp_path / "x.npz"}))

    assert prepared.starts.sum() == 48 and torch.equal(without(shift=1).starts, prepared.starts)
    found = without("step")
    assert not found.starts.any() and "start_weight 4.1 has no effect" in found.warnings[-1]
    even = chosen.model_copy(update={"pairs": tmp_path / "x.npz", "start_weight": 1.0})
    assert PI0.prepare(even).warnings == ()


@pytest.mark.parametrize("name", list(METHODS))
def test_settings_that_the_original_network_does_not_take_are_refused(name: str, data: Path) -> None:
    method = METHODS[name]
    values = {**files_of(name, data), "arch": "original"}
    assert method.prepare(make(method.settings_type, values))
    for unused in UNUSED_BY_ORIGINAL:
        if unused in method.settings_type.model_fields:
            changed = {"dropout": 0.1, "expectation_weight": 0.5}.get(unused, 4)
            with pytest.raises(SettingsError, match=f"{unused}: expected its default with arch 'original'"):
                method.prepare(make(method.settings_type, {**values, unused: changed}))


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no GPU here: what is chosen where there is one, and what is asked of torch then."""
    asked: list[object] = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *words, **named: asked.append((words, named)))
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    assert find_device(Pi0Settings()).type == "cpu" and asked == []
    with pytest.raises(SettingsError, match="expected one that this machine has, found 'cuda'"):
        find_device(Pi0Settings(device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_device(Pi0Settings()).type == "cuda" and asked == []  # a question changes nothing
    assert [same_bits(Pi0Settings(device=device)) for device in ("cuda", "cpu")] == [False, True]
    assert same_bits(Pi0Settings(deterministic="yes")) and asked == []
    assert use_device(Pi0Settings()).type == "cuda" and asked == [((True,), {"warn_only": True})]
    assert use_device(Pi0Settings(device="cpu")).type == "cpu" and len(asked) == 1
    assert use_device(Pi0Settings(deterministic="yes")).type == "cuda" and asked[-1] == ((True,), {"warn_only": False})
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device(Pi0Settings(device="mps")).type == "mps"
    with pytest.raises(SettingsError, match="dropout: expected 0 on the device mps"):
        find_device(Pi0Settings(device="mps", dropout=0.1))
    with pytest.raises(SettingsError, match="deterministic: expected 'no' on the device mps"):
        find_device(Pi0Settings(device="mps", deterministic="yes"))


def test_faults_of_a_device_are_one_line_with_what_to_do() -> None:
    with pytest.raises(RunError, match=r"expected enough memory for the training, found too little\. "), faults_said():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total ...")
    with (
        pytest.raises(RunError, match=r"found none for cumsum_kernel\. Use --deterministic no"),
        faults_said(),
    ):
        raise RuntimeError("cumsum_kernel does not have a deterministic implementation, but you set 'torch.use_...")
    with pytest.raises(RuntimeError, match="another"), faults_said():
        raise RuntimeError("another")


def test_streams_are_apart() -> None:
    with pytest.raises(AssertionError, match="have no '/'"):
        derive(0, "a/b")
    assert len({derive(seed, name) for seed in range(50) for name in ("a", "b")}) == 100
    assert torch.equal(torch.rand(3, generator=torch_stream(1, "x")), torch.rand(3, generator=torch_stream(1, "x")))
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with global_torch_stream(5, "inner"):
        torch.rand(7)
    assert torch.equal(torch.rand(2), expected)
