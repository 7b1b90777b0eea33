"""The report as one page. This file reads from the store what figures and tables lack."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pipeline.errors import StoreError, one_line
from pipeline.names import COMMIT, DATA_SHA256, LOCK_FILE, TOKENIZER_SHA256, TREE, WEIGHTS_SHA256
from pipeline.report.comparison import Comparison, Model
from pipeline.report.page import Page, render_page
from pipeline.report.plotting import Figure, as_svg
from pipeline.report.tables import Table
from pipeline.results.episodes import show_episodes
from pipeline.results.gather import Gathered
from pipeline.tracking.query import StoredRun, artifact, is_model
from pipeline.tracking.store import Store, store_name

ENVIRONMENT_FILE = "environment.json"  # of runs from before there were locks
NOT_A_SETTING = ("run_name", "resume", "preset", "experiment")
MOST_VALUES = 12  # of a setting that are listed
SHORT = 12  # hex digits of a digest
DIGESTS = {"data": DATA_SHA256, "tokenizer": TOKENIZER_SHA256, "weights": WEIGHTS_SHA256}


def make_page(store: Store, gathered: Gathered, drawn: Mapping[str, Figure], missing: Sequence[str]) -> str:
    """Make the page of a comparison. The same store gives the same text at any time."""
    comparison, runs = gathered.comparison, gathered.runs
    models = [(model, runs[model.run_id]) for group in comparison.groups for model in group.models]
    episodes, choice, unshown = show_episodes(store, gathered)
    versions, unread = version_table(store, [run for _, run in models if is_model(run)])
    page = Page(
        comparison=comparison,
        figures={name: as_svg(figure) for name, figure in drawn.items()},
        episodes=episodes,
        choice=choice,
        settings=settings_table(comparison, runs),
        provenance=[
            origin_table(comparison, gathered.study_run, [run for _, run in models]),
            run_table(models),
            versions,
        ],
        missing=[*missing, *unshown, *unread],
    )
    return render_page(page)


def settings_table(comparison: Comparison, runs: Mapping[str, StoredRun]) -> Table:
    """Every training parameter, one column per group: its value, or all its values."""
    groups = comparison.of_kind("model")
    params = {group.name: [runs[model.run_id].params for model in group.models] for group in groups}
    names = dict.fromkeys(name for found in params.values() for each in found for name in each)
    rows = [
        (name, *(_values([each[name] for each in params[group.name] if name in each]) for group in groups))
        for name in names
        if name not in NOT_A_SETTING
    ]
    columns = ("setting", *(group.name for group in groups))
    return Table("Settings of training", columns, rows, f"Evaluation: {comparison.protocol}.")


def _values(found: Sequence[str]) -> str:
    values = list(dict.fromkeys(found))
    return ", ".join(values[:MOST_VALUES]) + (", ..." if len(values) > MOST_VALUES else "") or "-"


def origin_table(comparison: Comparison, study_run: str | None, runs: Sequence[StoredRun]) -> Table:
    """The origin of the report."""
    started = sorted(run.started for run in runs)
    rows = [
        ("store", store_name()),
        ("task", f"{comparison.task.name}: {comparison.task.description}"),
        ("what", comparison.title),
        ("run of the study", study_run or "-"),
        ("evaluation", comparison.protocol),
        ("runs", f"{len(runs)}, started from {_time(started[0])} to {_time(started[-1])}"),
    ]
    return Table("Origin", ("what", "found"), rows)


def run_table(models: Sequence[tuple[Model, StoredRun]]) -> Table:
    """Every run, with the first digits of its digests."""
    rows = [
        (
            f"{model.group}, {model.label}" if model.seed is not None else model.name,
            _time(run.started),
            run.run_id,
            run.tags.get(COMMIT, "-")[:SHORT],
            run.tags.get(TREE, "-"),
            *(run.tags.get(tag, "-")[:SHORT] for tag in DIGESTS.values()),
        )
        for model, run in models
    ]
    columns = ("model", "started", "MLflow run", "commit", "tree", *(f"sha256 of {name}" for name in DIGESTS))
    return Table("Runs", columns, rows, f"The first {SHORT} digits of commits and of sha256 digests.")


def version_table(store: Store, runs: Sequence[StoredRun]) -> tuple[Table, list[str]]:
    """Versions that the models were trained with, from their locks, and runs without a lock."""
    found: dict[str, list[str]] = {}
    missing = []
    for run in runs:
        try:
            made_with = read_lock(store, run.run_id)
        except (StoreError, OSError, ValueError) as error:
            missing.append(f"Versions of {run.name}: {one_line(error)}")
            continue
        for name, value in made_with.items():
            found.setdefault(name, []).append(value)
    rows = [(name, _values(values)) for name, values in found.items()]
    return Table(f"Versions that {len(runs) - len(missing)} models were trained with", ("what", "found"), rows), missing


def read_lock(store: Store, run_id: str) -> dict[str, str]:
    """Read the versions, processor and code digest of a run.

    Raises `StoreError` if it has no record of them, `ValueError` if the record is of another kind.
    """
    try:
        with artifact(store, run_id, LOCK_FILE) as path:
            lock = json.loads(path.read_text(encoding="utf-8"))
    except StoreError:
        with artifact(store, run_id, ENVIRONMENT_FILE) as path:
            lock = {"versions": json.loads(path.read_text(encoding="utf-8"))}

    def part(name: str) -> dict[str, Any]:
        found = lock.get(name, {}) if isinstance(lock, dict) else None
        if not isinstance(found, dict):
            raise ValueError(f"MLflow run {run_id}: expected a record of versions, found another file.")
        return found

    made_with = {name: str(value) for name, value in part("versions").items()}
    if "sha256" in part("code"):
        made_with["code, sha256"] = str(part("code")["sha256"])
    if "processor" in lock:
        made_with["processor"] = str(lock["processor"])
    return made_with


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
