"""Train one model: data in, MLflow run and mirror out."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.config import AUTO, NONE
from pipeline.env.pendulum import ACTION_DIM, STATE_DIM
from pipeline.errors import DataError, RunError, one_line
from pipeline.evaluation.control import draw_episodes, evaluate_planner, mean_scores, policy_planner
from pipeline.evaluation.protocol import LONGEST_REPLAN, Condition
from pipeline.methods.method import Interface, Method, Prepared
from pipeline.methods.settings import TrainSettings
from pipeline.policies.checkpoint import Checkpoint, save_checkpoint, weights_digest
from pipeline.policies.policy import policy_of
from pipeline.report.loss_curves import draw_loss_curves
from pipeline.stages.make_data import make_missing_data
from pipeline.stages.unfinished import Unfinished, find_unfinished, say_what_was_left
from pipeline.streams import global_torch_stream
from pipeline.tracking.mirror import MIRROR, Mirror, reserve
from pipeline.tracking.names import LOCK_FILE, SETTINGS_FILE
from pipeline.tracking.run import Place, TrackedRun, resume_run, start_run, status_of
from pipeline.tracking.store import open_store
from pipeline.training.device import NO_PROMISE, choose_device
from pipeline.training.fit import Epoch, Problem, Step, fit, problem_of, training_warnings
from pipeline.training.snapshots import load_snapshot, save_snapshot
from pipeline.training.state import Snapshot
from pipeline.versions import code_digest, code_state, environment, lock

STAGES = logging.getLogger(__name__)

# A first look at control after training, on other episodes than an evaluation meets, unless it is given this seed.
CHECK_SEED, CHECK_EPISODES, CHECK = 1_000_003, 100, Condition(action_noise=0.03, replan=13)
# A run that dies loses no more than this, and one that is interrupted no more than that; an epoch's end is always kept.
SNAPSHOT_SECONDS, COPY_SECONDS = 30.0, 1.0
LOSSES = ("train_loss", "val_loss", "test_loss")
BEST = "best."  # before the names of the best weights in a snapshot

Say = Callable[[str], None]
Note = Callable[..., None]
"""`note(line, aloud=True)` writes a line to the run's log, and says it."""
Watch = Callable[[Step], None]


@dataclass(frozen=True)
class Trained:
    """What a finished run left."""

    mirror: Mirror
    run_id: str
    url: str  # of the run, below the UI's address
    best_epoch: int
    metrics: dict[str, float]
    weights_digest: str
    undelivered: int  # calls that wait for a store that is away


@dataclass
class Account:
    """What has been measured and said in a run so far. It goes into its snapshots: a continued run tells the same."""

    epochs: list[dict[str, float]] = field(default_factory=list)  # their metrics, `epoch` and `time_ms`
    lines: list[str] = field(default_factory=list)  # of the log
    provenance: dict[str, Any] = field(default_factory=dict)  # what the run is made of, for the checkpoint
    best: dict[str, Tensor] = field(default_factory=dict)  # weights
    best_epoch: int = 0
    seconds: float = 0.0  # of training

    def snapshot(self, training: Snapshot) -> Snapshot:
        """The training's snapshot with the account in it."""
        own = {"epochs": [*self.epochs], "lines": [*self.lines]}
        own |= {"provenance": self.provenance, "best_epoch": self.best_epoch, "seconds": self.seconds}
        best = {BEST + name: tensor for name, tensor in self.best.items()}
        return Snapshot(training.tensors | best, training.values | {"account": own})


class Keeper:
    """Keeps snapshots of a run: a fresh one in memory, and one on disk that is not too old."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fresh: Snapshot | None = None  # newer than the one on disk
        self._copied = self._written = time.monotonic()

    def keep(self, snapshot: Callable[[], Snapshot], at_once: bool) -> None:
        """Take a snapshot if it is time to, and write it if it is time to or `at_once`."""
        now = time.monotonic()
        if at_once or now - self._copied > min(COPY_SECONDS, SNAPSHOT_SECONDS):
            self._fresh, self._copied = snapshot(), now
        if at_once or now - self._written > SNAPSHOT_SECONDS:
            self.write()

    def write(self) -> None:
        """Write the freshest snapshot, unless it is on disk."""
        if self._fresh is not None:
            save_snapshot(self._path, self._fresh)
            self._fresh, self._written = None, time.monotonic()


def account_of(snapshot: Snapshot) -> Account:
    """The account in a snapshot."""
    best = {name.removeprefix(BEST): each for name, each in snapshot.tensors.items() if name.startswith(BEST)}
    return Account(**snapshot.values["account"], best=best)


def train(method: Method, settings: TrainSettings, say: Say, watch: Watch, place: Place | None = None) -> Trained:
    """Train, track and mirror one model, in a study's `place` if it is part of one; or go on with a run that broke off.

    Bad input raises a `UserError` before any run is started. Once a run is started it ends FINISHED, FAILED with the
    reason in its log, or KILLED; if its process dies, `resume` goes on with it.
    """
    unfinished = None
    if settings.resume == NONE:
        if place is None:
            say_what_was_left(say)
    else:
        unfinished = find_unfinished(method, settings)
        settings = unfinished.settings
        if unfinished.code != code_digest():
            say("warning: the code has changed since the run was started, so its bits may be others")
    torch.set_num_threads(settings.threads)
    device = choose_device(settings)
    make_missing_data(settings, say)
    prepared = method.prepare(settings)
    check_sizes(prepared.interface)
    STAGES.debug("the data is read and split")
    for warning in (*prepared.warnings, *training_warnings(settings, prepared)):
        say(f"warning: {warning}")
    with global_torch_stream(settings.seed, "weights"):
        network = method.build(settings, prepared.interface).to(device)
    run, mirror, snapshot = begin(method, settings, prepared, place, unfinished)
    assert run.journal is not None, "a run that is begun has its journal"
    STAGES.debug("the run %s is started, in %s", run.run_id, run.journal.folder)
    keeper = Keeper(run.journal.snapshot)
    problem = problem_of(method, network, prepared, settings)
    try:
        return _tracked_fit(method, settings, prepared, problem, run, mirror, snapshot, keeper, say, watch)
    except BaseException as error:
        _end_unfinished(run, mirror, keeper, error, say)
        raise


def begin(
    method: Method, settings: TrainSettings, prepared: Prepared, place: Place | None, unfinished: Unfinished | None
) -> tuple[TrackedRun, Mirror, Snapshot | None]:
    """Start a run with its files and its journal, or take up one that broke off, from its snapshot if it has one."""
    client = open_store()
    if unfinished:
        unfinished.require_same_data(prepared.digests)
        path = unfinished.journal.snapshot
        snapshot = load_snapshot(path) if path.exists() else None
        run = resume_run(client, unfinished.journal, in_study=place is not None)
        return run, Mirror(unfinished.name, MIRROR), snapshot
    mirror = reserve(method.prefix, datetime.now())
    try:
        chosen = settings.run_name != AUTO
        name = settings.run_name if chosen else mirror.name
        about = {"method": method.name, "settings": settings.model_dump(mode="json"), "code": code_digest()}
        about |= {"name": mirror.name, "files": prepared.digests}
        run = start_run(client, settings.experiment, name, chosen, place, about)
    except BaseException:
        mirror.hidden_log.unlink()
        raise
    return run, mirror, None


def _end_unfinished(run: TrackedRun, mirror: Mirror, keeper: Keeper, error: BaseException, say: Say) -> None:
    """End the run as KILLED or FAILED, whatever else goes wrong on the way, with the reason in its log."""
    if run.ended:  # it was interrupted after all was done
        return
    status = status_of(error)
    log = partial(_publish_log, run, mirror, f"{status.lower()}: {one_line(error)}")
    end = partial(run.end, status, resumable=True)
    for what, store in (("its snapshot", keeper.write), ("its log", log), (f"that it is {status}", end)):
        try:
            store()
        except Exception as second:
            say(f"warning: {what} could not be stored: {one_line(second)}; 'python -m pipeline doctor' mends the run")


def _publish_log(run: TrackedRun, mirror: Mirror, last_line: str) -> None:
    mirror.write(last_line)
    mirror.publish_log()
    run.file(mirror.log)


def check_sizes(interface: Interface) -> None:
    """Raise `DataError` if the pairs are not of the pendulum, or too short for the conditions of an evaluation."""
    found = len(interface.state.mean), len(interface.action.mean), interface.horizon
    if found[:2] != (STATE_DIM, ACTION_DIM) or interface.horizon < LONGEST_REPLAN:
        raise DataError(
            f"training pairs: expected {STATE_DIM} state and {ACTION_DIM} action dimensions and chunks of at least "
            f"{LONGEST_REPLAN} actions, for the pendulum; found {found[0]}, {found[1]} and {found[2]}. "
            "Make them with 'python -m pipeline collect'."
        )


def _tracked_fit(
    method: Method,
    settings: TrainSettings,
    prepared: Prepared,
    problem: Problem,
    run: TrackedRun,
    mirror: Mirror,
    snapshot: Snapshot | None,
    keeper: Keeper,
    say: Say,
    watch: Watch,
) -> Trained:
    account = account_of(snapshot) if snapshot else Account()
    note = partial(_note, account, mirror, say)
    mirror.rewrite(account.lines)
    if snapshot:
        say(f"going on with {mirror.name} from step {snapshot.values['step']:,}")
    else:
        account.provenance = _describe(method, settings, prepared, run, mirror, note)
        _open_log(method, settings, prepared, problem, mirror, note)

    # Epochs measured before the run broke off are logged again, as of their time: MLflow keeps one of each.
    for row in account.epochs:
        log_epoch(run, row)
    before, begun = account.seconds, time.perf_counter()
    for event in fit(problem, settings, snapshot):
        account.seconds = before + time.perf_counter() - begun
        if isinstance(event, Step):
            watch(event)
        else:
            if event.weights is not None:
                account.best, account.best_epoch = event.weights, event.epoch
            row = {name: getattr(event, name) for name in (*LOSSES, "lr", "grad_norm", "samples_per_second", "epoch")}
            account.epochs.append(row | {"time_ms": int(time.time() * 1000)})
            note(
                f"{event.epoch:>5} {event.train_loss:>9.5f} {event.val_loss:>9.5f} {event.test_loss:>9.5f}"
                f" {event.lr:>9.2e} {event.grad_norm:>9.3f} {event.samples_per_second:>10,.0f}"
                f"{'  *' if event.weights is not None else ''}"
            )
        keeper.keep(partial(_copy, account, event), at_once=isinstance(event, Epoch))
        if isinstance(event, Epoch):
            log_epoch(run, account.epochs[-1])
    checkpoint = Checkpoint(method, settings, prepared.interface, account.best, account.provenance)
    return _finish(checkpoint, account, run, mirror, note)


def _finish(checkpoint: Checkpoint, account: Account, run: TrackedRun, mirror: Mirror, note: Note) -> Trained:
    """Judge the best weights, and leave the files of the run: the same, if it is done a second time."""
    if not account.best:
        raise RunError("training: expected a finite validation loss in some epoch, found none. Try a lower --lr.")

    digest, best = weights_digest(account.best), account.epochs[account.best_epoch - 1]
    final = {
        "best_val_loss": best["val_loss"],
        "best_epoch": float(account.best_epoch),
        "best_test_loss": best["test_loss"],
    }
    checkpoint.provenance.update({"weights_sha256": digest, **final})
    episodes = draw_episodes((CHECK,), CHECK_EPISODES, CHECK_SEED)
    planner = policy_planner(policy_of(checkpoint), episodes, CHECK_SEED)
    (scores,) = mean_scores(evaluate_planner(planner, episodes, checkpoint.settings.threads))
    final |= {"check_success": scores["success"], "check_converge": scores["converge"]}
    parameters = sum(weight.numel() for weight in account.best.values())
    final_metrics = final | {"train_seconds": account.seconds, "parameters": float(parameters)}
    run.metrics(final_metrics, time_ms=int(account.epochs[-1]["time_ms"]))
    run.tags({"weights_sha256": digest})

    note(
        f"best: epoch {account.best_epoch}, val {best['val_loss']:.5f}, test {best['test_loss']:.5f}; "
        f"weights sha256 {digest[:16]}"
    )
    note(
        f"control, a first look: success {final['check_success']:.2f}, converge {final['check_converge']:.2f} "
        f"({CHECK_EPISODES} episodes, action noise {CHECK.action_noise}, replan {CHECK.replan})"
    )
    note(f"finished after {account.seconds:.1f} s of training", aloud=False)
    save_checkpoint(mirror.model, checkpoint)
    losses = {name.removesuffix("_loss"): [row[name] for row in account.epochs] for name in LOSSES}
    draw_loss_curves(mirror.picture, mirror.name, losses, account.best_epoch, checkpoint.method.loss_label)
    mirror.publish_log()
    for path in (mirror.log, mirror.model, mirror.picture):
        run.file(path)
    undelivered = run.end("FINISHED")
    metrics = final | {"train_seconds": account.seconds}
    return Trained(mirror, run.run_id, run.url, account.best_epoch, metrics, digest, undelivered)


def _note(account: Account, mirror: Mirror, say: Say, line: str, aloud: bool = True) -> None:
    account.lines.append(line)
    mirror.write(line)
    if aloud:
        say(line)


def _open_log(
    method: Method, settings: TrainSettings, prepared: Prepared, problem: Problem, mirror: Mirror, note: Note
) -> None:
    """Say what is trained, on what."""
    parameters = sum(p.numel() for p in problem.network.parameters())
    device = next(problem.network.parameters()).device
    note(f"{mirror.name}: {method.name}, seed {settings.seed}, {parameters:,} parameters on {device}")
    if device.type != "cpu":
        note(f"note: {NO_PROMISE}")
    for key, value in settings.model_dump(mode="json", exclude={"resume"}).items():
        note(f"  {key} = {value}", aloud=False)
    for what, path in prepared.files.items():
        note(f"{what}: {path}, sha256 {prepared.digests[what][:16]}")
    sizes = " / ".join(f"{len(rows[0]):,}" for rows in (prepared.train, prepared.val, prepared.test))
    by = "trajectory" if prepared.split.by_trajectory else "pair"
    note(f"split: {sizes} pairs to train / validate / test, by {by}, digest {prepared.split.digest[:16]}")
    note(f"{'epoch':>5} {'train':>9} {'val':>9} {'test':>9} {'lr':>9} {'gradient':>9} {'samples/s':>10}")


def _copy(account: Account, event: Step | Epoch) -> Snapshot:
    return account.snapshot(event.snapshot())


def log_epoch(run: TrackedRun, row: dict[str, float]) -> None:
    """Log an epoch's metrics as of the time when it ended."""
    metrics = {name: value for name, value in row.items() if name not in ("epoch", "time_ms")}
    run.metrics(metrics, int(row["epoch"]), int(row["time_ms"]))


def _describe(
    method: Method,
    settings: TrainSettings,
    prepared: Prepared,
    run: TrackedRun,
    mirror: Mirror,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Log what the run is made of, and return it for the checkpoint."""
    commit, tree = code_state()
    digests = {f"{what}_sha256": digest for what, digest in prepared.digests.items()}
    tags = {"kind": "model", "method": method.name, "name": mirror.name, "code_commit": commit, "code_tree": tree}
    tags |= {"split_digest": prepared.split.digest, "device": choose_device(settings).type, **digests}
    tags |= {"pairs_sha256": prepared.pairs_sha256} if prepared.pairs_sha256 else {}
    run.tags(tags)
    shown = settings.model_dump(mode="json", exclude={"resume"})
    overridden = run.params(shown)
    if overridden:
        used = ", ".join(f"{name}={getattr(settings, name)}" for name in overridden)
        run.tags({"settings_used": used})
        note(f"note: MLflow shows other values for {used}: with 'mlflow run', write -P names with '_'")
    if run.experiment and settings.experiment not in (
        run.experiment,
        type(settings).model_fields["experiment"].default,
    ):
        note(
            f"note: MLflow started this run in the experiment '{run.experiment}', not '{settings.experiment}': "
            "with 'mlflow run', choose it by --experiment-name"
        )
    run.dataset(prepared.arrays, prepared.files["data"], digests["data_sha256"], "train, val, test")
    run.json(SETTINGS_FILE, shown)
    run.json(LOCK_FILE, lock(prepared.digests))
    return tags | {"run_id": run.run_id, "versions": environment()}
