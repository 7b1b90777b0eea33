"""Run a list of jobs to the end, by the executor that a setting names."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import Any, Generic

from pipeline.executors import on_ray, pool, serial
from pipeline.executors.cluster import joining
from pipeline.executors.jobs import Done, Event, Events, Failed, Job, R
from pipeline.executors.settings import RunsJobs

EXECUTORS: dict[str, Callable[[Sequence[Job[Any]], int], Events[Any]]] = {
    "pool": pool.run_jobs,
    "serial": serial.run_jobs,
    "ray": on_ray.run_jobs,
}

Watch = Callable[[Event], None]


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """The outcome of a list of jobs."""

    results: list[R]  # of the jobs that succeeded, in the order of the list
    failures: list[str]  # a line for each job that failed finally


def ready(settings: RunsJobs, shares: bool, environment: Mapping[str, str]) -> AbstractContextManager[None]:
    """Within it, the executor that the settings name can run jobs; raises `UserError` kinds if it cannot.

    `shares` says that jobs need our folder; on a cluster they otherwise have one of their own, with the `environment`.
    """
    if settings.executor != "ray":
        return nullcontext()
    return joining(settings.ray_address, settings.workers, shares, environment)


def run_all(
    jobs: Sequence[Job[R]],
    watch: Watch,
    executor: str = "pool",
    workers: int = 0,
    failed: Callable[[Job[R], str], None] | None = None,
    take: Callable[[Job[R], R], None] | None = None,
) -> Outcome[R]:
    """Run all jobs on `workers` processes, 0 for one per core; `watch` is called with each event.

    `failed(job, reason)` is called after each failed attempt, before the job is tried again. With `take(job, result)`
    each result is given to that as it comes, and not kept.
    """
    results: dict[int, R] = {}
    failures: list[str] = []
    with closing(EXECUTORS[executor](jobs, workers)) as events:
        for event in events:
            if isinstance(event, Done):
                if take is not None:
                    take(jobs[event.number], event.result)
                else:
                    results[event.number] = event.result
            elif isinstance(event, Failed):
                job = jobs[event.number]
                if failed is not None:
                    failed(job, event.reason)
                if event.final:
                    failures.append(f"{job.name}: {event.reason}")
            watch(event)
    return Outcome([results[number] for number in sorted(results)], failures)
