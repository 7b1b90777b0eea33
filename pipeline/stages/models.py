"""Models that a command is given, as files or as runs of the store: whether they can be used for its task."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import ALL, NONE
from pipeline.errors import CheckpointError, SettingsError
from pipeline.policies.exported import ExportedPolicy
from pipeline.policies.load import load_policy
from pipeline.policies.policy import Policy
from pipeline.tasks.facts import require_fit, require_length
from pipeline.tasks.task import Task
from pipeline.tracking.query import StoredRun, is_acting, is_average, is_model, search_study, task_of
from pipeline.tracking.store import Store, ui_command


def load_for(task: Task, path: Path, tokenizer: str, act: Mapping[str, Any] | None = None) -> Policy:
    """Open a model file, to act by `act`, see `load_policy`.

    Raises `CheckpointError`, also if it is not for the task or its horizon is too short; `SettingsError`.
    """
    policy = load_policy(path, None if tokenizer == NONE else tokenizer, act)
    check_policy(task, path, policy)
    return policy


def check_policy(task: Task, path: Path, policy: Policy | ExportedPolicy) -> None:
    """Raise `CheckpointError` unless a model is for the task and plans far enough for all conditions."""
    require_model_of(task, path, policy)
    require_length(str(path), policy.horizon, task, CheckpointError)


def require_model_of(task: Task, path: Path, policy: Policy | ExportedPolicy) -> None:
    """Raise `CheckpointError` unless a model is for the task."""
    sizes = policy.state_dim, policy.action_dim
    require_fit(str(path), policy.task, sizes, task, CheckpointError, "Name its task by --task, or another model.")


def models_of_study(store: Store, study: str, experiment: str = ALL, acting: bool = False) -> list[StoredRun]:
    """Return a study's finished models and averaged policies; raises `SettingsError` if there are no models.

    With `acting`, also models that act by another rule.
    """
    found = [run for run in search_study(store, study, experiment) if run.status == "FINISHED"]
    runs = [run for run in found if is_model(run)]
    runs += [run for run in found if acting and is_acting(run)] + [run for run in found if is_average(run)]
    if not runs:
        raise SettingsError(
            f"study: expected one with finished models, found none called '{study}'. See {ui_command()}"
        )
    return runs


def require_finished(run: StoredRun, acting: bool = False) -> None:
    """Raise `SettingsError` unless a run has a model, with `acting` maybe another run's, and is not deleted."""
    if run.deleted:
        raise SettingsError(
            f"run: expected a finished training run, found that '{run.name}' ({run.run_id}) is deleted. "
            "Restore it in MLflow, or name another."
        )
    if run.status != "FINISHED" or not (is_model(run) or is_average(run) or (acting and is_acting(run))):
        raise SettingsError(
            f"run: expected a finished training run, found '{run.name}' ({run.run_id}). See {ui_command()}"
        )


def require_task(run: StoredRun, task: Task) -> None:
    """Raise `SettingsError` unless a run is of the task."""
    if (found := task_of(run)) != task.name:
        raise SettingsError(
            f"run: expected one of the task '{task.name}', found that '{run.name}' ({run.run_id}) is of '{found}'. "
            "Name its task by --task."
        )
