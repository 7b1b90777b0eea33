"""One MLflow run, through one small object."""

import json
import logging
import math
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_LOGGED_ARTIFACTS,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
)
from numpy.typing import NDArray
from requests import RequestException

from pipeline.errors import StoreError, one_line
from pipeline.tracking.delivery import BRIEFLY, deliver, is_away, patiently
from pipeline.tracking.journal import ENDED, Journal, journal_of, journals_folder, open_journal, starting
from pipeline.tracking.names import FAILURE, Kind
from pipeline.tracking.store import experiment_id, mlflow_settings

LOG = logging.getLogger(__name__)
RETRY_SECONDS = 15.0  # between two tries to reach a store that is away: one may take a few seconds
MLFLOW_BATCH = 1000  # metrics that the store takes at once
FLUSH_SECONDS = 5.0  # a batch of metrics costs 10-20 ms on sqlite: this keeps logging far below 2% of training
JOURNAL_TAG = "journal"  # on which host, and where on it, a run has its journal
RESUMED = "resumed"  # tag: how often a run was gone on with
GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")  # what MLflow calls a run that nobody named
DATASET_PREVIEW = 1000  # rows MLflow sees for its schema; the whole file's sha256 is the digest


@dataclass(frozen=True)
class Place:
    """Where a run of a study goes: below which run, with which tags, and as what."""

    parent: str  # run id
    tags: dict[str, str]
    name: str = ""  # in MLflow, of a training; empty: that of its files


class TrackedRun:
    """A run that is RUNNING until `end`. Metrics are buffered for a few seconds at most.

    With a journal, what cannot be delivered waits there in order, and nobody waits for it; without one, a call is made
    again for up to a minute before it raises.
    """

    def __init__(self, client: MlflowClient, run_id: str, known: Run | None = None, experiment: str = "") -> None:
        self.client = client
        self.run_id = run_id
        self.experiment = experiment  # that `mlflow run` has put the run into; empty where we have chosen
        self.journal: Journal | None = None
        self.ended = False
        self._known = known  # the run as MLflow had it when we began
        self._metrics: list[list[Any]] = []
        self._flushed = time.monotonic()
        self._tried = -math.inf  # when what waits was last tried

    def _begun(self) -> Run:
        if self._known is None:
            self._known = patiently(lambda: self.client.get_run(self.run_id))
        return self._known

    @property
    def experiment_id(self) -> str:
        """The experiment that the run is in."""
        return str(self._begun().info.experiment_id)

    @property
    def model_id(self) -> str | None:
        """The logged model that the run has left, if it has."""
        outputs = self._begun().outputs
        return str(outputs.model_outputs[-1].model_id) if outputs and outputs.model_outputs else None

    @property
    def url(self) -> str:
        """The run's address below the UI's: `#/experiments/.../runs/...`."""
        return f"#/experiments/{self.experiment_id}/runs/{self.run_id}"

    def params(self, values: Mapping[str, Any]) -> list[str]:
        """Log settings as params. Returns those whose value MLflow had already, otherwise, and keeps.

        `mlflow run` writes an entry point's params before it starts us, as the user typed them.
        """
        known = self._begun().data.params
        text = {name: str(value) for name, value in values.items()}
        self._send("batch", {"params": [(name, value) for name, value in text.items() if name not in known]})
        return [name for name, value in text.items() if not _same_value(known.get(name, value), value)]

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        self._send("batch", {"tags": list(values.items())})

    def metrics(
        self, values: Mapping[str, float], step: int = 0, time_ms: int | None = None, model_id: str | None = None
    ) -> None:
        """Log metrics at `step`, as of now or of `time_ms`, also to a logged model; they are sent within seconds."""
        when = int(time.time() * 1000) if time_ms is None else time_ms
        self._metrics += [[name, value, when, step, model_id] for name, value in values.items()]
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what is buffered."""
        for start in range(0, len(self._metrics), MLFLOW_BATCH):
            self._send("batch", {"metrics": self._metrics[start : start + MLFLOW_BATCH]})
        self._metrics, self._flushed = [], time.monotonic()

    def dataset(self, arrays: Mapping[str, NDArray[Any]], source: Path, digest: str, context: str) -> None:
        """Record a data file as an input of the run, by the sha256 of its bytes."""
        preview = {name: np.ascontiguousarray(array[:DATASET_PREVIEW]) for name, array in arrays.items()}
        described = from_numpy(preview, name=source.name, digest=digest[:32]).to_dict()
        whole = from_numpy(dict(arrays), name=source.name, digest=digest[:32])
        described |= {"profile": json.dumps(whole.profile)}
        described |= {"source_type": "local", "source": json.dumps({"uri": source.absolute().as_uri()})}
        self._send("input", {"dataset": described, "tag": [MLFLOW_DATASET_CONTEXT, context]})

    def file(self, path: Path, folder: str | None = None) -> None:
        """Store a copy of a file as an artifact."""
        self._send("file", {"folder": folder}, path)

    def json(self, name: str, content: Any) -> None:
        """Store JSON as an artifact."""
        self._send("text", {"name": name, "text": json.dumps(content, indent=2, sort_keys=True) + "\n"})

    def table(self, name: str, content: Mapping[str, Any]) -> None:
        """Store a table, `{"columns": [...], "data": [[...], ...]}`, as an artifact that MLflow's UI shows as one."""
        self.json(name, content)
        self.tags({MLFLOW_LOGGED_ARTIFACTS: json.dumps([{"path": name, "type": "table"}])})

    def end(self, status: str, resumable: bool = False) -> int:
        """Send the rest and end the run as FINISHED, FAILED or KILLED, once. Returns how many calls still wait.

        The journal goes, unless calls wait in it or the run can be resumed from it.
        """
        if self.ended:
            return 0
        self.ended = True
        try:
            self.flush()
        finally:  # a full disk can keep the metrics from being sent, but not always the end
            self._send("end", {"status": status, "time": int(time.time() * 1000)})
        if self.journal is None:
            return 0
        self.journal.describe(self.journal.about() | {ENDED: status})
        # Somebody waits for a run that they interrupted: a store that did not answer just now is not asked again.
        given_up = status == "KILLED" and time.monotonic() - self._tried < RETRY_SECONDS
        waiting = len(self.journal.waiting()) if given_up else self.deliver_waiting()[1]
        if waiting or resumable:
            self.journal.release()
        else:
            self.journal.remove()
        return waiting

    def deliver_waiting(self) -> tuple[int, int]:
        """Deliver what waits in the journal, in order, as far as the store answers.

        Returns how many calls were delivered, and how many still wait.
        """
        assert self.journal is not None, "only runs with a journal have something waiting"
        waiting = self.journal.waiting()
        done = 0
        try:
            with mlflow_settings(BRIEFLY):
                for item in waiting:
                    deliver(self.client, self.run_id, item)
                    done += 1
        except Exception as error:
            if not is_away(error):
                raise
        finally:
            self._tried = time.monotonic()
            if done:
                self.journal.delivered(done)
        return done, len(waiting) - done

    def _send(self, what: str, values: dict[str, Any], path: Path | None = None) -> None:
        item = {"what": what, "values": values} | ({"path": str(path)} if path else {})
        if self.journal is None:
            patiently(lambda: deliver(self.client, self.run_id, item))
            return
        if self.journal.has_waiting and (
            time.monotonic() - self._tried < RETRY_SECONDS or self.deliver_waiting()[1] > 0
        ):
            self.journal.put(item)
            return
        try:
            with mlflow_settings(BRIEFLY):
                deliver(self.client, self.run_id, item)
        except Exception as error:
            if not is_away(error):
                raise
            self._tried = time.monotonic()
            self.journal.put(item)


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
    `about` goes into its journal. Raises `StoreError`.
    """

    def start() -> TrackedRun:
        tags = resolve_tags() | {JOURNAL_TAG: journal_place()}
        if place:
            home = client.get_run(place.parent).info.experiment_id
            tags |= {MLFLOW_PARENT_RUN_ID: place.parent} | place.tags
        elif run_id := os.environ.get("MLFLOW_RUN_ID"):
            known = client.get_run(run_id)
            if chosen or not known.info.run_name or GENERATED_NAME.fullmatch(known.info.run_name):
                client.set_tag(run_id, MLFLOW_RUN_NAME, name)
            client.set_tag(run_id, JOURNAL_TAG, tags[JOURNAL_TAG])
            return TrackedRun(client, run_id, known, str(client.get_experiment(known.info.experiment_id).name))
        else:
            home = experiment_id(client, experiment)
        made = client.create_run(home, tags=tags, run_name=name)
        return TrackedRun(client, made.info.run_id, made)

    run: TrackedRun | None = None
    try:
        with starting():
            run = patiently(start)
            run.journal = open_journal(run.run_id, {"name": name, "started": time.time(), **(about or {})})
    except (MlflowException, RequestException) as error:
        raise StoreError(
            f"MLflow: expected a store that takes a new run, found: {one_line(error)[:300]}. "
            "Start the server, or correct or unset MLFLOW_TRACKING_URI."
        ) from error
    except BaseException as error:
        if run:
            run.end(status_of(error))
        raise
    return run


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


def list_of(url: str) -> str:
    """The address of the list that the run of this `url` is in. Without the word, MLflow opens its page for traces."""
    return f"{url.rpartition('/')[0]}?workflowType=machine_learning"


def status_of(error: BaseException) -> str:
    """How MLflow calls a run that ended by this."""
    return "KILLED" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "FAILED"


def go_on(run: TrackedRun) -> TrackedRun:
    """Make an earlier run of a study RUNNING again, with a journal; what waits in its old one is delivered first."""
    journal = journal_of(run.run_id)
    if journal.own():
        run.journal = journal
        run.deliver_waiting()
        journal.describe({name: value for name, value in journal.about().items() if name != ENDED})
    else:
        run.journal = open_journal(run.run_id, {"started": time.time()})
    patiently(lambda: run.client.update_run(run.run_id, status="RUNNING"))
    return run


def resume_run(client: MlflowClient, journal: Journal, in_study: bool) -> TrackedRun:
    """Go on with a run whose journal is ours: it is RUNNING again, and its tag `resumed` counts how often that was.

    A run that `mlflow run` has started for this (for a study, if it is part of one) only says so. Raises `StoreError`.
    """
    run_id, launched = journal.run_id, os.environ.get("MLFLOW_RUN_ID")
    try:
        run = TrackedRun(client, run_id, patiently(lambda: client.get_run(run_id)))
        run.journal = journal
        if journal.has_waiting and run.deliver_waiting()[1]:
            raise StoreError(
                f"MLflow run {run_id}: expected a store that takes what the run left, found one that is away. "
                "Start it, and try again."
            )
        if launched not in (None, run_id) and not in_study:
            TrackedRun(client, str(launched)).tags({"kind": Kind.CONTINUATION, "continued": run_id})
        tags = patiently(lambda: client.get_run(run_id)).data.tags
        if FAILURE in tags:
            patiently(lambda: client.delete_tag(run_id, FAILURE))
        patiently(lambda: client.set_tag(run_id, RESUMED, str(int(tags.get(RESUMED, "0")) + 1)))
        journal.describe({name: value for name, value in journal.about().items() if name != ENDED})
        patiently(lambda: client.update_run(run_id, status="RUNNING"))
    except (MlflowException, RequestException) as error:
        raise StoreError(
            f"MLflow run {run_id}: expected one that can go on, found: {one_line(error)[:300]}. "
            "Start the store, or train anew without --resume."
        ) from error
    return run


def experiment_of(client: MlflowClient, name: str) -> str:
    """The experiment that runs go to: the one of the run that `mlflow run` has started for us, or else `name`."""
    if run_id := os.environ.get("MLFLOW_RUN_ID"):
        launched = patiently(lambda: client.get_run(run_id))
        return str(patiently(lambda: client.get_experiment(launched.info.experiment_id)).name)
    return name


def journal_place() -> str:
    """The host and the folder where runs that are started here have their journals."""
    return f"{socket.gethostname()}:{journals_folder()}"


def _same_value(known: str, value: str) -> bool:
    try:
        return known == value or float(known) == float(value)
    except ValueError:
        return False
