"""Train a run again from its record in MLflow, and tell whether the weights match bit for bit."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.config import NONE, make
from pipeline.errors import RunError, SettingsError, one_line
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import TrainSettings
from pipeline.names import (
    DEVICE,
    LOCK_FILE,
    METHOD,
    SAME_BITS,
    SETTINGS_FILE,
    TOGETHER,
    TRAINED,
    WEIGHTS_SHA256,
)
from pipeline.policies.checkpoint import weights_digest
from pipeline.stages.models import require_finished
from pipeline.stages.say import Say
from pipeline.stages.train import prepare
from pipeline.streams import global_torch_stream
from pipeline.tasks.registry import is_own
from pipeline.tasks.settings import settle
from pipeline.tracking.query import StoredRun, artifact, fetch, is_acting, is_model
from pipeline.tracking.store import open_store
from pipeline.training.device import NO_PROMISE, use_device
from pipeline.training.fit import Epoch, Step, fit, problem_of
from pipeline.upkeep.settings import ReproduceSettings
from pipeline.versions import lock


@dataclass(frozen=True)
class Reproduced:
    """The digests of the weights then and now, and other differences: name, then, now."""

    name: str
    then: str
    now: str
    differences: tuple[tuple[str, str, str], ...]

    @property
    def matches(self) -> bool:
        return self.then == self.now


def reproduce(settings: ReproduceSettings, say: Say, watch: Callable[[Step], None]) -> Reproduced:
    """Train again, without a run and without files; raises `UserError` kinds if run or data are missing."""
    store = open_store()
    run = fetch(store, settings.run)
    require_finished(run, acting=True)
    if is_acting(run):
        raise SettingsError(
            f"run: expected a training run, found '{run.name}' ({run.run_id}), which has the weights of run "
            f"{run.tags[TRAINED]}. Name that one."
        )
    if not is_model(run):
        raise SettingsError(f"run: expected a training run, found '{run.name}' ({run.run_id}), an average of several.")
    if TOGETHER in run.tags:
        raise SettingsError(
            f"run: expected one that was trained alone, found '{run.name}', one of {run.tags[TOGETHER]} that were "
            "trained together: alone it has other bits. Give its study again under another name."
        )
    method = METHODS[run.tags[METHOD]]
    with artifact(store, run.run_id, SETTINGS_FILE) as path:
        kept = make(method.settings_type, _read(path))
    chosen, task = settle(on_named_task(kept, settings.task, run))
    with artifact(store, run.run_id, LOCK_FILE) as path:
        then = _read(path)
    chosen, device = on_its_device(chosen, run)
    if run.tags.get(SAME_BITS) == "no":
        say(f"note: {NO_PROMISE}")
    torch.set_num_threads(chosen.threads)
    prepared = prepare(method, chosen, task)
    try:
        differences = lock_differences(then, lock(prepared.source.digests))
    except (KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{LOCK_FILE} of run {run.run_id}: expected the record of a training, found another ({one_line(error)})."
        ) from error
    for name, before, now in differences:
        say(f"note: {name} has changed: {before} then, {now} now")
    with global_torch_stream(chosen.seed, "weights"):
        network = method.build(chosen, prepared.interface).to(device)
    best: dict[str, torch.Tensor] = {}
    for event in fit(problem_of(method, network, prepared, chosen), chosen):
        if isinstance(event, Step):
            watch(event)
        elif isinstance(event, Epoch) and event.weights is not None:
            best = event.weights
    if not best:
        raise RunError("training: expected a finite validation loss in some epoch, found none.")
    return Reproduced(run.name, run.tags[WEIGHTS_SHA256], weights_digest(best), differences)


def on_named_task(chosen: TrainSettings, named: str, run: StoredRun) -> TrainSettings:
    """The settings with the user's own task as the command names it: what a record names is not run.

    Raises `SettingsError` if it is not named, or if one is named for a run that is of no such task.
    """
    if is_own(chosen.task) and named == NONE:
        raise SettingsError(
            f"run: '{run.name}' ({run.run_id}) is of your own task '{chosen.task}': name it by --task, for its code is "
            "run."
        )
    if not is_own(chosen.task) and named not in (NONE, chosen.task):
        raise SettingsError(f"task: expected none, for '{run.name}' is of the task '{chosen.task}', found '{named}'.")
    return chosen if named == NONE else chosen.model_copy(update={"task": named})


def on_its_device(chosen: TrainSettings, run: StoredRun) -> tuple[TrainSettings, torch.device]:
    """The settings with the device that a run was trained on, and this device: another has other bits.

    Runs of early versions do not tell theirs. Raises `SettingsError` if this machine has none.
    """
    chosen = chosen.model_copy(update={DEVICE: run.tags.get(DEVICE, chosen.device)})
    try:
        return chosen, use_device(chosen)
    except SettingsError as error:
        raise SettingsError(
            f"run: expected one that was trained on a device of this machine, found '{run.name}', trained on "
            f"{chosen.device}. Reproduce it where there is one."
        ) from error


def lock_differences(then: dict[str, Any], now: dict[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Return the differences of two locks, without command and git state: rows of name, then, now."""
    flat = [
        {
            "processor": each["processor"],
            "code": each["code"]["sha256"][:16],
            **{f"{what} file": digest[:16] for what, digest in each["data"].items()},
            **{name: each["versions"][name] for name in ("python", "platform", "machine")},
            **{f"package {name}": version for name, version in each["packages"].items()},
        }
        for each in (then, now)
    ]
    names = dict.fromkeys([*flat[0], *flat[1]])
    rows = [(name, flat[0].get(name, "absent"), flat[1].get(name, "absent")) for name in names]
    return tuple(row for row in rows if row[1] != row[2])


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(
            f"{path.name} of the run: expected JSON, found a damaged file ({one_line(error)})."
        ) from error
    if not isinstance(found, dict):
        raise SettingsError(f"{path.name} of the run: expected an object, found {type(found).__name__}.")
    return found
