"""What the store has of a suite, for the pages that are made from it."""

from pipeline.report.comparison import Comparison
from pipeline.results.gather import gather
from pipeline.tasks.registry import TASKS
from pipeline.tracking.names import Kind
from pipeline.tracking.query import search
from pipeline.tracking.store import Store


def comparisons_of(store: Store, suite: str) -> dict[str, Comparison]:
    """Return the comparisons of a suite's studies by task, in the order of the tasks; of none there is none."""
    names = {task: f"{suite}-{task}" for task in TASKS}
    known = {task: name for task, name in names.items() if search(store, study=name, kind=Kind.STUDY)}
    return {task: gather(store, name, task=task).comparison for task, name in known.items()}
