"""Jobs on a pool of processes: a job that fails, or whose process dies, is tried again and does not affect the others.

Processes are spawned, so a job runs as it would in a fresh interpreter. A job that needs a GPU has one to itself: for
each GPU there is one process that sees no other, and such jobs run in these alone, for torch keeps the memory of a GPU
in the process that has used it.
"""

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawArray
from typing import Any

from pebble import CONSTS, ProcessExpired, ProcessPool

from pipeline.errors import RunError, one_line
from pipeline.executors.jobs import ATTEMPTS, Done, Events, Executor, Failed, Job, Planned, R, Report, Running

TICK_SECONDS = 0.25
AHEAD = 2  # jobs given to the pool for each process: results that nobody has taken yet are few
VISIBLE = "CUDA_VISIBLE_DEVICES"  # read when CUDA starts

CONSTS.term_timeout = 15  # seconds that an interrupted job has to end its run


@dataclass
class Lane:
    """Some of the processes: those without a GPU, or the one that has a GPU."""

    pool: ProcessPool
    most: int  # jobs given to it at a time
    has_gpu: bool
    given: int = 0  # jobs that are not done


def run_jobs(jobs: Sequence[Job[R]], workers: int) -> Events[R]:
    """Run all jobs on `workers` processes (0: one per core); yield events until each is done or has failed finally.

    Of those that need a GPU no more run at a time than there are GPUs, each on its own; where there is none, they run
    as the others. Each job is tried at most twice. Closing the generator interrupts the running jobs, like Ctrl-C.
    """
    if not jobs:
        return
    processes = min(workers or cores(), len(jobs))
    yield Planned(tuple(job.name for job in jobs), tuple(job.kind for job in jobs), processes)
    # Written without a lock: a process that dies while it reports cannot block the others.
    fractions = RawArray("d", len(jobs))
    needing = [number for number, job in enumerate(jobs) if job.needs.gpus]
    gpus = visible_gpus()[: min(processes, len(needing))] if needing else []
    on_gpu = deque(needing if gpus else ())
    others = deque(number for number, job in enumerate(jobs) if not (gpus and job.needs.gpus))
    lanes = [Lane(_pool(1, fractions, gpu), 1, has_gpu=True) for gpu in gpus]
    if rest := processes - len(gpus):
        lanes.append(Lane(_pool(rest, fractions), AHEAD * rest, has_gpu=False))
    attempts = [0] * len(jobs)
    started: dict[int, float] = {}
    pending: dict[Future[Any], tuple[int, Lane]] = {}

    def submit(number: int, lane: Lane) -> None:
        attempts[number] += 1
        fractions[number] = 0.0
        started.pop(number, None)
        lane.given += 1
        pending[lane.pool.schedule(_run, (jobs[number].work, number))] = number, lane

    try:
        while on_gpu or others or pending:
            for lane in lanes:
                while lane.given < lane.most and (waiting := on_gpu if lane.has_gpu and on_gpu else others):
                    submit(waiting.popleft(), lane)
            ended, _ = wait(pending, timeout=TICK_SECONDS, return_when=FIRST_COMPLETED)
            running = {number for future, (number, _) in pending.items() if future.running()}
            for number in running:
                started.setdefault(number, time.monotonic())
            for future in ended:
                number, lane = pending.pop(future)
                lane.given -= 1
                error = future.exception()
                if error is None:
                    now = time.monotonic()
                    yield Done(number, future.result(), now - started.get(number, now))
                    continue
                final = attempts[number] == ATTEMPTS
                yield Failed(number, _reason(error), final)
                if not final:
                    (on_gpu if gpus and jobs[number].needs.gpus else others).append(number)
            yield Running({number: fractions[number] for number in sorted(running)})
    finally:
        for lane in lanes:
            lane.pool.stop()  # type: ignore[no-untyped-call]
        for lane in lanes:
            lane.pool.join()


POOL = Executor(run_jobs)


def cores() -> int:
    """Return how many cores this process may use; `taskset` or a container can limit it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, each as `CUDA_VISIBLE_DEVICES` names it."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get(VISIBLE)
    return list(map(str, range(count))) if named is None else named.split(",")[:count]


def _pool(processes: int, fractions: Any, gpu: str | None = None) -> ProcessPool:
    context = multiprocessing.get_context("spawn")
    return ProcessPool(processes, context=context, initializer=_start_process, initargs=(fractions, gpu))


def _reason(error: BaseException) -> str:
    if isinstance(error, ProcessExpired):
        code = error.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"its process {how}"
    return one_line(error)


_fractions: Any = None  # in a process of the pool: the shared array that it reports to
_working = False  # in a process of the pool: whether it is running a job


def _start_process(fractions: Any, gpu: str | None) -> None:
    global _fractions
    _fractions = fractions
    if gpu is not None:
        os.environ[VISIBLE] = gpu
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
