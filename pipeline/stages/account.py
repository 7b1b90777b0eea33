"""What a training measures, says and keeps, and what it is made of."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.config import NONE
from pipeline.methods.method import Method, Prepared
from pipeline.methods.settings import TrainSettings
from pipeline.names import (
    CHUNK,
    COMMIT,
    DATA_SET,
    DATA_SHA256,
    DEVICE,
    KIND,
    LICENCE,
    LOCK_FILE,
    MADE_FROM,
    METHOD,
    NAME,
    PAIRS_SHA256,
    SAME_BITS,
    SAMPLES_PER_SECOND,
    SETTINGS_FILE,
    SETTINGS_USED,
    SHA256,
    SPLIT_DIGEST,
    TASK,
    TOGETHER,
    TREE,
    Kind,
)
from pipeline.stages.changed import pairs_beside
from pipeline.stages.say import Say
from pipeline.tasks.dataset import set_of, told_in
from pipeline.tasks.task import Task
from pipeline.tracking.mirror import Mirror
from pipeline.tracking.run import TrackedRun
from pipeline.training.device import NO_PROMISE, find_device, same_bits
from pipeline.training.fit import STEP_EVENTS, Epoch, Problem, Step
from pipeline.training.snapshots import save_snapshot
from pipeline.training.state import Snapshot
from pipeline.versions import code_state, environment, lock

# A run that dies loses no more than this, and one that is interrupted no more than that; an epoch's end is always kept.
SNAPSHOT_SECONDS, COPY_SECONDS = 30.0, 1.0
LOSSES = TRAIN_LOSS, VAL_LOSS, TEST_LOSS = "train_loss", "val_loss", "test_loss"  # metrics, fields of an epoch
BEST = "best."  # before the names of the best weights in a snapshot


def params_note(used: str, names: Sequence[str], preset: str) -> str:
    """Say which settings MLflow shows otherwise.

    `mlflow run` logs the defaults of names that were written with '-', and of what `--data` or `--preset` decides.
    """
    dashes = preset == NONE and any("_" in name for name in names)
    return f"note: MLflow shows other values, used are {used}" + (
        ": with 'mlflow run', write -P names with '_'" if dashes else ""
    )


@dataclass
class Account:
    """What has been measured and said in a run so far. It goes into its snapshots: a continued run tells the same."""

    epochs: list[dict[str, float]] = field(default_factory=list)  # their metrics, `epoch` and `time_ms`
    steps: list[tuple[int, float, int]] = field(default_factory=list)  # optimiser step, its loss, ms since 1970
    lines: list[str] = field(default_factory=list)  # of the log
    provenance: dict[str, Any] = field(default_factory=dict)  # what the run is made of, for the checkpoint
    best: dict[str, Tensor] = field(default_factory=dict)  # weights
    best_epoch: int = 0
    seconds: float = 0.0  # of training

    def add_step(self, step: Step) -> None:
        """Take down the loss of every so many steps; the other signs of life come by the clock."""
        if step.steps_done % STEP_EVENTS == 0:
            self.steps.append((step.steps_done, step.loss, int(time.time() * 1000)))

    def add_epoch(self, epoch: Epoch) -> str:
        """Take down an epoch; returns its line."""
        if epoch.weights is not None:
            self.best, self.best_epoch = epoch.weights, epoch.epoch
        row = {name: getattr(epoch, name) for name in (*LOSSES, "lr", "grad_norm", SAMPLES_PER_SECOND, "epoch")}
        self.epochs.append(row | {"time_ms": int(time.time() * 1000)})
        return (
            f"{epoch.epoch:>5} {epoch.train_loss:>9.5f} {epoch.val_loss:>9.5f} {epoch.test_loss:>9.5f}"
            f" {epoch.lr:>9.2e} {epoch.grad_norm:>9.3f} {epoch.samples_per_second:>10,.0f}"
            f"{'  *' if epoch.weights is not None else ''}"
        )

    def snapshot(self, event: Step | Epoch) -> Snapshot:
        """The training's snapshot with the account in it."""
        training = event.snapshot()
        own: dict[str, Any] = {"epochs": [*self.epochs], "steps": [*self.steps], "lines": [*self.lines]}
        own |= {"provenance": self.provenance, "best_epoch": self.best_epoch, "seconds": self.seconds}
        best = {BEST + name: tensor for name, tensor in self.best.items()}
        return Snapshot(training.tensors | best, training.values | {"account": own})


def account_of(snapshot: Snapshot | None) -> Account:
    """The account in a snapshot; an empty one without."""
    if snapshot is None:
        return Account()
    best = {name.removeprefix(BEST): each for name, each in snapshot.tensors.items() if name.startswith(BEST)}
    return Account(**snapshot.values["account"], best=best)


class SnapshotWriter:
    """Keeps snapshots of a run: a fresh one in memory, and one on disk that is not too old."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fresh: Snapshot | None = None  # newer than the one on disk
        self._copied = self._written = time.monotonic()
        self.logged = 0  # steps of the account that MLflow has been told

    def keep(self, snapshot: Callable[[], Snapshot], at_once: bool) -> bool:
        """Take a snapshot if it is time to, and write it if it is time to or `at_once`; returns whether it was."""
        now = time.monotonic()
        write = at_once or now - self._written > SNAPSHOT_SECONDS
        if write or now - self._copied > COPY_SECONDS:
            self._fresh, self._copied = snapshot(), now
        if write:
            self.write()
        return write

    def write(self) -> None:
        """Write the freshest snapshot, unless it is on disk."""
        if self._fresh is not None:
            save_snapshot(self._path, self._fresh)
            self._fresh, self._written = None, time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training under way: what is trained, the run and the files that it is recorded in, and what they tell."""

    method: Method
    task: Task
    settings: TrainSettings
    prepared: Prepared
    problem: Problem
    run: TrackedRun
    mirror: Mirror
    account: Account
    say: Say
    together: int = 0  # how many models are trained at once; 0: this one alone

    def note(self, line: str, aloud: bool = True) -> None:
        """Write a line to the run's log, and say it."""
        self.account.lines.append(line)
        self.mirror.write(line)
        if aloud:
            self.say(line)

    def open(self) -> None:
        """Log what the run is made of, take it down for the checkpoint, and say what is trained, on what."""
        self.account.provenance = self._describe()
        method, settings, prepared = self.method, self.settings, self.prepared
        parameters = sum(p.numel() for p in self.problem.network.parameters())
        device = next(self.problem.network.parameters()).device
        self.note(f"{self.mirror.name}: {method.name}, seed {settings.seed}, {parameters:,} parameters on {device}")
        if not self.together and not same_bits(settings):
            self.note(f"note: {NO_PROMISE}")
        if self.together:
            self.note(f"note: one of {self.together} that are trained together: other bits than alone")
        for key, value in settings.model_dump(mode="json", exclude={"resume"}).items():
            self.note(f"  {key} = {value}", aloud=False)
        for what, path in prepared.source.files.items():
            self.note(f"{what}: {path}, sha256 {prepared.source.digests[what][:16]}")
        sizes = " / ".join(f"{len(rows[0]):,}" for rows in (prepared.train, prepared.val, prepared.test))
        by = "trajectory" if prepared.split.by_trajectory else "pair"
        self.note(f"split: {sizes} pairs to train / validate / test, by {by}, digest {prepared.split.digest[:16]}")
        self.note(f"{'epoch':>5} {'train':>9} {'val':>9} {'test':>9} {'lr':>9} {'gradient':>9} {'samples/s':>10}")

    def log_steps(self, first: int) -> int:
        """Log the losses of steps, from the one with the number `first`; returns how many there are."""
        for step, loss, time_ms in self.account.steps[first:]:
            self.run.metrics({"train_loss_by_step": loss}, step, time_ms)
        return len(self.account.steps)

    def log_epoch(self, row: dict[str, float]) -> None:
        """Log an epoch's metrics as of the time when it ended: logged again, MLflow keeps one of each."""
        metrics = {name: value for name, value in row.items() if name not in ("epoch", "time_ms")}
        self.run.metrics(metrics, int(row["epoch"]), int(row["time_ms"]))

    def _describe(self) -> dict[str, Any]:
        settings, prepared, run = self.settings, self.prepared, self.run
        commit, tree = code_state()
        digests = {what + SHA256: digest for what, digest in prepared.source.digests.items()}
        tags = {KIND: Kind.MODEL, METHOD: self.method.name, NAME: self.mirror.name, TASK: self.task.name}
        tags |= {COMMIT: commit, TREE: tree}
        tags |= {SPLIT_DIGEST: prepared.split.digest, DEVICE: find_device(settings).type, **digests}
        tags |= {TOGETHER: str(self.together)} if self.together else {}
        tags |= {SAME_BITS: "yes" if self.together or same_bits(settings) else "no"}
        tags |= {PAIRS_SHA256: prepared.source.pairs_sha256} if prepared.source.pairs_sha256 else {}
        tags |= {MADE_FROM: str(pairs)} if (pairs := pairs_beside(prepared)) else {}
        tags[CHUNK] = str(prepared.interface.horizon)
        folder = prepared.source.files["data"].parent
        dataset = told_in(folder)
        told = {DATA_SET: set_of(folder), LICENCE: dataset.licence if dataset else ""}
        tags |= {name: text for name, text in told.items() if text}
        run.tags(tags)
        shown = settings.model_dump(mode="json", exclude={"resume"})
        overridden = run.params(shown)
        if overridden:
            used = ", ".join(f"{name}={getattr(settings, name)}" for name in overridden)
            run.tags({SETTINGS_USED: used})
            self.note(params_note(used, overridden, settings.preset))
        if run.experiment and settings.experiment not in (
            run.experiment,
            type(settings).model_fields["experiment"].default,
        ):
            self.note(
                f"note: MLflow started this run in the experiment '{run.experiment}', not '{settings.experiment}': "
                "with 'mlflow run', choose it by --experiment-name"
            )
        run.dataset(prepared.source.arrays, prepared.source.files["data"], digests[DATA_SHA256], "train, val, test")
        run.json(SETTINGS_FILE, shown)
        run.json(LOCK_FILE, lock(prepared.source.digests))
        return tags | {"run_id": run.run_id, "versions": environment()}
