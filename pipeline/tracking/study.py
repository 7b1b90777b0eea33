"""The runs of a study: one for the study, below it one per group, below those one per model. Studies may have a suite.

Every run of a study has the tags `study`, its name, and `kind` (see `names.Kind`).
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

from filelock import Timeout
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from requests import RequestException

from pipeline.config import NONE
from pipeline.errors import RunError, SettingsError, StoreError, one_line
from pipeline.locks import file_lock
from pipeline.names import COMPLETE, CONTINUED, GROUP, KIND, SETTINGS_FILE, SETTINGS_USED, STUDY, Kind
from pipeline.tracking.begin import Place, go_on, launched_run, start_run
from pipeline.tracking.delivery import patiently
from pipeline.tracking.owner import is_ours, namesake, owner_elsewhere
from pipeline.tracking.query import StoredRun, fetch, search
from pipeline.tracking.run import TrackedRun, status_of
from pipeline.tracking.store import advice, home

LONGEST_TAG = 5000  # characters


def open_study(
    client: MlflowClient, name: str, experiment: str, kind: Kind = Kind.STUDY, suite: TrackedRun | None = None
) -> TrackedRun:
    """The run of the study or suite `name` in an experiment: an earlier one is continued; otherwise one is started.

    A study of a suite is below the suite's run. If `mlflow run` has started a run for us and there is one already, the
    new one only says so.

    Raises `SettingsError` if something of another kind has the name, or another machine works on the study. Of two that
    begin it at once the first has it; the other one's new run becomes a continuation of that, and ends.
    """
    earlier = search(client, {STUDY: name, KIND: kind}, experiment)
    for each in earlier:
        if (who := owner_elsewhere(each) or namesake(each)) is not None:
            raise _running(name, kind, who)
    if not earlier:
        _require_free(client, name, experiment, kind)
        tags = {KIND: kind, STUDY: name}
        run = start_run(client, experiment, name, chosen=True, place=Place(suite.run_id, tags) if suite else None)
        try:
            TrackedRun(client, run.run_id).tags(tags)  # they may not wait in the journal: by them the study is found
        except (MlflowException, RequestException) as error:
            run.end("FAILED")
            raise StoreError(
                f"{name}: expected MLflow to take the {kind}'s tags, found: {one_line(error)[:300]}. {advice(error)}"
            ) from error
        begun = search(client, {STUDY: name, KIND: kind}, experiment)
        first = min(begun, key=lambda each: (each.started, each.run_id))
        if first.run_id != run.run_id:
            run.tags({KIND: Kind.CONTINUATION, CONTINUED: first.run_id})
            run.end("KILLED")
            raise _running(name, kind, owner_elsewhere(first) or first.run_id)
        return run
    run_id = earlier[-1].run_id
    if suite is None and (launched := patiently(lambda: launched_run(client))):
        TrackedRun(client, launched.info.run_id).tags(
            {KIND: Kind.CONTINUATION, CONTINUED: run_id, MLFLOW_RUN_NAME: f"{name} (continued)"}
        )
    run = go_on(TrackedRun(client, run_id))
    if suite is not None:
        run.tags({MLFLOW_PARENT_RUN_ID: suite.run_id})
    if not is_ours(client, run_id):
        run.leave()
        raise _running(name, kind, owner_elsewhere(fetch(client, run_id)) or run_id)
    return run


@contextmanager
def ended_by_errors(
    client: MlflowClient, study: TrackedRun, groups: Mapping[str, TrackedRun], what: str
) -> Iterator[None]:
    """Within it, an error ends the runs of a study, suite or search, which a message calls `what`, and of its groups.

    Raises `RunError` where the store does not answer: what is done is kept, so the same command continues.
    """
    try:
        yield
    except BaseException as error:
        with suppress(Exception):  # what cannot be told now, doctor or the next call tells
            end_all(client, study, groups, status_of(error))
        if isinstance(error, StoreError):
            raise RunError(f"{what}: {one_line(error)} The same command continues it.") from error
        raise


def end_all(client: MlflowClient, study: TrackedRun, groups: Mapping[str, TrackedRun], status: str) -> None:
    """End the runs of a study and of its groups, unless another machine has taken the study over."""
    ours = is_ours(client, study.run_id)
    with ExitStack() as stack:  # one that fails does not keep the others from their end
        for run in (*groups.values(), study):
            stack.callback(partial(run.end, status) if ours else run.leave)


def is_at_its_end(study: StoredRun) -> bool:
    """Whether all jobs of a study were tried: it is finished, or has failed for single models only."""
    return study.status == "FINISHED" or (study.status == "FAILED" and study.tags.get(COMPLETE) == "yes")


def describe_call(run: TrackedRun, values: Mapping[str, Any], lasting: Collection[str]) -> None:
    """Log a call's settings to its study, suite or search: the `lasting` ones, in which calls agree, as params.

    `mlflow run` has written params of its first call, also of the others: a tag says which are no longer so. The lists
    `set` and `preset` are left to the params of the groups, which have their recipes.
    """
    run.params({name: value for name, value in values.items() if name in lasting})
    words = {name: ",".join(value) or NONE if isinstance(value, list) else value for name, value in values.items()}
    now = {name: value for name, value in words.items() if name not in ("set", "preset")}
    used = ", ".join(f"{name}={now[name]}" for name in run.shown_otherwise(now))
    run.tags({SETTINGS_USED: as_tag(used)})
    run.json(SETTINGS_FILE, values)


def as_tag(text: str) -> str:
    """A text as the value of a tag, cut to what every store takes; "none" if there is none."""
    return text[:LONGEST_TAG] or NONE


def tag_of(name: str, kind: Kind) -> str:
    """The tag `study` of a study, suite or search: a search has it in common with none."""
    return f"{Kind.SEARCH}:{name}" if kind == Kind.SEARCH else name


def name_of(tag: str) -> str:
    """What a person calls the study, suite or search with this tag."""
    return tag.removeprefix(tag_of("", Kind.SEARCH))


def _require_free(client: MlflowClient, tag: str, experiment: str, kind: Kind) -> None:
    """Raise `SettingsError` if something of another kind has the name: they would share a folder of reports."""
    name = name_of(tag)
    for other in (Kind.STUDY, Kind.SUITE, Kind.SEARCH):
        if other != kind and search(client, {STUDY: tag_of(name, other), KIND: other}, experiment):
            raise SettingsError(
                f"{kind}: expected a name of its own, found that a {other} is called '{name}': their reports would "
                f"share a folder. Name another by --{kind}."
            )


def _running(tag: str, kind: Kind, who: str) -> SettingsError:
    return SettingsError(f"{kind}: '{name_of(tag)}' is running already: {who}. Wait, or name another with --{kind}.")


def open_group(client: MlflowClient, study: TrackedRun, place: Place) -> TrackedRun:
    """The run of a study's group, at its `place` below the study's: an earlier one is continued, or one is started."""
    found = search(client, place.tags)
    earlier = [run for run in found if run.experiment_id == study.experiment_id]
    if not earlier:
        return start_run(client, "", f"{place.tags[STUDY]} {place.tags[GROUP]}", chosen=True, place=place)
    run = go_on(TrackedRun(client, earlier[-1].run_id))
    run.tags({MLFLOW_PARENT_RUN_ID: study.run_id})
    return run


@contextmanager
def one_at_a_time(study: str, kind: Kind = Kind.STUDY) -> Iterator[None]:
    """Hold the lock of a study or suite; raises `SettingsError` if another process has it.

    It stands beside an sqlite store. For a tracking server it stands in this folder: `open_study` keeps others away.
    """
    home().mkdir(parents=True, exist_ok=True)
    try:
        with file_lock(home() / f".study-{study}.lock", blocking=False):
            yield
    except Timeout as error:
        raise SettingsError(
            f"{kind}: '{name_of(study)}' is running already in another process. Wait, or name another with --{kind}."
        ) from error
