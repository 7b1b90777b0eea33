"""Delivering to MLflow: calls as plain values, which can be kept on disk and made again without harm."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from requests import RequestException

from pipeline.tracking.journal import Item
from pipeline.tracking.store import is_read_only, mlflow_settings

# A server that is away, or hangs, holds a training up for no longer than this.
BRIEFLY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}
# Who asks for delivery waits for a server that is slow, or just back.
WITH_RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "15"}
PATIENCE_SECONDS, PAUSE_SECONDS = 60.0, 0.5  # for calls that cannot wait on disk

# What trying again would not change.
FINAL = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}
# Who may not is told at once. A journal keeps what waits, for somebody may grant the right.
DENIED = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}

T = TypeVar("T")


def is_away(error: Exception) -> bool:
    """Whether the store did not answer, or was busy, rather than refused."""
    if is_read_only(error):
        return False
    if isinstance(error, MlflowException):
        return error.error_code not in FINAL
    return isinstance(error, RequestException)


def patiently(call: Callable[[], T]) -> T:
    """Make a call, again and again for up to a minute while the store is away or busy."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with mlflow_settings(BRIEFLY):
                return call()
        except Exception as error:
            denied = isinstance(error, MlflowException) and error.error_code in DENIED
            if denied or not is_away(error) or time.monotonic() > end:
                raise
        time.sleep(PAUSE_SECONDS)


def deliver(client: MlflowClient, run_id: str, item: Item) -> None:
    """Make one call. Made twice, it leaves the run as once: metrics carry their time, files and tags overwrite."""
    values: Any = item["values"]
    match item["what"]:
        case "batch":
            client.log_batch(
                run_id,
                metrics=[Metric(*each) for each in values.get("metrics", [])],
                params=[Param(*each) for each in values.get("params", [])],
                tags=[RunTag(*each) for each in values.get("tags", [])],
            )
        case "input":
            client.log_inputs(run_id, [DatasetInput(Dataset(**values["dataset"]), [InputTag(*values["tag"])])])
        case "file":
            client.log_artifact(run_id, item["path"], values["folder"])
        case "text":
            client.log_text(run_id, values["text"], values["name"])
        case "removal":
            uri = client.get_run(run_id).info.artifact_uri
            get_artifact_repository(uri, client.tracking_uri).delete_artifacts(values["name"])
        case "end":
            client.set_terminated(run_id, values["status"], values["time"])
