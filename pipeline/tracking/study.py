"""The runs of a study: one for the study, below it one a method, below those one a model.

Every run of a study has the tags `study`, its name, and `kind`: study, method, model, original or yardstick.
"""

import os

from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from pipeline.tracking.query import search
from pipeline.tracking.run import Place, TrackedRun, go_on, start_run


def open_study(client: MlflowClient, name: str, experiment: str) -> TrackedRun:
    """The run of the study `name`: an earlier one goes on; otherwise one is started.

    If `mlflow run` has started a run for us and the study has one already, the new one only says so.
    """
    earlier = search(client, study=name, kind="study")
    if not earlier:
        run = start_run(client, experiment, name, chosen=True)
        run.tags({"kind": "study", "study": name})
        return run
    run_id, launched = earlier[-1].run_id, os.environ.get("MLFLOW_RUN_ID")
    if launched not in (None, run_id):
        TrackedRun(client, str(launched)).tags(
            {"kind": "continuation", "continued": run_id, MLFLOW_RUN_NAME: f"{name} (continued)"}
        )
    return go_on(TrackedRun(client, run_id))


def open_method(client: MlflowClient, study: TrackedRun, name: str, method: str) -> TrackedRun:
    """The run of a method of the study `name`, below the study's: an earlier one goes on; otherwise one is started."""
    tags = {"study": name, "kind": "method", "study_method": method}
    earlier = search(client, **tags)
    if not earlier:
        return start_run(client, "", f"{name} {method}", chosen=True, place=Place(study.run_id, tags))
    run = go_on(TrackedRun(client, earlier[-1].run_id))
    run.tags({MLFLOW_PARENT_RUN_ID: study.run_id})
    return run
