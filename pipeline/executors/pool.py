"""Jobs on a pool of processes: a job that fails, or whose process dies, is tried again and does not affect the others.

Processes are spawned, so a job runs as it would in a fresh interpreter.
"""

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from multiprocessing.sharedctypes import RawArray
from typing import Any

from pebble import CONSTS, ProcessExpired, ProcessPool

from pipeline.errors import RunError, one_line
from pipeline.executors.jobs import ATTEMPTS, Done, Events, Executor, Failed, Job, Planned, R, Report, Running

TICK_SECONDS = 0.25
AHEAD = 2  # jobs given to the pool for each process: results that nobody has taken yet are few

CONSTS.term_timeout = 15  # seconds that an interrupted job has to end its run


def run_jobs(jobs: Sequence[Job[R]], workers: int) -> Events[R]:
    """Run all jobs on `workers` processes (0: one per core); yield events until each is done or has failed finally.

    Each job is tried at most twice. Closing the generator interrupts the running jobs, like Ctrl-C.
    """
    if not jobs:
        return
    processes = min(workers or cores(), len(jobs))
    yield Planned(tuple(job.name for job in jobs), tuple(job.kind for job in jobs), processes)
    # Written without a lock: a process that dies while it reports cannot block the others.
    fractions = RawArray("d", len(jobs))
    pool = ProcessPool(
        max_workers=processes,
        context=multiprocessing.get_context("spawn"),
        initializer=_start_process,
        initargs=(fractions,),
    )
    attempts = [0] * len(jobs)
    started: dict[int, float] = {}
    pending: dict[Future[Any], int] = {}

    def submit(number: int) -> None:
        attempts[number] += 1
        fractions[number] = 0.0
        started.pop(number, None)
        pending[pool.schedule(_run, (jobs[number].work, number))] = number

    waiting = deque(range(len(jobs)))
    try:
        while waiting or pending:
            while waiting and len(pending) < AHEAD * processes:
                submit(waiting.popleft())
            ended, _ = wait(pending, timeout=TICK_SECONDS, return_when=FIRST_COMPLETED)
            running = {number for future, number in pending.items() if future.running()}
            for number in running:
                started.setdefault(number, time.monotonic())
            for future in ended:
                number = pending.pop(future)
                error = future.exception()
                if error is None:
                    now = time.monotonic()
                    yield Done(number, future.result(), now - started.get(number, now))
                    continue
                final = attempts[number] == ATTEMPTS
                yield Failed(number, _reason(error), final)
                if not final:
                    waiting.append(number)
            yield Running({number: fractions[number] for number in sorted(running)})
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


POOL = Executor(run_jobs)


def cores() -> int:
    """Return how many cores this process may use; `taskset` or a container can limit it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _reason(error: BaseException) -> str:
    if isinstance(error, ProcessExpired):
        code = error.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"its process {how}"
    return one_line(error)


_fractions: Any = None  # in a process of the pool: the shared array that it reports to
_working = False  # in a process of the pool: whether it is running a job


def _start_process(fractions: Any) -> None:
    global _fractions
    _fractions = fractions
    signal.signal(signal.SIGTERM, _interrupt)  # sent by the pool, which ignores Ctrl-C in its processes


def _interrupt(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not _working:
        os._exit(0)
    raise KeyboardInterrupt(signal.Signals(number).name)


def _run(work: Callable[[Report], R], number: int) -> R:
    global _working
    parent = multiprocessing.parent_process()

    def report(fraction: float) -> None:
        if parent is not None and not parent.is_alive():
            raise KeyboardInterrupt("the process that started this one is gone")
        _fractions[number] = fraction

    _working = True
    try:
        return work(report)
    except Exception as error:  # as text: not every exception can be pickled
        raise RunError(one_line(error)) from error
    except KeyboardInterrupt:
        os._exit(130)  # the job has cleaned up, and nobody waits for an answer
    finally:
        _working = False
