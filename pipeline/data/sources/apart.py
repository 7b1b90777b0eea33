"""Reading apart: libraries in C++ can end the whole process on a damaged file, so another process reads first."""

import os
import pickle
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pipeline.data.sources.source import fault
from pipeline.errors import RunError, one_line

T = TypeVar("T")
DONE, RESULT, RAISED = "done", "result", "raised"


def apart(
    path: Path, work: Callable[[Callable[[int], None]], T], watch: Callable[[int], None] = lambda done: None
) -> T:
    """Return what `work(tell)` does in a forked process; what it tells reaches `watch`, what it raises is raised here.

    Raises `DataError` naming `path` if that process dies.
    """
    answers, questions = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(answers)
        _work(work, questions)
    os.close(questions)
    try:
        with os.fdopen(answers, "rb") as stream:
            while True:
                kind, value = pickle.load(stream)  # of this program's own process
                if kind == RAISED:
                    raise value
                if kind == RESULT:
                    found: T = value
                    return found
                watch(value)
    except (EOFError, pickle.UnpicklingError):
        raise fault(path, "data that can be read", "data on which the library that reads it crashed") from None
    finally:
        os.kill(child, signal.SIGKILL)  # not yet reaped, so the number is its own
        os.waitpid(child, 0)


def _work(work: Callable[[Callable[[int], None]], Any], pipe: int) -> None:
    """Work and answer, and end without what a process does at its end: that is the parent's."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where a dying library would write
        with os.fdopen(pipe, "wb") as stream:

            def answer(kind: str, value: Any) -> None:
                stream.write(pickle.dumps((kind, value)))
                stream.flush()

            try:
                answer(RESULT, work(lambda done: answer(DONE, done)))
            except BaseException as error:
                try:
                    answer(RAISED, error)
                except Exception:
                    answer(RAISED, RunError(one_line(error)))
    finally:
        os._exit(0)
