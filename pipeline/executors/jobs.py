"""A job, and what is said of a list of jobs while they run: what every executor takes and yields.

An executor is a function `run(jobs, workers)` that yields these events: one file here, and a line in `run.py`.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

ATTEMPTS = 2  # at each job

R = TypeVar("R")
Report = Callable[[float], None]
"""`report(fraction)` says what share of a job is done."""


@dataclass(frozen=True)
class Job(Generic[R]):
    """A name, what jobs take about as long (`kind`), and the work, a picklable `work(report) -> result`."""

    name: str
    kind: str
    work: Callable[[Report], R]


@dataclass(frozen=True)
class Planned:
    """The first event: what is going to be done, on how many processes."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    workers: int


@dataclass(frozen=True)
class Running:
    """A sign of life: what share is done of each job that runs now."""

    fractions: dict[int, float]


@dataclass(frozen=True)
class Done(Generic[R]):
    """Job `number` has ended well."""

    number: int
    result: R
    seconds: float


@dataclass(frozen=True)
class Failed:
    """An attempt at job `number` has failed; `final` says that there will be no other."""

    number: int
    reason: str
    final: bool


Event = Planned | Running | Done[Any] | Failed
Events = Generator[Planned | Running | Done[R] | Failed, None, None]
"""What an executor yields, from `Planned` until each job is done or has failed for good."""
