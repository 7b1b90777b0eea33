"""Jobs, and the events that every executor yields while it runs them.

An executor is a function `run(jobs, workers)` that yields these events: one file here, and a line in `run.py`.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

ATTEMPTS = 2  # per job

R = TypeVar("R")
Report = Callable[[float], None]
"""`report(fraction)` is called with the fraction of a job that is done."""


@dataclass(frozen=True)
class Job(Generic[R]):
    """A name, a `kind` (jobs of one kind take about equally long), and a picklable `work(report) -> result`."""

    name: str
    kind: str
    work: Callable[[Report], R]


@dataclass(frozen=True)
class Planned:
    """The first event: the jobs to run, and the number of processes."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    workers: int


@dataclass(frozen=True)
class Running:
    """A progress event: the fraction done of each running job."""

    fractions: dict[int, float]


@dataclass(frozen=True)
class Done(Generic[R]):
    """Job `number` has succeeded."""

    number: int
    result: R
    seconds: float


@dataclass(frozen=True)
class Failed:
    """An attempt at job `number` has failed; if `final`, there will be no other."""

    number: int
    reason: str
    final: bool


Event = Planned | Running | Done[Any] | Failed
Events = Generator[Planned | Running | Done[R] | Failed, None, None]
"""The events of an executor, from `Planned` until each job is done or has failed finally."""
