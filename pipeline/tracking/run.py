"""One MLflow run, through one small object."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_LOGGED_ARTIFACTS,
)
from numpy.typing import NDArray

from pipeline.errors import one_line
from pipeline.tracking.delivery import BRIEFLY, deliver, is_away, patiently
from pipeline.tracking.journal import ENDED, Journal
from pipeline.tracking.owner import let_go
from pipeline.tracking.store import mlflow_settings

RETRY_SECONDS = 15.0  # between two tries to reach a store that is away: one may take a few seconds
MLFLOW_BATCH = 1000  # metrics that the store takes at once
FLUSH_SECONDS = 5.0  # a batch of metrics costs 10-20 ms on sqlite: this keeps logging far below 2% of training
OBSTACLE = 200  # characters that are kept of an error
DATASET_PREVIEW = 1000  # rows MLflow sees for its schema; the whole file's sha256 is the digest


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
        self.limits = BRIEFLY  # of a call that could wait in the journal instead
        self.ended = False
        self._known = known  # the run as MLflow had it when we began
        self._metrics: list[list[Any]] = []
        self._flushed = time.monotonic()
        self._tried = -math.inf  # when what waits was last tried
        self.obstacle = ""  # why what waits could not be delivered then

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
        return self.shown_otherwise(text)

    def shown_otherwise(self, values: Mapping[str, Any]) -> list[str]:
        """The settings for which the run, as it was when we began, has a param with another value."""
        known = self._begun().data.params
        return [name for name, value in values.items() if not _same_value(known.get(name, str(value)), str(value))]

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

    def remove_file(self, name: str) -> None:
        """Remove an artifact, if there is one of this name."""
        self._send("removal", {"name": name})

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
        let_go(self.run_id)
        try:
            self.flush()
        finally:  # a full disk can keep the metrics from being sent, but not always the end
            self._send("end", {"status": status, "time": int(time.time() * 1000)})
        if self.journal is None:
            return 0
        self.journal.describe(self.journal.about() | {ENDED: status})
        # Somebody waits for a run that they interrupted: a store that did not answer just now is not asked again.
        given_up = status == "KILLED" and time.monotonic() - self._tried < RETRY_SECONDS
        waiting = self.journal.count_waiting() if given_up else self.deliver_waiting()[1]
        if waiting or resumable:
            self.journal.release()
        else:
            self.journal.remove()
        return waiting

    def leave(self) -> None:
        """Let go of a run that another machine has taken over, without a word to it."""
        self.ended = True
        let_go(self.run_id)
        if self.journal is not None:
            self.journal.remove()

    def deliver_waiting(self) -> tuple[int, int]:
        """Deliver what waits in the journal, in order, as far as the store answers.

        Returns how many calls were delivered, and how many still wait.
        """
        assert self.journal is not None, "only runs with a journal have something waiting"
        count, done, self.obstacle = self.journal.count_waiting(), 0, ""
        try:
            with mlflow_settings(self.limits):
                for item in self.journal.waiting():
                    deliver(self.client, self.run_id, item)
                    done += 1
        except Exception as error:
            if not is_away(error):
                raise
            self.obstacle = one_line(error)[:OBSTACLE]
        finally:
            self._tried = time.monotonic()
            if done:
                self.journal.delivered(done)
        return done, count - done

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
            with mlflow_settings(self.limits):
                deliver(self.client, self.run_id, item)
        except Exception as error:
            if not is_away(error):
                raise
            self._tried, self.obstacle = time.monotonic(), one_line(error)[:OBSTACLE]
            self.journal.put(item)


def list_of(url: str) -> str:
    """The address of the list that the run of this `url` is in. Without the word, MLflow opens its page for traces."""
    return f"{url.rpartition('/')[0]}?workflowType=machine_learning"


def status_of(error: BaseException) -> str:
    """How MLflow calls a run that ended by this."""
    return "KILLED" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "FAILED"


def _same_value(known: str, value: str) -> bool:
    try:
        return known == value or float(known) == float(value)
    except ValueError:
        return False
