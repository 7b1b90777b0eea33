"""What jobs need on the workers of a cluster, and whether they can work in folders of their own."""

import os
from contextlib import AbstractContextManager

from pipeline.executors.run import ready
from pipeline.executors.settings import RunsJobs
from pipeline.tracking.mirror import KEPT_AT
from pipeline.tracking.owner import journal_place
from pipeline.tracking.store import is_server

TAKEN = ("MLFLOW_", "TINYPI_", "OMP_")  # beginnings of the names of variables that workers get


def ready_to_run(settings: RunsJobs, in_store: bool) -> AbstractContextManager[None]:
    """Within it, jobs can run as the settings say; `in_store` says that they read or write runs.

    A store that is a file is reached in our folder only. Raises `UserError` kinds.
    """
    shares = in_store and not is_server()
    environment = {name: value for name, value in os.environ.items() if name.startswith(TAKEN)}
    return ready(settings, shares, environment if shares else environment | {KEPT_AT: journal_place()})
