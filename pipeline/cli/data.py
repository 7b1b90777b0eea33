"""`data`: list, show and remove data sets."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.cli.options import settings_command
from pipeline.config import DATA
from pipeline.errors import SettingsError
from pipeline.upkeep.settings import DataSettings

if TYPE_CHECKING:
    from pipeline.tasks.task import Channel
    from pipeline.tracking.query import StoredRun
    from pipeline.upkeep.data_sets import Found

EXAMPLES = ("data list", "data show pendulum", "data rm reacher --horizon 20")
RUNS_SHOWN = 10


def run(settings: DataSettings) -> None:
    """List, show or remove."""
    from pipeline.upkeep.data_sets import find

    if settings.action == "list":
        _list()
    elif settings.action == "show":
        _show(find(settings.name, settings.horizon))
    else:
        _remove(find(settings.name, settings.horizon), settings.yes)


def _list() -> None:
    from pipeline.cli.console import OUT, print_result
    from pipeline.report.tables import Table
    from pipeline.upkeep.data_sets import contents, find_all, stored_runs, users

    found, runs = find_all(), stored_runs()
    rows: list[tuple[str, ...]] = []
    for each in found:
        told = contents(each)
        size, digest, count = f"{each.size / 1e6:,.1f} MB", each.digest[:12], str(len(users(each, runs)[0]))
        if isinstance(told, str):
            rows.append((each.words, "cannot be read", "", "", "", size, digest, count))
            continue
        numbers = [f"{number:,}" if number else "" for number in (told.episodes, told.frames)]
        rows.append((each.words, told.task, told.format or "early version", *numbers, size, digest, count))
    if not rows:
        OUT.print("no data set in data/: 'python -m pipeline collect' makes one")
        return
    columns = ("name", "task", "format", "episodes", "frames", "size", "sha256 of pairs", "runs")
    print_result(Table("Data sets in data/", columns, rows).text())


def _show(found: "Found") -> None:
    from pipeline.cli.console import print_rows
    from pipeline.errors import DataError
    from pipeline.upkeep.data_sets import contents, ranges, stored_runs, users

    told = contents(found)
    if isinstance(told, str):
        raise DataError(told)
    seen, acted = ranges(found)
    now, before = users(found, stored_runs())

    def channels(each: Sequence["Channel"], ranges: Sequence[tuple[float, float]]) -> str:
        lines = []
        for number, channel in enumerate(each):
            words = [str(channel)] if str(channel) != channel.name else []
            words += ["{:.4g} to {:.4g}".format(*ranges[number])] if number < len(ranges) else []
            words += [] if channel.limit is None else [f"applied within +-{channel.limit:g}"]
            lines.append(f"{channel.name}: {', '.join(words)}" if words else channel.name)
        return "\n".join(lines)

    frames = f", {told.frames:,} frames" if told.frames else ""
    rate = f"{1 / told.control_seconds:g} a second" if told.control_seconds else "unknown"
    simulator = "with a simulator" if told.has_simulator else "without a simulator"
    source = f"{told.format}: {told.source}" if told.format else "not told: of an early version"
    rows = [
        ("task", f"{told.task or 'unknown'}, {simulator}"),
        ("episodes", f"{told.episodes:,}{frames}" if told.episodes else "unknown"),
        ("rate", rate),
        ("state", channels(told.observation, seen) or "unknown"),
        ("action", channels(told.action, acted) or "unknown"),
        ("chunks", f"of {told.horizon} actions" if told.horizon else "unknown"),
        ("source", source),
        ("source digest", f"sha256 {told.source_sha256}" if told.source_sha256 else "not known"),
        ("licence", told.licence or "not stated"),
        ("files", "\n".join(f"{path}  sha256 {digest}" for path, digest in found.digests.items())),
        ("runs", names(now) or "none"),
    ]
    if before:
        rows.append(("runs before", f"{names(before)}\non files that have changed since, or are gone"))
    print_rows(f"Data set {found.words}", rows, "files")


def names(runs: Sequence["StoredRun"]) -> str:
    """The latest runs, a line each."""
    lines = [f"{run.name} ({run.run_id}), {run.status}" for run in reversed(runs)]
    return "\n".join(lines[:RUNS_SHOWN] + ([f"and {len(runs) - RUNS_SHOWN} more"] if len(runs) > RUNS_SHOWN else []))


def _remove(found: "Found", yes: bool) -> None:
    import click

    from pipeline.cli.console import OUT, print_rows
    from pipeline.upkeep.data_sets import remove

    def ask(question: str) -> bool:
        if not yes and not sys.stdin.isatty():
            raise SettingsError("yes: expected --yes where there is no terminal to ask at. Nothing is removed.")
        return yes or click.confirm(question, err=True)

    if removed := remove(found, ask):
        rows = [("files", "\n".join(map(str, removed)))]
        if found.folder != DATA and found.folder.exists():
            left = ", ".join(sorted(path.name for path in found.folder.iterdir()))
            rows.append((f"left in {found.folder}", f"{left}: no files of the set"))
        print_rows(f"Removed data set {found.words}", rows, "files")
    else:
        OUT.print("nothing is removed")


COMMAND = settings_command("data", DataSettings, run, EXAMPLES)
