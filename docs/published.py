"""The episodes behind the pages of results, kept beside them: whoever has the project has what the verdicts are from.

docs/episodes/SUITE/TASK.npz is a study of a suite. Its arrays are scores (N, C, S) in units of 0.0001, of the N models
that have the score; its metadata the study's terms, the models without their episodes, and the settings of the suite.

Shapes: C conditions, S starts, which are the same in all conditions.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.npz import Arrays, read_npz, write_npz
from pipeline.errors import DataError, SettingsError, UserError, one_line, reason
from pipeline.files import arrays_digest
from pipeline.names import KIND, STUDY, Kind
from pipeline.report.comparison import Comparison, Model, compare_models
from pipeline.report.design import Design
from pipeline.results.gather import gather
from pipeline.tasks.project import TASKS
from pipeline.tasks.registry import find_task
from pipeline.tracking.query import artifact, search
from pipeline.tracking.store import Store
from pipeline.tracking.study import is_at_its_end

FOLDER = Path(__file__).resolve().parent / "episodes"
UNIT = 1e-4  # scores are rounded to it: an eighth of the size, and pages show no more digits
SETTINGS = "settings"
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Published:
    """What there is of a suite."""

    settings: Settings  # of its calls; empty if its studies were made one by one
    suite: Mapping[str, Comparison]  # by task
    renewed: Mapping[str, Comparison]  # those that the store has
    missing: Mapping[str, str]  # by task: why the store has none


def publish(store: Store, suite: str) -> Published:
    """Keep the studies of a suite that the store has at their end, and return all that are kept, if any.

    Raises `DataError` for a damaged file.
    """
    renewed, missing = {}, {}
    for task in TASKS:  # whichever the last call was given
        try:
            renewed[task] = comparison_of(store, suite, task)
        except UserError as error:
            missing[task] = one_line(error)
    called = settings_of(store, suite) if renewed else {}
    for task, comparison in renewed.items():
        keep(comparison, called, file_of(suite, task))
    kept = {task: read(file) for task in TASKS if (file := file_of(suite, task)).exists()}
    given = {name: value for _, settings in kept.values() for name, value in settings.items() if value}
    return Published(given, {task: comparison for task, (comparison, _) in kept.items()}, renewed, missing)


def comparison_of(store: Store, suite: str, task: str) -> Comparison:
    """Return the comparison of a suite's study of a task.

    Raises `SettingsError` if it has no finished models or is not at its end: a look at a part of it is no result.
    """
    study = f"{suite}-{task}"
    found = search(store, {STUDY: study, KIND: Kind.STUDY})
    if found and not is_at_its_end(found[-1]):
        raise SettingsError(f"study '{study}': expected one that is at its end, found {found[-1].status}.")
    return gather(store, study, task=task).comparison


def settings_of(store: Store, suite: str) -> Settings:
    """Return the settings of a suite's last call; none if its studies were made one by one."""
    calls = search(store, {STUDY: suite, KIND: Kind.SUITE})
    if not calls:
        return {}
    with artifact(store, calls[-1].run_id, "settings.json") as file:
        found: Settings = json.loads(file.read_text())
    return found


def file_of(suite: str, task: str) -> Path:
    """The file of a suite's study of a task."""
    return FOLDER / suite / f"{task}.npz"


def keep(comparison: Comparison, settings: Settings, file: Path) -> None:
    """Write what `read` reads; a file of the same episodes stays, whatever a later call of the suite was given."""
    models = [model for group in comparison.groups for model in group.models]
    names = dict.fromkeys(name for model in models for name in model.episodes)
    arrays = {name: np.stack([model.episodes[name] for model in models if name in model.episodes]) for name in names}
    metadata = {
        "task": comparison.task.name,
        "title": comparison.title,
        "protocol": comparison.protocol,
        "design": asdict(comparison.design),
        "notes": comparison.notes,
        SETTINGS: settings,
        "models": [
            {field.name: getattr(model, field.name) for field in fields(Model)} | {"episodes": list(model.episodes)}
            for model in models
        ],
    }
    whole = {name: smallest(np.rint(each / UNIT)) for name, each in arrays.items()}
    if not is_kept(file, whole, metadata):
        write_npz(file, whole, metadata, compressed=True)


def is_kept(file: Path, arrays: Arrays, metadata: Mapping[str, Any]) -> bool:
    """Whether a file has these arrays and this metadata, but for the settings."""
    try:
        found, about = read_npz(file, "")
    except DataError:
        return False
    same = json.loads(json.dumps({**metadata, SETTINGS: None})) == {**about, SETTINGS: None}
    return same and arrays_digest(arrays) == arrays_digest(found)


def smallest(whole: NDArray[np.float64]) -> NDArray[np.integer[Any]]:
    """Whole numbers in as few bytes as they need."""
    return whole.astype(np.result_type(*(np.min_scalar_type(int(each)) for each in (whole.min(), whole.max()))))


def read(file: Path) -> tuple[Comparison, Settings]:
    """Read what `keep` wrote; raises `DataError`."""
    arrays, about = read_npz(file, f"git restore {file}")
    try:
        left = {name: iter(whole * UNIT) for name, whole in arrays.items()}
        models = [as_model(each, left) for each in about["models"]]
        words = about["title"], about["protocol"], Design(**about["design"])
        return compare_models(find_task(about["task"]), *words, models, about["notes"]), about[SETTINGS]
    except Exception as error:  # whatever is wrong with a file that somebody else made
        raise DataError(
            f"{file}: expected a study as 'make results' keeps it, found another file ({reason(error)[:200]})."
        ) from error


def as_model(about: Mapping[str, Any], left: Mapping[str, Iterator[NDArray[np.float64]]]) -> Model:
    """A model from what is kept of it, with the next episodes of each of its scores."""
    episodes = {name: next(left[name]) for name in about["episodes"]}
    return Model(**{**about, "conditions": tuple(map(tuple, about["conditions"])), "episodes": episodes})
