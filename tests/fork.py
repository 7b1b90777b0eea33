"""`python WORDS...` by a fork of the server that listens at a socket: what asks for it, and the program that does so.

Nothing heavy is imported, not even pathlib, so that the program starts in some milliseconds.
"""

import json
import os
import signal
import socket
import struct
import sys

NUMBER = struct.Struct("!i")
WORKER = "--worker"  # the first word of a fork that runs tests: apart from the others, and what it starts is no fork
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def ask(connection: socket.socket, folder: str, words: list[str], env: dict[str, str], files: dict[int, int]) -> int:
    """Ask for a fork that has our file `files[number]` as its file `number`; its process id."""
    asked = json.dumps(
        {"folder": folder, "words": words, "env": env, "files": list(files), "group": os.getpgrp()}
    ).encode()
    socket.send_fds(connection, [NUMBER.pack(len(asked))], list(files.values()))
    connection.sendall(asked)
    return NUMBER.unpack(connection.recv(4, socket.MSG_WAITALL))[0]


def ended(connection: socket.socket) -> int:
    """Wait for the end of the fork; its exit code, negative for a signal."""
    answer = connection.recv(4, socket.MSG_WAITALL)
    return NUMBER.unpack(answer)[0] if answer else -signal.SIGKILL  # the server itself is gone


def main(address: str, words: list[str]) -> None:
    """Be `python WORDS...`."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    numbers = sorted(map(int, os.listdir("/dev/fd")))  # noqa: PTH208
    files = {number: number for number in numbers if number != connection.fileno() and is_open(number)}
    pid = ask(connection, os.getcwd(), words, dict(os.environ), files)  # noqa: PTH109
    for number in FORWARDED:
        signal.signal(number, lambda number, _frame: os.kill(pid, number))
    for number in files:
        if number > 2:
            os.close(number)  # or who waits for the end of a pipe would wait for us
    code = ended(connection)
    if code < 0:
        if -code in FORWARDED:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
