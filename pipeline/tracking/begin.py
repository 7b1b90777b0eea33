"""Beginning with a run: a new one, one that `mlflow run` has started for us, or one that goes on."""

import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from requests import RequestException

from pipeline.errors import SettingsError, StoreError, one_line
from pipeline.names import CONTINUED, FAILURE, KIND, NAME, WEIGHTS_SHA256, Kind
from pipeline.tracking.delivery import is_away, patiently
from pipeline.tracking.journal import ENDED, PLACE, Journal, journal_of, open_journal, starting
from pipeline.tracking.owner import JOURNAL_TAG, journal_place, keep_alive, owner_tags
from pipeline.tracking.run import TrackedRun, status_of
from pipeline.tracking.store import advice, experiment_id, is_read_only
from pipeline.versions import UNKNOWN, code_state

LOG = logging.getLogger(__name__)
COMMIT_TAGS = "mlflow.source.git."  # they begin so
RESUMED = "resumed"  # tag: how often a run was resumed
GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")  # what MLflow calls a run that nobody named


@dataclass(frozen=True)
class Place:
    """Where a run of a study goes: below which run, with which tags, and as what."""

    parent: str  # run id
    tags: dict[str, str]
    name: str = ""  # in MLflow, of a training; empty: that of its files


def start_run(
    client: MlflowClient,
    experiment: str,
    name: str,
    chosen: bool,
    place: Place | None = None,
    about: Mapping[str, Any] | None = None,
) -> TrackedRun:
    """Start a run called `name`: in a study's `place`, or as the one that `mlflow run` has started, or anew.

    A name the user chose (`chosen`, or one given to `mlflow run --run-name`) is not replaced by the files' name.
    `about` goes into its journal. Raises `StoreError`, and `SettingsError` as `launched_run` does.
    """

    def start() -> TrackedRun:
        context = resolve_tags()
        tags = {name: context[name] for name in context.keys() - foreign_commit(context)} | owner_tags()
        if place:
            home = client.get_run(place.parent).info.experiment_id
            tags |= {MLFLOW_PARENT_RUN_ID: place.parent} | place.tags
        elif known:
            run_id = known.info.run_id
            if chosen or not known.info.run_name or GENERATED_NAME.fullmatch(known.info.run_name):
                client.set_tag(run_id, MLFLOW_RUN_NAME, name)
            for tag in foreign_commit(client.get_run(run_id).data.tags):  # as it is now: a retry finds fewer
                client.delete_tag(run_id, tag)
            TrackedRun(client, run_id).tags(owner_tags())
            return TrackedRun(client, run_id, known, str(client.get_experiment(known.info.experiment_id).name))
        else:
            home = experiment_id(client, experiment)
        made = client.create_run(home, tags=tags, run_name=name)
        return TrackedRun(client, made.info.run_id, made)

    run: TrackedRun | None = None
    known: Run | None = None
    try:
        if place is None:
            known = patiently(lambda: launched_run(client))
        with starting():
            run = patiently(start)
            described = {NAME: name, "started": time.time(), PLACE: journal_place(), **(about or {})}
            run.journal = open_journal(run.run_id, described)
        keep_alive(run.run_id)
    except (MlflowException, RequestException) as error:
        raise StoreError(
            f"MLflow: expected a store that takes a new run, found: {one_line(error)[:300]}. {advice(error)}"
        ) from error
    except BaseException as error:
        if run:
            run.end(status_of(error))
        elif isinstance(error, OSError) and is_read_only(error):
            raise StoreError(
                f"{error.filename}: expected to write a run's journal there, found: {error.strerror}. {advice(error)}"
            ) from error
        raise
    return run


def foreign_commit(tags: Iterable[str]) -> set[str]:
    """Those of MLflow's tags that tell a commit, where that is of another repository, in which our sources lie."""
    found = {tag for tag in tags if tag.startswith(COMMIT_TAGS)}
    return found if found and code_state()[0] == UNKNOWN else set()


def go_on(run: TrackedRun) -> TrackedRun:
    """Make an earlier run of a study RUNNING again, and ours, with a journal; what waits in its old one goes first.

    Nobody must be working on it: see `owner.owner_elsewhere`.
    """
    run.tags(owner_tags())  # before there is a journal, where it could wait
    journal = journal_of(run.run_id)
    if journal.own():
        run.journal = journal
        run.deliver_waiting()
        _take_up(journal)
    else:
        run.journal = open_journal(run.run_id, {"started": time.time(), PLACE: journal_place()})
    patiently(lambda: run.client.update_run(run.run_id, status="RUNNING"))
    keep_alive(run.run_id)
    return run


def _take_up(journal: Journal) -> None:
    """Write down that a run goes on, here."""
    about = {name: value for name, value in journal.about().items() if name != ENDED}
    journal.describe(about | {PLACE: journal_place()})


def resume_run(client: MlflowClient, journal: Journal, in_study: bool) -> TrackedRun:
    """Go on with a run whose journal is ours: it is RUNNING again, and its tag `resumed` counts how often that was.

    A run that `mlflow run` has started for this (for a study, if it is part of one) only says so. Raises `StoreError`,
    and `SettingsError` as `launched_run` does.
    """
    run_id, launched = journal.run_id, None
    try:
        if not in_study and os.environ.get("MLFLOW_RUN_ID") != run_id:
            launched = patiently(lambda: launched_run(client))
        run = TrackedRun(client, run_id, patiently(lambda: client.get_run(run_id)))
        run.journal = journal
        if journal.has_waiting and run.deliver_waiting()[1]:
            raise StoreError(
                f"MLflow run {run_id}: expected a store that takes what the run left, found one that is away. "
                "Start it, and try again."
            )
        if launched:
            TrackedRun(client, launched.info.run_id).tags({KIND: Kind.CONTINUATION, CONTINUED: run_id})
        tags = patiently(lambda: client.get_run(run_id)).data.tags
        if FAILURE in tags:
            patiently(lambda: client.delete_tag(run_id, FAILURE))
        patiently(lambda: client.set_tag(run_id, RESUMED, str(int(tags.get(RESUMED, "0")) + 1)))
        TrackedRun(client, run_id).tags(owner_tags())
        _take_up(journal)
        patiently(lambda: client.update_run(run_id, status="RUNNING"))
    except (MlflowException, RequestException) as error:
        raise StoreError(
            f"MLflow run {run_id}: expected one that can go on, found: {one_line(error)[:300]}. "
            "Start the store, or train anew without --resume."
        ) from error
    keep_alive(run_id)
    return run


def experiment_of(client: MlflowClient, name: str) -> str:
    """The experiment that runs go to: the one of the run that `mlflow run` has started for us, or else `name`.

    Raises `SettingsError` as `launched_run` does.
    """
    if launched := patiently(lambda: launched_run(client)):
        return str(patiently(lambda: client.get_experiment(launched.info.experiment_id)).name)
    return name


def launched_run(client: MlflowClient) -> Run | None:
    """The run that `mlflow run` has started for us, by `MLFLOW_RUN_ID`; None where that is not set.

    Processes inherit the variable from each other: raises `SettingsError` unless it names a run that is RUNNING and
    that nothing of ours has been written to.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return None
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if is_away(error):
            raise
        found = one_line(error)[:200].rstrip(".")
    else:
        used = run.data.tags.keys() & {JOURNAL_TAG, KIND, WEIGHTS_SHA256}
        if run.info.lifecycle_stage != "active":
            found = "a deleted one"
        elif run.info.status != "RUNNING":
            found = f"one that is {run.info.status}"
        elif used:
            found = f"one that is in use, with the tag '{min(used)}'"
        else:
            return run
    raise SettingsError(
        f"MLFLOW_RUN_ID: expected a run that was started for this command, found {found} ({run_id[:50]}). "
        "Unset MLFLOW_RUN_ID."
    )


@contextmanager
def system_metrics(run: TrackedRun) -> Iterator[None]:
    """Within it, MLflow logs the machine's load to the run, if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING is set."""
    monitor = None
    if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
        try:
            monitor = SystemMetricsMonitor(run.run_id, resume_logging=True, tracking_uri=run.client.tracking_uri)
            monitor.start()
        except Exception as error:  # a missing package, a store that is away: no run fails by this
            LOG.warning("MLflow run %s: no system metrics: %s", run.run_id, one_line(error)[:300])
    try:
        yield
    finally:
        if monitor:
            monitor.finish()
