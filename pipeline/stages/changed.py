"""Runs whose data has changed since they were trained."""

from collections.abc import Iterable
from pathlib import Path

from pipeline.files import file_digest, is_file
from pipeline.tracking.query import StoredRun


def changed_data(runs: Iterable[StoredRun]) -> list[str]:
    """One line for each file that is another now than the one that runs were trained on.

    A file that is gone has not changed, nor has one that a run of an early version does not tell.
    """
    trained: dict[tuple[str, str], list[str]] = {}  # names, by file and digest
    for run in runs:
        path, then = run.params.get("pairs"), run.tags.get("data_sha256")
        if path and then:
            trained.setdefault((path, then), []).append(run.name)
    now = {path: file_digest(Path(path)) for path, _ in trained if is_file(Path(path))}
    return [
        f"{path} has changed since {_words(names)} trained on it: sha256 {then[:12]} then, {now[path][:12]} now"
        for (path, then), names in trained.items()
        if now.get(path, then) != then
    ]


def _words(names: list[str]) -> str:
    return f"{names[0]} was" if len(names) == 1 else f"{names[0]} and {len(names) - 1} more were"
