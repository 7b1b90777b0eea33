"""Jobs, and the events that every executor yields while it runs them.

An executor is a record of functions, `Executor`: one file here, and a line in `registry.py`.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

ATTEMPTS = 2  # per job

R = TypeVar("R")
Report = Callable[[float], None]
"""`report(fraction)` is called with the fraction of a job that is done."""


@dataclass(frozen=True)
class Resources:
    """What a job needs of a machine, or what a machine has."""

    cpus: float = 1.0
    gpus: float = 0.0

    def hold(self, needs: "Resources") -> bool:
        """Whether a machine that has these can do a job that needs those."""
        return self.cpus >= needs.cpus and self.gpus >= needs.gpus

    def __str__(self) -> str:
        cores, gpus = "core" if self.cpus == 1 else "cores", "GPU" if self.gpus == 1 else "GPUs"
        return f"{self.cpus:g} {cores} and {self.gpus:g} {gpus}"


@dataclass(frozen=True)
class Job(Generic[R]):
    """A name, a `kind` (jobs of one kind take about equally long), and a picklable `work(report) -> result`.

    A GPU that it needs is its own as long as it runs. The files are declared for executors whose workers are on other
    machines.
    """

    name: str
    kind: str
    work: Callable[[Report], R]
    needs: Resources = Resources()
    files: tuple[Path, ...] = ()  # that it reads
    left: tuple[Path, ...] = ()  # that an earlier job left behind, to go on with
    makes: tuple[str, ...] = ()  # the names of what it makes, if that is more than one thing of its own name

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what it makes."""
        return self.makes or (self.name,)


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


@dataclass(frozen=True)
class Executor:
    """How jobs are run.

    `run(jobs, workers)` yields the events, `Planned` first; a job that fails is tried again, up to `ATTEMPTS` times.
    `ready(address, workers, shares, environment)` gives the context in which they can be, of one that needs any.
    `machines()` tells what each machine has whose workers take jobs; None: they are on this machine, and in its folder.
    """

    run: Callable[[Sequence[Job[Any]], int], Events[Any]]
    ready: Callable[[str, int, bool, Mapping[str, str]], AbstractContextManager[None]] | None = None
    machines: Callable[[], Sequence[Resources]] | None = None
