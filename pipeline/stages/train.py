"""Train one model: data in, MLflow run and mirror out."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

import torch

from pipeline.config import AUTO
from pipeline.errors import DataError, one_line
from pipeline.methods.method import Method, Prepared
from pipeline.methods.settings import TrainSettings
from pipeline.names import DEVICE, METHOD, NAME, TOGETHER
from pipeline.stages.account import SnapshotWriter, Training, account_of
from pipeline.stages.finish import Trained, finish
from pipeline.stages.make_data import make_missing_data
from pipeline.stages.say import Say
from pipeline.stages.tokenize import REBUILD, require_horizon
from pipeline.stages.unfinished import Unfinished, going_on, say_what_was_left
from pipeline.streams import global_torch_stream
from pipeline.tasks.facts import facts_of, require_fit
from pipeline.tasks.project import DEFAULT
from pipeline.tasks.settings import settle
from pipeline.tasks.task import Task
from pipeline.tracking.begin import Place, resume_run, start_run, system_metrics
from pipeline.tracking.mirror import MIRROR, Mirror, reserve
from pipeline.tracking.run import TrackedRun, status_of
from pipeline.tracking.store import open_store
from pipeline.training.device import faults_said, find_device, use_device
from pipeline.training.fit import Epoch, Step, fit, problem_of, training_warnings
from pipeline.training.snapshots import load_snapshot
from pipeline.training.state import Snapshot
from pipeline.versions import code_digest

STAGES = logging.getLogger(__name__)

Watch = Callable[[Step], None]


def train(method: Method, settings: TrainSettings, say: Say, watch: Watch, place: Place | None = None) -> Trained:
    """Train, track and mirror one model, in a study's `place` if it is part of one; or go on with an unfinished run.

    Bad input raises a `UserError` before any run is started. Once a run is started it ends FINISHED, FAILED with the
    reason in its log, or KILLED; if its process dies, `resume` goes on with it.
    """
    with going_on(method, settings) as unfinished:
        if unfinished is not None:
            settings = unfinished.settings
            if unfinished.code != code_digest():
                say("warning: the code has changed since the run was started, so its bits may be others")
        elif place is None:
            say_what_was_left(say)
        torch.set_num_threads(settings.threads)
        use_device(settings)  # refuses one that is absent before data are made
        settings, task = settle(settings)
        make_missing_data(settings, task, say)
        prepared = prepare(method, settings, task)
        STAGES.debug("the data is read and split")
        for warning in (*prepared.warnings, *training_warnings(settings, prepared)):
            say(f"warning: {warning}")
        under_way = start_training(method, task, settings, prepared, place, unfinished, say)
        try:
            with system_metrics(under_way.training.run), faults_said():
                return _fit(under_way, watch)
        except BaseException as error:
            under_way.end(error)
            raise


@dataclass(frozen=True)
class UnderWay:
    """A training under way, what keeps its snapshots, and the one it goes on from, if it does."""

    training: Training
    snapshots: SnapshotWriter
    snapshot: Snapshot | None

    def end(self, error: BaseException) -> None:
        """End its run by an error."""
        end_unfinished(self.training.run, self.training.mirror, self.snapshots, error, self.training.say)


def start_training(
    method: Method,
    task: Task,
    settings: TrainSettings,
    prepared: Prepared,
    place: Place | None,
    unfinished: Unfinished | None,
    say: Say,
    together: int = 0,
) -> UnderWay:
    """Build the network, and begin the run of its training; what fails once this is begun ends it.

    `together` is how many models are trained at once, 0 for one alone.
    """
    with global_torch_stream(settings.seed, "weights"):
        network = method.build(settings, prepared.interface).to(find_device(settings))
    problem = problem_of(method, network, prepared, settings)
    run, mirror, snapshot = begin(method, settings, prepared, place, unfinished, together)
    assert run.journal is not None, "a run that is begun has its journal"
    STAGES.debug("the run %s is started, in %s", run.run_id, run.journal.folder)
    snapshots = SnapshotWriter(run.journal.snapshot)
    try:
        training = Training(
            method=method, task=task, settings=settings, prepared=prepared, problem=problem,
            run=run, mirror=mirror, account=account_of(snapshot), say=say, together=together,
        )  # fmt: skip
    except BaseException as error:
        end_unfinished(run, mirror, snapshots, error, say)
        raise
    return UnderWay(training, snapshots, snapshot)


def begin(
    method: Method,
    settings: TrainSettings,
    prepared: Prepared,
    place: Place | None,
    unfinished: Unfinished | None,
    together: int,
) -> tuple[TrackedRun, Mirror, Snapshot | None]:
    """Start a run with its files and its journal, or take up an unfinished one, from its snapshot if it has one."""
    client = open_store()
    if unfinished:
        unfinished.require_same_data(prepared.source.digests)
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
            METHOD: method.name,
            "settings": settings.model_dump(mode="json"),
            "code": code_digest(),
            DEVICE: find_device(settings).type,
        }
        about |= {NAME: mirror.name, "files": prepared.source.digests} | ({TOGETHER: together} if together else {})
        run = start_run(client, settings.experiment, name, chosen, place, about)
    except BaseException:
        mirror.hidden_log.unlink()
        raise
    return run, mirror, None


def end_unfinished(run: TrackedRun, mirror: Mirror, snapshots: SnapshotWriter, error: BaseException, say: Say) -> None:
    """End the run as KILLED or FAILED, whatever else goes wrong on the way, with the reason in its log."""
    if run.ended:  # it was interrupted after all was done
        return
    status = status_of(error)
    log = partial(_publish_log, run, mirror, f"{status.lower()}: {one_line(error)}")
    end = partial(run.end, status, resumable=True)
    for what, store in (("its snapshot", snapshots.write), ("its log", log), (f"that it is {status}", end)):
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
    interface, where = prepared.interface, str(prepared.source.files["data"])
    sizes = len(interface.state.mean), len(interface.action.mean)
    require_fit(where, interface.task, sizes, task, DataError, REBUILD)
    require_horizon(where, interface.horizon, settings, task)
    return replace(prepared, interface=replace(interface, task=facts_of(task)))


def _fit(under_way: UnderWay, watch: Watch) -> Trained:
    open_or_resume(under_way)
    training = under_way.training
    account = training.account
    before, begun = account.seconds, time.perf_counter()
    for event in fit(training.problem, training.settings, under_way.snapshot):
        account.seconds = before + time.perf_counter() - begun
        if isinstance(event, Step):
            watch(event)
        record(under_way, event)
    return finish(training)


def open_or_resume(under_way: UnderWay) -> None:
    """Open the run's log, or go on with it."""
    training, snapshot = under_way.training, under_way.snapshot
    account, mirror = training.account, training.mirror
    mirror.rewrite(account.lines)
    if snapshot:
        training.say(f"going on with {mirror.name} from step {snapshot.values['step']:,}")
    else:
        training.open()
    # What was measured before the interruption is logged again, as of its time: MLflow keeps one of each. A step is
    # logged once it is in a snapshot on disk, or a run that goes on from an older one would log it as of two times.
    for row in account.epochs:
        training.log_epoch(row)
    under_way.snapshots.logged = training.log_steps(0)


def record(under_way: UnderWay, event: Step | Epoch) -> None:
    """Log an event, and keep a snapshot if it is time to."""
    training, snapshots = under_way.training, under_way.snapshots
    account = training.account
    if isinstance(event, Step):
        account.add_step(event)
    else:
        training.note(account.add_epoch(event))
    if snapshots.keep(partial(account.snapshot, event), at_once=isinstance(event, Epoch)):
        snapshots.logged = training.log_steps(snapshots.logged)
    if isinstance(event, Epoch):
        training.log_epoch(account.epochs[-1])
