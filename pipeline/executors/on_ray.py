"""Jobs on a Ray cluster: one task for each attempt, whose process or machine may die without harm to the others.

Workers need no disk of ours: see `job_files`. An actor on our machine takes their messages, and we take them from
there.
"""

import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import RunError, one_line
from pipeline.executors.cluster import joined, joining, machines
from pipeline.executors.job_files import InputFile, JobFolder, KeptFiles, Left, digest_of, unpack
from pipeline.executors.jobs import ATTEMPTS, Done, Events, Executor, Failed, Job, Planned, R, Running

TICK_SECONDS = 0.25
SEND_SECONDS = 1.0  # between two messages of a job
ENDING_SECONDS = 15.0  # that an interrupted job has to end its run
QUEUED = 2  # jobs given to the cluster for each of its cores: one that grows by itself sees what waits

Attempt = tuple[int, int]
"""The number of a job, and which attempt at it."""


class Mailbox:
    """What the jobs tell, until we take it: an actor."""

    def __init__(self) -> None:
        self._expected: set[Attempt] = set()
        self._fractions: dict[int, float] = {}
        self._left: dict[int, Left] = {}
        self._stopped = False

    def expect(self, attempt: Attempt) -> None:
        """Take messages of this attempt."""
        self._expected.add(attempt)

    def end(self, attempt: Attempt) -> Left:
        """Take no more: it is over, or its machine is lost to us, and may come back. Returns what it left last."""
        self._expected.discard(attempt)
        self._fractions.pop(attempt[0], None)
        return self._left.pop(attempt[0], {})

    def stop(self) -> None:
        """Let every job know, at its next message, that it is to end: Ray's interrupt can get lost in a destructor."""
        self._stopped = True

    def put(self, attempt: Attempt, fraction: float | None, left: Left) -> bool:
        """Take a message, the last one without a fraction; returns whether the job is to go on."""
        if attempt not in self._expected:
            return False
        if fraction is None:
            self._fractions.pop(attempt[0], None)
        else:
            self._fractions[attempt[0]] = fraction
        self._left.setdefault(attempt[0], {}).update(left)
        return not self._stopped

    def take(self) -> tuple[dict[int, float], dict[int, Left]]:
        """Return the fractions of the running jobs, and what the jobs have left since the last time."""
        left, self._left = self._left, {}
        return dict(self._fractions), left


@dataclass(frozen=True)
class RemoteJob:
    """What a worker gets with an attempt."""

    attempt: Attempt
    work: bytes  # pickled, to be opened in its place, with its environment
    mailbox: Any
    environment: Mapping[str, str]
    folder: str  # to work in; empty: one of its own
    inputs: tuple[InputFile, ...]
    left: Left


def run_jobs(jobs: Sequence[Job[R]], workers: int) -> Events[R]:
    """Run all jobs on the cluster, `workers` at a time (0: as many as it takes); yield events as the pool does.

    Each job is tried at most twice. Closing the generator interrupts the running jobs, like Ctrl-C.
    """
    if not jobs:
        return
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray, cluster, kept = _ray(), joined(), KeptFiles()
    here = NodeAffinitySchedulingStrategy(cluster.node, soft=False)
    mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
    task = ray.remote(run_remote)
    anywhere = {"max_retries": 0, "scheduling_strategy": here if cluster.shares else "DEFAULT"}
    yield Planned(
        tuple(job.name for job in jobs),
        tuple(job.kind for job in jobs),
        min(workers or _cores(), len(jobs)),
    )
    inputs = {} if cluster.shares else _input_files(jobs, ray.put)
    attempts, waiting = [0] * len(jobs), list(range(len(jobs)))
    pending: dict[Any, int] = {}
    started: dict[int, float] = {}
    fractions: dict[int, float] = {}

    def submit(number: int) -> None:
        job = jobs[number]
        attempts[number] += 1
        attempt = number, attempts[number]
        sent = RemoteJob(
            attempt, ray.cloudpickle.dumps(job.work), mailbox, cluster.environment,
            str(Path.cwd()) if cluster.shares else "",
            tuple(inputs[path] for path in job.files if path in inputs),
            {} if cluster.shares else kept.left(number, job.left),
        )  # fmt: skip
        ray.get(mailbox.expect.remote(attempt))
        needs = {"num_cpus": job.needs.cpus, "num_gpus": job.needs.gpus}
        pending[task.options(**anywhere, **needs, name=job.name).remote(sent)] = number

    def take() -> None:
        told, left = ray.get(mailbox.take.remote())
        for number, files in left.items():
            kept.keep(number, files)
        fractions.clear()
        fractions.update(told)
        for number in fractions:
            started.setdefault(number, time.monotonic())

    def end(number: int) -> None:
        kept.keep(number, ray.get(mailbox.end.remote((number, attempts[number]))))
        kept.let_go(number)
        fractions.pop(number, None)

    try:
        while waiting or pending:
            while waiting and len(pending) < (workers or QUEUED * _cores()):
                submit(waiting.pop(0))
            ended, _ = ray.wait(list(pending), timeout=TICK_SECONDS)
            take()
            for reference in ended:
                number = pending.pop(reference)
                end(number)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayError as error:
                    final = attempts[number] == ATTEMPTS
                    started.pop(number, None)
                    yield Failed(number, _reason(error), final)
                    if not final:
                        waiting.insert(0, number)
                    continue
                now = time.monotonic()
                yield Done(number, result, now - started.get(number, now))
            yield Running(dict(sorted(fractions.items())))
    except ray.exceptions.RayError as error:
        raise RunError(
            f"the Ray cluster does not answer: {one_line(error)[:200]}. Start it, and give the same command again."
        ) from error
    finally:
        with suppress(ray.exceptions.RayError):
            ray.get(mailbox.stop.remote())
            _interrupt(list(pending), take)
            for number in set(pending.values()):
                end(number)
            ray.kill(mailbox)


RAY = Executor(run_jobs, joining, machines)


def _ray() -> Any:
    """The package, imported where jobs run on it; much of it has no types."""
    import ray

    return ray


def _cores() -> int:
    ray = _ray()

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _input_files(jobs: Sequence[Job[Any]], put: Callable[[bytes], object]) -> dict[Path, InputFile]:
    """Put each file that a job reads into the cluster's store, once."""
    found: dict[Path, InputFile] = {}
    for path in {path: None for job in jobs for path in job.files if path.is_file()}:
        content = path.read_bytes()
        found[path] = InputFile(str(path), digest_of(content), [put(content)])
    return found


def _reason(error: Exception) -> str:
    ray = _ray()

    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, RunError):
        return one_line(error.cause)
    if isinstance(error, (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError)):
        return "its process, or the machine that it was on, is gone"
    return one_line(error)[:300]


def _interrupt(references: list[Any], take: Callable[[], None]) -> None:
    """Interrupt jobs, and take what they leave, for as long as an end takes; then end their processes."""
    ray = _ray()

    for reference in references:
        ray.cancel(reference)
    end = time.monotonic() + ENDING_SECONDS
    while references and time.monotonic() < end:
        _, references = ray.wait(references, num_returns=len(references), timeout=TICK_SECONDS)
        take()
    for reference in references:
        ray.cancel(reference, force=True)


def run_remote(job: RemoteJob) -> Any:
    """On a worker: do the work of an attempt in its place, and tell the mailbox how far it is."""
    os.environ.update(job.environment)
    if job.folder:
        return _work(job, Path(job.folder), None)
    with tempfile.TemporaryDirectory(dir=_place("jobs"), ignore_cleanup_errors=True) as name:
        return _work(job, Path(name), _place("files"))


def _place(name: str) -> Path:
    """A folder of this machine for what Ray's session needs."""
    ray = _ray()

    session = Path(str(ray._private.worker._global_node.get_session_dir_path()))
    folder: Path = session / "tinypi" / ray.get_runtime_context().get_node_id()[:16] / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _work(job: RemoteJob, folder: Path, copies: Path | None) -> Any:
    ray = _ray()

    def fetch(content: Any) -> bytes:
        return bytes(ray.get(content[0]))

    job_folder: JobFolder | None = None
    told = time.monotonic()

    def tell(fraction: float | None) -> None:
        left = job_folder.changed() if job_folder else {}
        try:
            goes_on = ray.get(job.mailbox.put.remote(job.attempt, fraction, left))
        except ray.exceptions.RayError as error:
            raise KeyboardInterrupt("who gave this job is gone") from error
        if not goes_on:
            raise KeyboardInterrupt("nobody waits for this job any more")

    def report(fraction: float) -> None:
        nonlocal told
        if time.monotonic() - told > SEND_SECONDS:
            tell(fraction)
            told = time.monotonic()

    try:
        if copies is not None:
            job_folder = unpack(folder, job.inputs, job.left, copies, fetch)
        with _inside(folder):
            tell(0.0)
            try:
                return pickle.loads(job.work)(report)
            finally:
                tell(None)
    except Exception as error:  # as text: not every exception can be pickled
        raise RunError(one_line(error)) from error


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder as `python -m` does."""
    before = Path.cwd()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        os.chdir(before)
