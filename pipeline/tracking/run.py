"""One MLflow run, through one small object."""

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from numpy.typing import NDArray

from pipeline.errors import StoreError, one_line
from pipeline.tracking.store import experiment_id

FLUSH_SECONDS = 5.0  # a batch of metrics costs 10-20 ms on sqlite: this keeps logging far below 2% of training
GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")  # what MLflow calls a run that nobody named
DATASET_PREVIEW = 1000  # rows MLflow sees for its schema; the whole file's sha256 is the digest


@dataclass(frozen=True)
class Place:
    """Where a run of a study goes: below which run, and with which tags."""

    parent: str  # run id
    tags: dict[str, str]


class TrackedRun:
    """A run that is RUNNING until `end`. Metrics are buffered for a few seconds at most."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client = client
        self.run_id = run_id
        self._metrics: list[Metric] = []
        self._flushed = time.monotonic()

    @property
    def experiment(self) -> str:
        """The name of the experiment that the run is in."""
        return str(self.client.get_experiment(self.client.get_run(self.run_id).info.experiment_id).name)

    @property
    def url(self) -> str:
        """The run's address below the UI's: `#/experiments/.../runs/...`."""
        return f"#/experiments/{self.client.get_run(self.run_id).info.experiment_id}/runs/{self.run_id}"

    def params(self, values: Mapping[str, Any]) -> list[str]:
        """Log settings as params. Returns those whose value MLflow had already, otherwise, and keeps.

        `mlflow run` writes an entry point's params before it starts us, as the user typed them.
        """
        known = self.client.get_run(self.run_id).data.params
        text = {name: str(value) for name, value in values.items()}
        self._log(params=[Param(name, value) for name, value in text.items() if name not in known])
        return [name for name, value in text.items() if not _same_value(known.get(name, value), value)]

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        self._log(tags=[RunTag(name, value) for name, value in values.items()])

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at `step`; they reach the store within seconds."""
        now = int(time.time() * 1000)
        self._metrics += [Metric(name, value, now, step) for name, value in values.items()]
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what is buffered."""
        if self._metrics:
            self._log(metrics=self._metrics)
        self._metrics, self._flushed = [], time.monotonic()

    def dataset(self, arrays: Mapping[str, NDArray[Any]], source: Path, digest: str, context: str) -> None:
        """Record a data file as an input of the run, by the sha256 of its bytes."""
        preview = {name: np.ascontiguousarray(array[:DATASET_PREVIEW]) for name, array in arrays.items()}
        described = from_numpy(preview, name=source.name, digest=digest[:32]).to_dict()
        described |= {"source_type": "local", "source": json.dumps({"uri": source.absolute().as_uri()})}
        tag = InputTag(MLFLOW_DATASET_CONTEXT, context)
        self.client.log_inputs(self.run_id, [DatasetInput(Dataset(**described), [tag])])

    def file(self, path: Path, folder: str | None = None) -> None:
        """Store a copy of a file as an artifact."""
        self.client.log_artifact(self.run_id, str(path), folder)

    def json(self, name: str, content: Any) -> None:
        """Store JSON as an artifact."""
        self.client.log_text(self.run_id, json.dumps(content, indent=2, sort_keys=True) + "\n", name)

    def end(self, status: str) -> None:
        """Send the rest and end the run as FINISHED, FAILED or KILLED."""
        self.flush()
        self.client.set_terminated(self.run_id, status)

    def _log(self, **what: Any) -> None:
        self.client.log_batch(self.run_id, **what)


def start_run(client: MlflowClient, experiment: str, name: str, chosen: bool, place: Place | None = None) -> TrackedRun:
    """Start a run called `name`: in a study's `place`, or as the one that `mlflow run` has started, or anew.

    A name the user chose (`chosen`, or one given to `mlflow run --run-name`) is not replaced by the files' name.
    Raises `StoreError`.
    """
    try:
        if place:
            home = client.get_run(place.parent).info.experiment_id
            tags = resolve_tags() | {MLFLOW_PARENT_RUN_ID: place.parent} | place.tags
            return TrackedRun(client, client.create_run(home, tags=tags, run_name=name).info.run_id)
        if run_id := os.environ.get("MLFLOW_RUN_ID"):
            given = client.get_run(run_id).info.run_name or ""
            if chosen or not given or GENERATED_NAME.fullmatch(given):
                client.set_tag(run_id, MLFLOW_RUN_NAME, name)
            return TrackedRun(client, run_id)
        run = client.create_run(experiment_id(client, experiment), tags=resolve_tags(), run_name=name)
        return TrackedRun(client, run.info.run_id)
    except MlflowException as error:
        raise StoreError(f"MLflow: the run could not be started: {one_line(error)[:300]}.") from error


def _same_value(known: str, value: str) -> bool:
    try:
        return known == value or float(known) == float(value)
    except ValueError:
        return False
