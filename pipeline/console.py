"""What people read: aligned rows on stdout, errors and the progress of others on stderr."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

OUT = Console(highlight=False, soft_wrap=True)
ERR = Console(highlight=False, soft_wrap=True, stderr=True)
LONGEST_ERROR = 600  # characters


def print_rows(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print aligned name-value rows under a title. Long values are not broken: they are paths and commands to copy."""
    width = max(len(name) for name, _ in rows)
    OUT.print(f"\n[bold]{escape(title)}[/bold]")
    for name, value in rows:
        for number, line in enumerate(value.split("\n")):
            OUT.print(f"{'' if number else name:<{width}}  {line}", markup=False)


def print_error(message: str) -> None:
    """Print one line to stderr, whatever the message quotes; the middle of a long one is left out."""
    line = " ".join(message.split())
    line = line if len(line) <= LONGEST_ERROR else f"{line[: LONGEST_ERROR // 2]} ... {line[-LONGEST_ERROR // 2 :]}"
    print(f"error: {line}", file=sys.stderr)
