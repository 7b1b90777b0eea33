"""Runs whose data has changed since they were trained."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.files import file_digest, is_file
from pipeline.names import DATA_SHA256, MADE_FROM, PAIRS, PAIRS_SHA256
from pipeline.stages.collect import PAIRS_FILE
from pipeline.tracking.query import StoredRun

if TYPE_CHECKING:  # it imports torch
    from pipeline.methods.method import Prepared

Digest = Callable[[Path], str]


def changed_data(runs: Iterable[StoredRun], digest: Digest = file_digest) -> list[str]:
    """One line for each file that is another now than the one that runs were trained on.

    Of tokens that are still the same, the action pairs beside them are looked at if they were made from these. A file
    that is gone has not changed, nor has one that a run of an early version does not tell.
    """

    @cache
    def now(path: Path) -> str | None:
        return digest(path) if is_file(path) else None

    trained: dict[tuple[Path, str], list[str]] = {}  # names, by file and digest
    for run in runs:
        changed = ((path, then) for path, then in _files(run) if now(path) not in (None, then))
        if first := next(changed, None):
            trained.setdefault(first, []).append(run.name)
    return [
        f"{path} has changed since {_words(names)} trained on it: sha256 {then[:12]} then, {str(now(path))[:12]} now"
        for (path, then), names in trained.items()
    ]


def pairs_beside(prepared: "Prepared") -> Path | None:
    """The action pairs beside the tokens of a training, if these were made from them: others may lie there."""
    path = prepared.source.files["data"].with_name(PAIRS_FILE)
    if "tokenizer" not in prepared.source.files or not is_file(path):
        return None
    return path if file_digest(path) == prepared.source.pairs_sha256 else None


def _files(run: StoredRun) -> Iterator[tuple[Path, str]]:
    """The files of a run's data, and the digests that they had."""
    if PAIRS not in run.params:
        return
    path = Path(run.params[PAIRS])
    if DATA_SHA256 in run.tags:
        yield path, run.tags[DATA_SHA256]
    if MADE_FROM in run.tags and PAIRS_SHA256 in run.tags:
        yield Path(run.tags[MADE_FROM]), run.tags[PAIRS_SHA256]


def _words(names: list[str]) -> str:
    return f"{names[0]} was" if len(names) == 1 else f"{names[0]} and {len(names) - 1} more were"
