"""Jobs one after another in this process: slower than a pool, useful for debugging."""

import time
from collections.abc import Sequence

from pipeline.errors import one_line
from pipeline.executors.jobs import ATTEMPTS, Done, Events, Executor, Failed, Job, Planned, R, Running


def run_jobs(jobs: Sequence[Job[R]], workers: int) -> Events[R]:
    """Run all jobs in order and yield events; `workers` is unused. Each job is tried at most twice.

    There are no progress events within a job: the caller waits in this process until the job ends.
    """
    if not jobs:
        return
    yield Planned(tuple(job.name for job in jobs), tuple(job.kind for job in jobs), 1)
    for number, job in enumerate(jobs):
        for attempt in range(1, ATTEMPTS + 1):
            yield Running({number: 0.0})
            begun = time.monotonic()
            try:
                result = job.work(lambda _fraction: None)
            except Exception as error:
                yield Failed(number, one_line(error), attempt == ATTEMPTS)
            else:
                yield Done(number, result, time.monotonic() - begun)
                break
    yield Running({})


SERIAL = Executor(run_jobs)
