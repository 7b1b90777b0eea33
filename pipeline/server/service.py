"""A process that others need: started, waited for until it answers, and ended with all that it has started."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import RunError, SettingsError

HOST = "127.0.0.1"
START_SECONDS, STOP_SECONDS = 120.0, 20.0


@dataclass(frozen=True)
class Service:
    """How to start a process that listens on a port of this machine, and how to end it in order.

    Secrets belong in `environment`, which only its user can read: everybody sees commands.
    """

    name: str
    command: list[str]
    port: int
    answers: Callable[[], bool]  # may raise anything while it does not
    environment: Mapping[str, str] = field(default_factory=dict)
    stop: signal.Signals = signal.SIGTERM


@dataclass(frozen=True)
class Process:
    """A service that was started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise `RunError` with the last line of its log if the process has ended."""
        if (code := self.process.poll()) is not None:
            last = (self.log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1][:200]
            raise RunError(
                f"{self.name}: expected it to run, found it ended with code {code}: {last}. Its log is {self.log}."
            )


@contextmanager
def running(service: Service, log: Path) -> Iterator[Process]:
    """The service while the body runs; what it prints goes to `log`.

    Raises `SettingsError` if its port is taken, `RunError` if it ends at once or does not answer within two minutes.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, service.port))
        except OSError as error:
            raise SettingsError(
                f"{service.name}: expected port {service.port} to be free, found it in use. "
                "End what listens there, or choose another."
            ) from error
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            service.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | service.environment,
            start_new_session=True,  # so Ctrl-C in the terminal reaches us alone, and we end them in order
        )
    started = Process(service.name, process, log)
    try:
        _wait(service, started)
        yield started
    finally:
        _end(process, service.stop)


def _wait(service: Service, started: Process) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with suppress(Exception):
            if service.answers():
                return
        started.check()
        time.sleep(0.1)
    raise RunError(f"{service.name}: expected an answer on port {service.port}, found none. Its log is {started.log}.")


def _end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """End the process as it likes to be ended; by force, with its whole group, what is then still there."""
    if process.poll() is None:
        process.send_signal(how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
