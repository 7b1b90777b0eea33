"""Progress of long work: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from pipeline.executors.jobs import Done, Event, Planned, Running

if TYPE_CHECKING:
    from pipeline.report.contest import Watch
    from pipeline.report.statistics import Interval
    from pipeline.tasks.task import Task
    from pipeline.training.fit import Step

WHOLE = -1  # the bar of all jobs
SHOWN = 2  # channels of an observation
ABOUT = "{task.fields[about]}"  # a column for what else there is to say


def bars(console: Console, *columns: ProgressColumn) -> Progress:
    """Bars with their names and these columns, which leave nothing behind; none if the output is not a terminal."""
    shown = TextColumn("{task.description}"), BarColumn(), *columns
    return Progress(*shown, console=console, transient=True, disable=not console.is_terminal)


def print_line(progress: Progress, text: str) -> None:
    """Print a line as it is, above the bars if there are any."""
    progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class TrainingDisplay:
    """The progress display of a training."""

    progress: Progress

    def line(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        print_line(self.progress, text)

    def step(self, step: "Step") -> None:
        """Move the bar."""
        if not self.progress.tasks:
            self.progress.add_task("training", total=step.steps_total, loss=step.loss, rate=0.0)
        self.progress.update(
            self.progress.tasks[0].id, completed=step.steps_done, loss=step.loss, rate=step.samples_per_second
        )


@contextmanager
def training_display(console: Console) -> Iterator[TrainingDisplay]:
    """A bar with loss, rate and time left; only lines if the output is not a terminal."""
    state = TextColumn("loss {task.fields[loss]:.4f}  {task.fields[rate]:,.0f} samples/s ")
    with bars(console, MofNCompleteColumn(), state, TimeRemainingColumn()) as progress:
        yield TrainingDisplay(progress)


@dataclass
class JobsDisplay:
    """The progress display of a list of jobs: one bar for all with counts and time left, and one per running job."""

    progress: Progress
    title: str
    plan: Planned = field(default_factory=lambda: Planned((), (), 1))
    bars: dict[int, TaskID] = field(default_factory=dict)
    started: dict[int, float] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)  # of the jobs done
    failed: set[int] = field(default_factory=set)

    def line(self, text: str) -> None:
        """Print a line, above the bars if there are any."""
        print_line(self.progress, text)

    def show(self, event: Event) -> None:
        """Update the bars, or print a line."""
        if isinstance(event, Planned):
            self.plan = event
            for each in (self.started, self.seconds, self.failed):  # of an earlier list of jobs
                each.clear()
            for bar in self.bars.values():
                self.progress.remove_task(bar)
            self.bars = {}
            self.bars[WHOLE] = self.progress.add_task(self.title, total=len(event.names), about="")
        elif isinstance(event, Running):
            for number, share in event.fractions.items():
                self.started.setdefault(number, time.monotonic())
                if number not in self.bars:
                    self.bars[number] = self.progress.add_task(f"  {self.plan.names[number]}", total=1.0, about="")
                self.progress.update(self.bars[number], completed=share, about=f"{share:.0%}")
            self._show_whole(event.fractions)
        else:
            self.started.pop(event.number, None)
            if event.number in self.bars:
                self.progress.remove_task(self.bars.pop(event.number))
            name = self.plan.names[event.number]
            if isinstance(event, Done):
                self.seconds[event.number] = event.seconds
                ended = len(self.seconds) + len(self.failed)
                self.line(f"{name}: done in {event.seconds:.0f} s ({ended} of {len(self.plan.names)})")
            else:
                self.failed |= {event.number} if event.final else set()
                self.line(f"{name}: failed, {event.reason}{'' if event.final else '; trying again'}")

    def _show_whole(self, fractions: dict[int, float]) -> None:
        done, failed, total = len(self.seconds), len(self.failed), len(self.plan.names)
        left = self.seconds_left(fractions)
        remaining = "" if left is None else f", {timedelta(seconds=round(left))} left"
        about = f"{done} of {total} done, {len(fractions)} running, {failed} failed{remaining}"
        self.progress.update(self.bars[WHOLE], completed=done + failed + sum(fractions.values()), about=about)

    def seconds_left(self, fractions: dict[int, float]) -> float | None:
        """Estimate the seconds left from the done and running jobs of each kind; None if it is too early."""
        now = time.monotonic()
        reached = {number: (now - self.started[number]) / share for number, share in fractions.items() if share > 0.05}
        seconds = reached | self.seconds
        if not seconds:
            return None
        kinds = self.plan.kinds
        of_kind = {
            kind: fmean([value for number, value in seconds.items() if kinds[number] == kind])
            for kind in {kinds[number] for number in seconds}
        }
        typical = fmean(seconds.values())
        work = sum(
            of_kind.get(kind, typical) * (1 - fractions.get(number, 0.0))
            for number, kind in enumerate(kinds)
            if number not in self.seconds and number not in self.failed
        )
        return work / self.plan.workers


@contextmanager
def jobs_display(console: Console, title: str) -> Iterator[JobsDisplay]:
    """Bars for jobs, once they are planned; only lines if the console is not a terminal."""
    with bars(console, TextColumn(ABOUT)) as progress:
        yield JobsDisplay(progress, title)


@contextmanager
def contest_display(console: Console, most: int | None) -> Iterator["Watch"]:
    """A callback for judged blocks of a comparison, of `most` if that is known, that shows the interval so far."""
    with bars(console, MofNCompleteColumn(), TextColumn(ABOUT)) as progress:
        of = "starts at most" if most else "batch of results"
        task = progress.add_task("comparing", total=most, about=of)

        def watch(blocks: int, interval: "Interval") -> None:
            about = f"{of}, difference in [{interval.low:.4f}, {interval.high:.4f}]"
            progress.update(task, completed=blocks, about=about)

        yield watch


@contextmanager
def count_display(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that a callback `(done, total)` moves, with counts and time left; nothing if the output is no terminal."""
    with bars(console, MofNCompleteColumn(), TimeRemainingColumn()) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


@contextmanager
def play_display(console: Console, task: "Task") -> Iterator[Callable[[int, NDArray[np.float64], int, int], None]]:
    """A callback for each step of an episode, `(step, observation (S,), plans, late answers)`, that is shown."""
    with bars(console, TextColumn(ABOUT)) as progress:
        bar = progress.add_task("playing", total=task.episode_steps, about="waiting for the first plan")

        def watch(step: int, state: NDArray[np.float64], plans: int, late: int) -> None:
            shown = [f"{step * task.control_seconds:.2f} s"]
            for channel, value in zip(task.observation[:SHOWN], state, strict=False):
                shown.append(f"{channel.label} {value:+.2f} {channel.unit}".rstrip())
            progress.update(bar, completed=step + 1, about=f"{'  '.join(shown)}  {plans} plans, {late} late")

        yield watch
