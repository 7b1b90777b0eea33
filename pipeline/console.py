"""What people see: a progress bar on a terminal, plain lines elsewhere, and aligned rows."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from pipeline.training.fit import Step

OUT = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Display:
    """Where a training shows itself."""

    progress: Progress

    def line(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def step(self, step: "Step") -> None:
        """Move the bar."""
        if not self.progress.tasks:
            self.progress.add_task("training", total=step.steps_total, loss=step.loss, rate=0.0)
        self.progress.update(
            self.progress.tasks[0].id, completed=step.steps_done, loss=step.loss, rate=step.samples_per_second
        )


@contextmanager
def training_display() -> Iterator[Display]:
    """A bar with loss, rate and time left; nothing but lines where the output is not a terminal."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  {task.fields[rate]:,.0f} samples/s "),
        TimeRemainingColumn(),
        console=OUT,
        transient=True,
        disable=not OUT.is_terminal,
    )
    with progress:
        yield Display(progress)


def print_table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print aligned name-value rows under a title. Long values are not broken: they are paths and commands to copy."""
    width = max(len(name) for name, _ in rows)
    OUT.print(f"\n[bold]{title}[/bold]")
    for name, value in rows:
        for number, line in enumerate(value.split("\n")):
            OUT.print(f"{'' if number else name:<{width}}  {line}", markup=False)


def print_error(message: str) -> None:
    """Print one line to stderr."""
    print(f"error: {message}", file=sys.stderr)
