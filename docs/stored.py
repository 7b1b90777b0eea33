"""What the store has of a suite, for the pages that are made from it."""

import contextlib

from pipeline.errors import SettingsError
from pipeline.names import KIND, STUDY, Kind
from pipeline.report.comparison import Comparison
from pipeline.results.gather import gather
from pipeline.tasks.project import TASKS
from pipeline.tracking.query import search
from pipeline.tracking.store import Store


def comparison_of(store: Store, suite: str, task: str) -> Comparison:
    """Return the comparison of a suite's study of a task.

    Raises `SettingsError` if it has no finished models or is not at its end: a look at a part of it is no result.
    """
    study = f"{suite}-{task}"
    found = search(store, {STUDY: study, KIND: Kind.STUDY})
    if found and found[-1].status not in ("FINISHED", "FAILED"):
        raise SettingsError(f"study '{study}': expected one that is at its end, found {found[-1].status}.")
    return gather(store, study, task=task).comparison


def comparisons_of(store: Store, suite: str) -> dict[str, Comparison]:
    """Return the comparisons of a suite's studies that are at their end by task, in the order of the tasks."""
    found = {}
    for task in TASKS:
        with contextlib.suppress(SettingsError):
            found[task] = comparison_of(store, suite, task)
    return found
