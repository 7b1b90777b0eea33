"""The pool with real processes: failures are tried again and spare the others; an interrupt reaches the jobs."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from pipeline.errors import RunError
from pipeline.executors import pool
from pipeline.executors.jobs import ATTEMPTS, Done, Failed, Job, Planned, Report, Resources, Running
from pipeline.executors.pool import VISIBLE, run_jobs, visible_gpus


def square(number: int, report: Report) -> int:
    report(0.5)
    return number * number


def fail_first(marker: Path, how: str, report: Report) -> str:
    """Fail in the first attempt, which leaves a marker; succeed in the second."""
    if not marker.exists():
        marker.touch()
        if how == "raise":
            raise RunError("the first\nattempt")
        os.kill(os.getpid(), signal.SIGKILL)
    return "second attempt"


class Awkward(Exception):
    """Does not survive pickling: it is rebuilt with one argument and wants two."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def always_fail(report: Report) -> None:
    raise Awkward("no", "good")


def wait_for_interrupt(folder: Path, report: Report) -> None:
    (folder / "started").touch()
    try:
        while True:
            report(0.1)
            time.sleep(0.02)
    except KeyboardInterrupt:
        (folder / "cleaned up").touch()
        raise


def test_results_and_events() -> None:
    events = list(run_jobs([Job(f"job {n}", "square", partial(square, n)) for n in range(5)], workers=2))
    assert events[0] == Planned(tuple(f"job {n}" for n in range(5)), ("square",) * 5, 2)
    assert {event.number: event.result for event in events if isinstance(event, Done)} == {n: n * n for n in range(5)}
    assert not any(isinstance(event, Failed) for event in events)
    assert isinstance(events[-1], Running) and events[-1].fractions == {}
    assert list(run_jobs([], workers=2)) == []


def test_failures_are_tried_again_and_spare_the_others(tmp_path: Path) -> None:
    jobs = [
        Job("raises", "x", partial(fail_first, tmp_path / "a", "raise")),
        Job("dies", "x", partial(fail_first, tmp_path / "b", "kill")),
        Job("never", "x", always_fail),
        *(Job(f"fine {n}", "x", partial(square, n)) for n in range(4)),
    ]
    events = list(run_jobs(jobs, workers=2))
    done = {event.number: event.result for event in events if isinstance(event, Done)}
    assert done == {0: "second attempt", 1: "second attempt", 3: 0, 4: 1, 5: 4, 6: 9}
    failed = [event for event in events if isinstance(event, Failed)]
    assert [(event.reason, event.final) for event in failed if event.number == 0] == [("the first attempt", False)]
    assert [event.reason for event in failed if event.number == 1] == ["its process was killed by SIGKILL"]
    assert [(event.reason, event.final) for event in failed if event.number == 2] == [
        ("no good", attempt == ATTEMPTS) for attempt in range(1, ATTEMPTS + 1)
    ]


def test_closing_interrupts_the_jobs(tmp_path: Path) -> None:
    events = run_jobs([Job("waits", "x", partial(wait_for_interrupt, tmp_path))], workers=1)
    for event in events:
        if (tmp_path / "started").exists() and isinstance(event, Running) and event.fractions.get(0):
            break
    events.close()
    assert (tmp_path / "cleaned up").exists()


def use_gpu(folder: Path, number: int, report: Report) -> str | None:
    """Take the GPU that is to be seen: fails if another job has it. The first two wait for each other."""
    gpu = os.environ.get(VISIBLE)
    taken = folder / f"gpu {gpu}"
    taken.touch(exist_ok=False)
    (folder / f"job {number}").touch()
    for _ in range(500 if number < 2 else 5):
        if number < 2 and all((folder / f"job {n}").exists() for n in range(2)):
            break
        time.sleep(0.02)
    else:
        assert number >= 2, "the other GPU is idle"
    taken.unlink()
    return gpu


def test_a_job_has_the_gpu_that_it_needs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "visible_gpus", lambda: ["5", "3"])
    needs = Resources(gpus=1)
    jobs: list[Job[object]] = [Job(f"gpu {n}", "x", partial(use_gpu, tmp_path, n), needs) for n in range(4)]
    jobs[1:1] = [Job(f"cpu {n}", "x", partial(square, n)) for n in range(3)]
    events = list(run_jobs(jobs, workers=3))
    assert not [event for event in events if isinstance(event, Failed)]
    done = {jobs[event.number].name: event.result for event in events if isinstance(event, Done)}
    assert [done[f"cpu {n}"] for n in range(3)] == [0, 1, 4]
    assert {done["gpu 0"], done["gpu 1"]} == {"5", "3"} >= {done["gpu 2"], done["gpu 3"]}


def test_which_gpus_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch  # not above: the processes of these tests would import it

    monkeypatch.delenv(VISIBLE, raising=False)
    assert visible_gpus() == list(map(str, range(torch.cuda.device_count())))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv(VISIBLE, "GPU-8f,3")
    assert visible_gpus() == ["GPU-8f", "3"]
