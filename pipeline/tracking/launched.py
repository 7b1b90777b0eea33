"""What `collect` and `tokenize` leave in the run that `mlflow run` has started for them."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT
from requests import RequestException

from pipeline.errors import StoreError, one_line
from pipeline.files import file_digest
from pipeline.tracking.delivery import patiently
from pipeline.tracking.run import TrackedRun
from pipeline.tracking.store import open_store

LOG = logging.getLogger(__name__)


def describe_files(entry_point: str, counts: Mapping[str, float], files: Sequence[Path]) -> None:
    """Log `counts` as metrics and the sha256 of each of `files` as a tag, in the run of `MLFLOW_RUN_ID`.

    Only a run that is RUNNING and that `mlflow run` started for `entry_point` is taken: an id that was inherited names
    the run of something else. The files are written by now, so a store that is away is a warning.
    """
    run_id = os.environ["MLFLOW_RUN_ID"]
    try:
        client = open_store()
        known = patiently(lambda: client.get_run(run_id))
        if known.info.status != "RUNNING" or known.data.tags.get(MLFLOW_PROJECT_ENTRY_POINT) != entry_point:
            return
        run = TrackedRun(client, run_id, known)
        run.tags({f"sha256.{path.name}": file_digest(path) for path in files})
        run.metrics(counts)
        run.flush()
    except (StoreError, MlflowException, RequestException) as error:
        LOG.warning("MLflow run %s: the files are written, but not described there: %s", run_id, one_line(error)[:300])
