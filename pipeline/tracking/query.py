"""Reading the store back: which runs are there, and what they left."""

import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from mlflow.tracking import MlflowClient
from requests import RequestException

from pipeline.config import ALL
from pipeline.errors import SettingsError, StoreError, one_line, reason
from pipeline.names import (
    CHUNK,
    GROUP,
    HORIZON,
    KIND,
    MEMBERS,
    METHOD,
    NAME,
    SEED,
    STUDY,
    TASK,
    TRAINED,
    WEIGHTS_SHA256,
    Kind,
)
from pipeline.tasks.project import DEFAULT
from pipeline.tasks.task import Task
from pipeline.tracking.delivery import patiently
from pipeline.tracking.store import advice, ui_command

PAGE = 1000
RUNNING = "RUNNING"  # the status of a run that has not ended
T = TypeVar("T")


@dataclass(frozen=True)
class StoredRun:
    """A run as the store has it. Metrics are the last values."""

    run_id: str
    name: str
    status: str
    started: int  # ms since 1970
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    experiment_id: str
    deleted: bool = False


def is_model(run: StoredRun) -> bool:
    """Whether a run is the training of a model of ours; those of early versions have no tag `kind`."""
    ours = {METHOD, NAME, WEIGHTS_SHA256} <= run.tags.keys() and run.params.get(SEED, "").isdecimal()
    return ours and run.tags.get(KIND, Kind.MODEL) == Kind.MODEL


def is_average(run: StoredRun) -> bool:
    """Whether a run is the averaged policy of a study's group."""
    return run.tags.get(KIND) == Kind.AVERAGE and {METHOD, NAME, MEMBERS} <= run.tags.keys()


def is_acting(run: StoredRun) -> bool:
    """Whether a run is a study's model that acts by another rule than it was trained with."""
    ours = {METHOD, NAME, WEIGHTS_SHA256, TRAINED} <= run.tags.keys()
    return ours and run.tags.get(KIND) == Kind.ACTING and run.params.get(SEED, "").isdecimal()


def group_of(run: StoredRun) -> str:
    """The group of a run within its study; studies of early versions have one per method."""
    return run.tags.get(GROUP) or run.tags.get(METHOD, "")


def task_of(run: StoredRun) -> str:
    """The name of a run's task; runs of early versions do not tell theirs."""
    return run.tags.get(TASK, DEFAULT)


def chunk_of(run: StoredRun, task: Task) -> int:
    """The actions of a chunk of a run's data; runs of early versions do not tell them: theirs are the task's."""
    told = run.tags.get(CHUNK) or run.params.get(HORIZON, "")
    return int(told) if told.isdecimal() and int(told) else task.horizon


def search(
    client: MlflowClient, tags: Mapping[str, str] | None = None, experiment: str | None = None, status: str = ""
) -> list[StoredRun]:
    """All runs, deleted ones aside, that have these tags; of one experiment or status if it is named.

    The oldest are first. Raises `StoreError`.
    """
    with _listing("runs"):
        return patiently(lambda: _search(client, tags or {}, experiment, status))


@contextmanager
def _listing(what: str) -> Iterator[None]:
    """Raise `StoreError` if the store does not list something: none found would be another answer."""
    try:
        yield
    except (MlflowException, RequestException) as error:
        raise StoreError(
            f"MLflow: expected the store to list its {what}, found: {one_line(error)[:200]}. {advice(error)}"
        ) from error


def _search(client: MlflowClient, tags: Mapping[str, str], experiment: str | None, status: str) -> list[StoredRun]:
    wanted = [f"tags.{name} = {_quoted(value)}" for name, value in tags.items()]
    wanted += [f"attributes.status = '{status}'"] if status else []
    if experiment is None:
        found = all_pages(client.search_experiments)
    else:
        named = client.get_experiment_by_name(experiment)
        found = [named] if named and named.lifecycle_stage == "active" else []
    ids = [each.experiment_id for each in found]
    if not ids:
        return []
    runs = all_pages(partial(client.search_runs, ids, " and ".join(wanted)))
    return sorted(map(_stored, runs), key=lambda run: run.started)


def _quoted(value: str) -> str:
    """A value in a filter of MLflow's, which knows two kinds of quotes and no escapes."""
    return f'"{value}"' if "'" in value else f"'{value}'"


def all_pages(search: Callable[..., PagedList[T]]) -> list[T]:
    """All that a search of MLflow's client finds; each call gives a page, and the token of the next."""
    found: list[T] = []
    token: str | None = None
    while True:
        part = search(max_results=PAGE, page_token=token)
        found += part
        token = part.token or None
        if token is None:
            return found


def search_study(client: MlflowClient, study: str, experiment: str = ALL) -> list[StoredRun]:
    """All runs of a study, of one experiment or ("all") of any; the oldest first. Raises `StoreError`.

    Raises `SettingsError` where several experiments have a study of that name.
    """
    found = search(client, {STUDY: study}, None if experiment == ALL else experiment)
    if len({run.experiment_id for run in found}) > 1:
        names = ", ".join(sorted(set(experiments_of(client, found).values())))
        raise SettingsError(
            f"study: expected '{study}' in one experiment, found it in {names}. Name one with --experiment."
        )
    return found


def experiments_of(client: MlflowClient, runs: Iterable[StoredRun]) -> dict[str, str]:
    """Return the names of the runs' experiments by id. Raises `StoreError`."""
    with _listing("experiments"):
        return {number: str(client.get_experiment(number).name) for number in {run.experiment_id for run in runs}}


def fetch(client: MlflowClient, run_id: str) -> StoredRun:
    """One run by its id; raises `StoreError`."""
    try:
        return _stored(patiently(lambda: client.get_run(run_id)))
    except (MlflowException, RequestException) as error:
        raise StoreError(
            f"MLflow run '{run_id}': expected a run of this store, found: {one_line(error)[:200]}. "
            f"Take the id from MLflow: {ui_command()}"
        ) from error


def registered_models(client: MlflowClient) -> dict[str, dict[str, str]]:
    """The models of MLflow's registry by name, each with its aliases and their versions. Raises `StoreError`."""
    with _listing("registered models"):
        found = patiently(lambda: all_pages(client.search_registered_models))
    return {model.name: {alias: str(version) for alias, version in model.aliases.items()} for model in found}


@contextmanager
def artifact(client: MlflowClient, run_id: str, name: str) -> Iterator[Path]:
    """A local copy of a run's artifact, gone after use; raises `StoreError` if there is none."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = Path(client.download_artifacts(run_id, name, folder))
        except (MlflowException, OSError) as error:
            raise StoreError(
                f"MLflow run {run_id}: expected the file '{name}', found: {reason(error)[:200]}."
            ) from error
        yield path


def model_artifact(client: MlflowClient, run: StoredRun) -> AbstractContextManager[Path]:
    """A local copy of the file of a run's model, gone after use; raises `StoreError` if there is none."""
    return artifact(client, run.run_id, f"{run.tags[NAME]}.pth")


def history(client: MlflowClient, run_id: str, metric: str) -> list[float]:
    """All values of a metric, in the order of their steps. Raises `StoreError`."""
    with _listing(f"values of {metric}"):
        found = patiently(lambda: client.get_metric_history(run_id, metric))
    return [_as_logged(point.value) for point in sorted(found, key=lambda point: point.step)]


def _stored(run: Run) -> StoredRun:
    info, data = run.info, run.data
    return StoredRun(
        run_id=info.run_id,
        name=info.run_name or "",
        status=info.status,
        started=info.start_time or 0,
        params=dict(data.params),
        metrics={name: _as_logged(value) for name, value in data.metrics.items()},
        tags=dict(data.tags),
        experiment_id=info.experiment_id,
        deleted=info.lifecycle_stage != "active",
    )


def _as_logged(value: float) -> float:
    """A metric as it was logged: MLflow keeps infinity in a database as the largest number there is."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value
