"""Run a list of jobs to the end, by the executor that a setting names."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import Generic

from pipeline.errors import SettingsError
from pipeline.executors.jobs import Done, Event, Failed, Job, R, Resources
from pipeline.executors.registry import find_executor
from pipeline.executors.settings import RunsJobs

ROOM_SECONDS = 30.0  # that machines have to join the cluster
LOOK_SECONDS = 0.25

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
    get_ready = find_executor(settings.executor).ready
    if get_ready is None:
        return nullcontext()
    return get_ready(settings.ray_address, settings.workers, shares, environment)


def machines_of(executor: str) -> Sequence[Resources] | None:
    """What each machine has whose workers take the jobs of an executor; None: they are on this machine."""
    machines = find_executor(executor).machines
    return None if machines is None else machines()


def is_elsewhere(executor: str) -> bool:
    """Whether jobs may run on other machines, without our folder."""
    return find_executor(executor).machines is not None


def require_room(executor: str, needs: Iterable[Resources]) -> None:
    """Raise `SettingsError` if no machine of a cluster has what a job needs, nor joins it within seconds.

    The job would wait for ever.
    """
    end = time.monotonic() + ROOM_SECONDS
    for each in dict.fromkeys(needs):
        while (machines := machines_of(executor)) is not None and not any(one.hold(each) for one in machines):
            if time.monotonic() > end:
                found = "; ".join(dict.fromkeys(map(str, machines))) or "none that takes jobs"
                raise SettingsError(
                    f"executor: expected a machine of the cluster with {each}, which a job needs, found {found}. Add "
                    "one, or use other threads, or --set device=cpu."
                )
            time.sleep(LOOK_SECONDS)


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
    each result is given to that as it comes, and not kept. Raises `SettingsError` if no machine of a cluster has what
    a job needs.
    """
    require_room(executor, (job.needs for job in jobs))
    results: dict[int, R] = {}
    failures: list[str] = []
    with closing(find_executor(executor).run(jobs, workers)) as events:
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
