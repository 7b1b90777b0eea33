"""What people read: aligned rows on stdout, errors and the progress of others on stderr."""

import sys
from collections.abc import Sequence

from rich.console import Console

OUT = Console(highlight=False, soft_wrap=True)
ERR = Console(highlight=False, soft_wrap=True, stderr=True)


def print_rows(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print aligned name-value rows under a title. Long values are not broken: they are paths and commands to copy."""
    width = max(len(name) for name, _ in rows)
    OUT.print(f"\n[bold]{title}[/bold]")
    for name, value in rows:
        for number, line in enumerate(value.split("\n")):
            OUT.print(f"{'' if number else name:<{width}}  {line}", markup=False)


def print_error(message: str) -> None:
    """Print one line to stderr."""
    print(f"error: {message}", file=sys.stderr)
