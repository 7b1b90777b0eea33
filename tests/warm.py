"""Our commands in processes of their own that start at once: forks of one that has imported the heavy libraries.

A new interpreter needs five seconds of a core for torch, MLflow and what they import; what most tests ask of a command
takes less. A fork has those libraries, and the modules of `pipeline` if it would import those beside these tests. It
runs `python -m MODULE` as Python does, and has an environment, a folder, outputs, signals and an exit code of its own.
What it starts by `sys.executable` is such a fork too: a program `python` that asks for one, with its words, its folder,
its environment and its open files, passes signals on to it, and ends as it does. So are the processes that
`multiprocessing` spawns there. Where a new interpreter is what matters (entry points, bits that must not depend on the
seed of Python's hashes), tests start one.

All workers of pytest share one server of forks, and are forks of it themselves.
"""

import atexit
import functools
import os
import select
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from tests.fork import WORKER, ask, ended

HERE = Path(__file__).resolve().parent


class Session:
    """The server of forks, started by the first that names its folder; it ends with the last of them."""

    def __init__(self, folder: Path) -> None:
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not folder.exists():
                # Elsewhere, for the address of a socket has hundred characters at most.
                place = Path(tempfile.mkdtemp(prefix="forks-"))
                words = [sys.executable, "-IS", str(HERE / "fork.py"), str(place / "socket")]
                (place / "python").write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
                (place / "python").chmod(0o755)
                with (place / "log").open("w") as log:
                    subprocess.Popen(
                        [sys.executable, str(HERE / "forks.py"), str(place)],
                        start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    )  # fmt: skip
                folder.symlink_to(place)
        self.place = folder.readlink()
        self.kept = self.connect()

    def connect(self) -> socket.socket:
        """A connection to the server, once it is ready."""
        end = time.monotonic() + 120
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.place / "socket"))
                return connection
            except OSError:
                connection.close()
                assert time.monotonic() < end, (self.place / "log").read_text()
                time.sleep(0.05)


place = Path()  # what stands for the server of this session of tests; set by conftest.py


@functools.cache
def session() -> Session:
    return Session(place)


def python() -> str:
    """A program that is `python`, by a fork."""
    return str(session().place / "python")


def worker() -> str:
    """The command of a worker of pytest's, which is a fork, too: what it starts itself is as ever."""
    return f"{shlex.quote(python())} {WORKER}"


class Command:
    """`python WORDS...` in a folder, begun. As `subprocess.Popen`, where we need it."""

    def __init__(self, folder: Path, words: list[str], env: Mapping[str, str]) -> None:
        self.words = words
        self._code: int | None = None
        self._outputs = tempfile.TemporaryDirectory()
        self._connection = session().connect()
        atexit.register(self._connection.close)  # the server then kills it, if it is alive
        files = [os.open(os.devnull, os.O_RDONLY)]
        files += [os.open(f"{self._outputs.name}/{number}", os.O_WRONLY | os.O_CREAT, 0o600) for number in (1, 2)]
        self.pid = ask(self._connection, str(folder), words, dict(env), dict(enumerate(files)))
        for file in files:
            os.close(file)

    @property
    def returncode(self) -> int | None:
        return self.wait(0)

    def wait(self, timeout: float = 300) -> int | None:
        """Wait for its end; its exit code, or None if it goes on."""
        if self._code is None and select.select([self._connection], [], [], timeout)[0]:
            self._code = ended(self._connection)
            self._connection.close()
        return self._code

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it and what it has started."""
        self._connection.close()

    def printed(self) -> str:
        """What it has written to standard output so far."""
        return self._read("1")

    def errors(self) -> str:
        """What it has written to standard error so far."""
        return self._read("2")

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for its end; what it wrote to standard output and standard error."""
        if self.wait(timeout) is None:
            self.kill()
            raise subprocess.TimeoutExpired(self.words, timeout, self.printed(), self.errors())
        return self.printed(), self.errors()

    def _read(self, name: str) -> str:
        return Path(self._outputs.name, name).read_text(encoding="utf-8")


def run(folder: Path, words: list[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`python WORDS...` in a folder, to its end."""
    command = Command(folder, words, env)
    out, err = command.communicate()
    assert command.returncode is not None
    return subprocess.CompletedProcess(words, command.returncode, out, err)
