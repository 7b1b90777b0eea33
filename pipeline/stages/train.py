"""Train one model: data in, MLflow run and mirror out."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

import torch

from pipeline.config import AUTO, NONE
from pipeline.errors import DataError, DivergedError, StoreError, one_line
from pipeline.evaluation.control import draw_episodes, evaluate_planner, mean_scores, policy_planner
from pipeline.methods.method import Method, Prepared
from pipeline.methods.settings import TrainSettings
from pipeline.policies.checkpoint import Checkpoint, save_checkpoint, weights_digest
from pipeline.policies.policy import Policy, policy_of
from pipeline.report.loss_curves import draw_loss_curves
from pipeline.report.model_card import model_card, training_facts
from pipeline.stages.account import LOSSES, Keeper, Training, account_of
from pipeline.stages.make_data import make_missing_data
from pipeline.stages.say import Say
from pipeline.stages.tokenize import REBUILD
from pipeline.stages.unfinished import Unfinished, find_unfinished, say_what_was_left
from pipeline.streams import global_torch_stream
from pipeline.tasks.facts import facts_of, require_fit
from pipeline.tasks.registry import DEFAULT
from pipeline.tasks.score import shares_of
from pipeline.tasks.settings import settle
from pipeline.tasks.task import Task
from pipeline.tracking.delivery import BRIEFLY
from pipeline.tracking.mirror import MIRROR, Mirror, reserve
from pipeline.tracking.names import TOGETHER, WEIGHTS
from pipeline.tracking.registry import log_model
from pipeline.tracking.run import Place, TrackedRun, resume_run, start_run, status_of, system_metrics
from pipeline.tracking.store import mlflow_settings, open_store
from pipeline.training.device import choose_device, deterministic_or_said
from pipeline.training.fit import Epoch, Step, fit, problem_of, training_warnings
from pipeline.training.snapshots import load_snapshot
from pipeline.training.state import Snapshot
from pipeline.versions import code_digest

STAGES = logging.getLogger(__name__)

# A first look at control after training, on other episodes than an evaluation meets, unless it is given this seed.
CHECK_SEED, CHECK_EPISODES = 1_000_003, 100

CHECK = "check_"  # before the names of scores

FINAL_METRICS = (
    "best_val_loss", "best_epoch", "test_loss_at_best_val", "train_seconds", "parameters",
)  # fmt: skip

Watch = Callable[[Step], None]


@dataclass(frozen=True)
class Trained:
    """What a finished run left."""

    mirror: Mirror
    run_id: str
    url: str  # of the run, below the UI's address
    best_epoch: int
    metrics: dict[str, float]
    check: dict[str, float]  # scores of a first look at control, by their names; none without a simulator
    weights_digest: str
    undelivered: int  # calls that wait for a store that is away


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
    settings, task = settle(settings)
    make_missing_data(settings, task, say)
    prepared = prepare(method, settings, task)
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
        training = Training(
            method=method, task=task, settings=settings, prepared=prepared, problem=problem,
            run=run, mirror=mirror, account=account_of(snapshot), say=say,
        )  # fmt: skip
        with system_metrics(run), deterministic_or_said():
            return _fit(training, snapshot, keeper, watch)
    except BaseException as error:
        end_unfinished(run, mirror, keeper, error, say)
        raise


def begin(
    method: Method,
    settings: TrainSettings,
    prepared: Prepared,
    place: Place | None,
    unfinished: Unfinished | None,
    together: int = 0,
) -> tuple[TrackedRun, Mirror, Snapshot | None]:
    """Start a run with its files and its journal, or take up one that broke off, from its snapshot if it has one.

    `together` is how many models are trained at once, 0 for one alone.
    """
    client = open_store()
    if unfinished:
        unfinished.require_same_data(prepared.digests)
        path = unfinished.journal.snapshot
        snapshot = load_snapshot(path) if path.exists() else None
        run = resume_run(client, unfinished.journal, in_study=place is not None)
        return run, Mirror(unfinished.name, MIRROR), snapshot
    mirror = reserve(
        method.prefix if settings.task == DEFAULT else f"{method.prefix}_{prepared.interface.task.name}", datetime.now()
    )
    try:
        chosen = settings.run_name != AUTO
        name = settings.run_name if chosen else (place and place.name) or mirror.name
        about: dict[str, Any] = {
            "method": method.name,
            "settings": settings.model_dump(mode="json"),
            "code": code_digest(),
        }
        about |= {"name": mirror.name, "files": prepared.digests} | ({TOGETHER: together} if together else {})
        run = start_run(client, settings.experiment, name, chosen, place, about)
    except BaseException:
        mirror.hidden_log.unlink()
        raise
    return run, mirror, None


def end_unfinished(run: TrackedRun, mirror: Mirror, keeper: Keeper, error: BaseException, say: Say) -> None:
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


def prepare(method: Method, settings: TrainSettings, task: Task) -> Prepared:
    """Load and check a training's data; raises `UserError` kinds if they are not of the task, or of other chunks."""
    prepared = method.prepare(settings)
    interface, where = prepared.interface, str(prepared.files["data"])
    sizes = len(interface.state.mean), len(interface.action.mean)
    require_fit(where, interface.task, sizes, task, DataError, REBUILD)
    wanted = settings.horizon or interface.horizon
    if interface.horizon != wanted or interface.horizon < task.longest_replan:
        raise DataError(
            f"{where}: expected chunks of {settings.horizon or f'at least {task.longest_replan}'} actions, for the "
            f"task '{task.name}', found {interface.horizon}. {REBUILD}"
        )
    return replace(prepared, interface=replace(interface, task=facts_of(task)))


def _fit(training: Training, snapshot: Snapshot | None, keeper: Keeper, watch: Watch) -> Trained:
    take_up(training, snapshot, keeper)
    account = training.account
    before, begun = account.seconds, time.perf_counter()
    for event in fit(training.problem, training.settings, snapshot):
        account.seconds = before + time.perf_counter() - begun
        if isinstance(event, Step):
            watch(event)
        take_down(training, event, keeper)
    return finish(training)


def take_up(training: Training, snapshot: Snapshot | None, keeper: Keeper) -> None:
    """Open the run's log, or go on with it."""
    account, mirror = training.account, training.mirror
    mirror.rewrite(account.lines)
    if snapshot:
        training.say(f"going on with {mirror.name} from step {snapshot.values['step']:,}")
    else:
        training.open()
    # What was measured before the run broke off is logged again, as of its time: MLflow keeps one of each. A step is
    # logged once it is in a snapshot on disk, or a run that goes on from an older one would log it as of two times.
    for row in account.epochs:
        training.log_epoch(row)
    keeper.logged = training.log_steps(0)


def take_down(training: Training, event: Step | Epoch, keeper: Keeper) -> None:
    """Log an event, and keep a snapshot if it is time to."""
    account = training.account
    if isinstance(event, Step):
        account.add_step(event)
    else:
        training.note(account.add_epoch(event))
    if keeper.keep(partial(account.snapshot, event), at_once=isinstance(event, Epoch)):
        keeper.logged = training.log_steps(keeper.logged)
    if isinstance(event, Epoch):
        training.log_epoch(account.epochs[-1])


def finish(training: Training) -> Trained:
    """Judge the best weights, and leave the files of the run: the same, if it is done a second time."""
    account, run, mirror = training.account, training.run, training.mirror
    if not account.best:
        raise DivergedError("training: expected a finite validation loss in some epoch, found none. Try a lower --lr.")

    digest, best = weights_digest(account.best), account.epochs[account.best_epoch - 1]
    final = {
        "best_val_loss": best["val_loss"],
        "best_epoch": float(account.best_epoch),
        "test_loss_at_best_val": best["test_loss"],
    }
    provenance = account.provenance | {WEIGHTS: digest, **final}
    interface = training.prepared.interface
    checkpoint = Checkpoint(training.method, training.settings, interface, account.best, provenance)
    policy = policy_of(checkpoint)
    check, told = first_look(training.task, policy, training.settings.threads)
    final |= {f"{CHECK}{name}": value for name, value in check.items()}
    metrics = final | {"train_seconds": account.seconds}
    parameters = float(sum(weight.numel() for weight in account.best.values()))
    run.metrics(metrics | {"parameters": parameters}, time_ms=int(account.epochs[-1]["time_ms"]))
    run.tags({WEIGHTS: digest})

    training.note(
        f"best: epoch {account.best_epoch}, val {best['val_loss']:.5f}, test {best['test_loss']:.5f}; "
        f"weights sha256 {digest[:16]}"
    )
    training.note(f"control, {told}")
    training.note(f"finished after {account.seconds:.1f} s of training", aloud=False)
    save_checkpoint(mirror.model, checkpoint)
    losses = {name.removesuffix("_loss"): [row[name] for row in account.epochs] for name in LOSSES}
    draw_loss_curves(mirror.picture, mirror.name, losses, account.best_epoch, training.method.loss_label)
    mirror.publish_log()
    for path in (mirror.log, mirror.model, mirror.picture):
        run.file(path)
    _log_model(training, policy)
    undelivered = run.end("FINISHED")
    return Trained(mirror, run.run_id, run.url, account.best_epoch, metrics, check, digest, undelivered)


def first_look(task: Task, policy: Policy, threads: int) -> tuple[dict[str, float], str]:
    """Return scores of a first look at control by name, and what is told of it; none without a simulator."""
    if task.world is None:
        return {}, "no first look: the task has no simulator. 'evaluate' judges its plans"
    condition = task.middle_condition
    episodes = draw_episodes(task, (condition,), CHECK_EPISODES, CHECK_SEED)
    planner = policy_planner(policy, episodes, CHECK_SEED)
    (scores,) = mean_scores(evaluate_planner(planner, episodes, threads))
    check = {name: scores[name] for name in shares_of(task.scores)}
    return check, (
        f"a first look: {', '.join(f'{name} {value:.2f}' for name, value in check.items())} "
        f"({CHECK_EPISODES} episodes, action noise {condition.action_noise:g}, replan {condition.replan})"
    )


def _log_model(training: Training, policy: Policy) -> None:
    """Log the model as MLflow's models are, with its metrics. No training fails by this: `register` makes it good."""
    run, params = training.run, training.settings.model_dump(mode="json")
    card = model_card(
        training_facts(training.task, training.mirror.name, run.run_id, training.account.provenance, params)
    )
    try:
        run.flush()
        if run.deliver_waiting()[1]:
            raise StoreError("the store is away")
        with mlflow_settings(BRIEFLY):
            checks = [f"{CHECK}{name}" for name in shares_of(training.task.scores)]
            log_model(run.client, run.run_id, policy, training.mirror.model, card, (*FINAL_METRICS, *checks))
    except Exception as error:  # whatever it is: the run has all of its files
        training.say(
            f"warning: no logged model in MLflow: {one_line(error)[:200]}; "
            f"'python -m pipeline register --run {run.run_id}' makes it"
        )
