"""Output: results on stdout, errors and log lines on stderr, in the amount that the flags ask for."""

import codecs
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from pipeline.config import Settings

OUT = Console(highlight=False, soft_wrap=True)
ERR = Console(highlight=False, soft_wrap=True, stderr=True)
LONGEST_ERROR = 600  # characters
PRINTABLE = "tinypi.printable"  # the streams' error handler for characters that their encoding lacks
STAGES = logging.getLogger("pipeline")
"""The logger that `--verbose` shows: each stage logs to it at level DEBUG when it is done."""


def be_normal() -> None:
    """Reset the flags of an earlier command in this process, and make printing safe: it must not fail finished work."""
    open_outputs()
    OUT.quiet = ERR.quiet = False
    STAGES.handlers.clear()
    STAGES.setLevel(logging.NOTSET)


def open_outputs() -> None:
    """Make standard output and error accept any text: reopen them if closed, and escape what they cannot encode."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by `>&-`; the next file opened would get its number
            nothing = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nothing, "r" if name == "stdin" else "w", encoding="utf-8"))
    codecs.register_error(PRINTABLE, _printable)
    for stream, errors in ((sys.stdout, PRINTABLE), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _printable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write undecodable bytes of file names as they are, and other characters that the encoding lacks as escapes."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def be_quiet() -> None:
    """Print only results (`print_result`, and the result row of `print_rows`) and errors."""
    OUT.quiet = ERR.quiet = True


def be_verbose(settings: "Settings") -> None:
    """Log to stderr settings, versions, code and store, then every stage, with the milliseconds since the start."""
    from pipeline.errors import shown_uri
    from pipeline.tracking.store import tracking_uri
    from pipeline.versions import code_state, environment

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("[%(relativeCreated)6d ms] %(message)s"))
    STAGES.addHandler(handler)
    STAGES.setLevel(logging.DEBUG)
    shown = {
        name: tuple(shown_uri(str(each)) for each in value) if isinstance(value, tuple) else shown_uri(str(value))
        for name, value in settings
    }
    STAGES.debug("settings: %s", ", ".join(f"{name}={value}" for name, value in shown.items()))
    STAGES.debug("versions: %s", ", ".join(f"{name} {value}" for name, value in environment().items()))
    STAGES.debug("code: commit %s, %s tree", *code_state())
    STAGES.debug("store: %s", shown_uri(tracking_uri()))


def print_result(text: str) -> None:
    """Print a result, also with `--quiet`."""
    print(text)


def print_rows(title: str, rows: Sequence[tuple[str, str]], result: str | None = None) -> None:
    """Print aligned name-value rows under a title. Long values are not wrapped: they are paths and commands to copy.

    With `--quiet`, only the value of the row named `result` is printed, alone.
    """
    if OUT.quiet:
        for value in [value for name, value in rows if name == result]:
            print_result(value)
        return
    width = max(len(name) for name, _ in rows)
    OUT.print(f"\n{escape(title)}", style="" if OUT.no_color else "bold")
    for name, value in rows:
        for number, line in enumerate(value.split("\n")):
            OUT.print(f"{'' if number else name:<{width}}  {line}", markup=False)


def print_error(message: str) -> None:
    """Print the message as one line to stderr; a long one is shortened in the middle."""
    line = " ".join(message.split())
    line = line if len(line) <= LONGEST_ERROR else f"{line[: LONGEST_ERROR // 2]} ... {line[-LONGEST_ERROR // 2 :]}"
    print(f"error: {line}", file=sys.stderr)
