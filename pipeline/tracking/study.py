"""The runs of a study: one for the study, below it one per group, below those one per model.

Every run of a study has the tags `study`, its name, and `kind` (see `names.Kind`).
"""

from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from pipeline.tracking.delivery import patiently
from pipeline.tracking.names import Kind
from pipeline.tracking.query import search
from pipeline.tracking.run import Place, TrackedRun, go_on, launched_run, start_run


def open_study(client: MlflowClient, name: str, experiment: str) -> TrackedRun:
    """The run of the study `name` in an experiment: an earlier one is continued; otherwise one is started.

    If `mlflow run` has started a run for us and the study has one already, the new one only says so.
    """
    earlier = search(client, experiment, study=name, kind=Kind.STUDY)
    if not earlier:
        run = start_run(client, experiment, name, chosen=True)
        run.tags({"kind": Kind.STUDY, "study": name})
        return run
    run_id = earlier[-1].run_id
    if launched := patiently(lambda: launched_run(client)):
        TrackedRun(client, launched.info.run_id).tags(
            {"kind": Kind.CONTINUATION, "continued": run_id, MLFLOW_RUN_NAME: f"{name} (continued)"}
        )
    return go_on(TrackedRun(client, run_id))


def open_group(client: MlflowClient, study: TrackedRun, place: Place) -> TrackedRun:
    """The run of a study's group, at its `place` below the study's: an earlier one is continued, or one is started."""
    found = search(client, **place.tags)
    earlier = [run for run in found if run.experiment_id == study.experiment_id]
    if not earlier:
        return start_run(client, "", f"{place.tags['study']} {place.tags['group']}", chosen=True, place=place)
    run = go_on(TrackedRun(client, earlier[-1].run_id))
    run.tags({MLFLOW_PARENT_RUN_ID: study.run_id})
    return run
