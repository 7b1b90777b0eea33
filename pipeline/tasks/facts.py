"""Which task a file is for, as the file tells it: data, checkpoints and exported models carry these plain values.

A file never leads to a task's code: a user's own task is named on the command line only.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:  # acting needs no task, and this module travels with served models
    from pipeline.tasks.task import Task

MAX_NAMES, MAX_LETTERS = 10_000, 200
NAME = re.compile(r"[A-Za-z0-9_]{1,60}")  # of tasks and data sets: of their folders, files and registered models
KEY = "task"  # of the facts in a file's metadata


@dataclass(frozen=True)
class TaskFacts:
    """The task of a file."""

    name: str = ""  # empty: the file does not tell, as those of the reference system
    digest: str = ""
    observation: tuple[str, ...] = ()  # names of the channels
    action: tuple[str, ...] = ()

    def values(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "name": self.name,
            "digest": self.digest,
            "observation": [*self.observation],
            "action": [*self.action],
        }


UNKNOWN = TaskFacts()
BEFORE = TaskFacts("pendulum", "", ("x", "theta", "v", "omega"), ("force",))
"""Of models that were made before there were tasks."""


def facts_of(task: "Task") -> TaskFacts:
    """Return what files of a task tell."""
    names = (tuple(channel.name for channel in channels) for channels in (task.observation, task.action))
    return TaskFacts(task.name, task.digest, *names)


def read_facts(values: Any) -> TaskFacts:
    """Read what `TaskFacts.values` wrote; None is the unknown task. Raises `ValueError`."""
    if values is None:
        return UNKNOWN
    if not isinstance(values, dict):
        raise ValueError("'task' must hold names and channels")
    texts = [values[key] for key in ("name", "digest")]
    names = [values[key] for key in ("observation", "action")]
    if not all(isinstance(each, list) and len(each) <= MAX_NAMES for each in names):
        raise ValueError("'task' must hold lists of channels")
    if not all(isinstance(text, str) and text.isprintable() and len(text) <= MAX_LETTERS for text in sum(names, texts)):
        raise ValueError("'task' must hold short lines of text")
    return TaskFacts(*texts, *map(tuple, names))


def require_fit(
    where: str, facts: TaskFacts, sizes: tuple[int, int], task: "Task", kind: type[UserError], remedy: str
) -> None:
    """Raise an error of this kind unless a file with these facts, and sizes `(S, A)`, is for the task."""
    if facts.name not in ("", task.name):
        raise kind(f"{where}: expected one of the task '{task.name}', found one of '{facts.name}'. {remedy}")
    if sizes != (task.state_dim, task.action_dim):
        raise kind(
            f"{where}: expected {task.state_dim} state and {task.action_dim} action dimensions, for the task "
            f"'{task.name}'; found {sizes[0]} and {sizes[1]}. {remedy}"
        )
    if facts.digest not in ("", task.digest):
        raise kind(
            f"{where}: was made for '{task.name}' with digest {facts.digest[:12]}, and the task is {task.digest[:12]} "
            f"now: its channels, control step or physics have changed. {remedy}"
        )


def require_length(where: str, found: int, task: "Task", kind: type[UserError], remedy: str = "") -> None:
    """Raise an error of this kind unless chunks of `found` actions are enough for all conditions of the task."""
    if found < task.longest_replan:
        raise kind(
            f"{where}: expected chunks of at least {task.longest_replan} actions, the longest replan interval of the "
            f"task '{task.name}', found {found}. {remedy}".rstrip()
        )
