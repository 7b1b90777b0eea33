"""The episodes behind the pages of results, kept beside them: whoever has the project has what the verdicts are from.

docs/episodes/SUITE/settings.json has the settings of the suite's last call, docs/episodes/SUITE/TASK.npz a study:

    about   JSON: its terms, and of each model all but its episodes
    SCORE   (N, C, S) in units of 0.0001, of the N models that have the score, in the order of `about`

Shapes: C conditions, S starts, which are the same in all conditions.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import SettingsError, UserError, one_line
from pipeline.files import whole_file
from pipeline.names import KIND, STUDY, Kind
from pipeline.report.comparison import Comparison, Model, compare_models
from pipeline.report.design import Design
from pipeline.results.gather import gather
from pipeline.tasks.project import TASKS
from pipeline.tasks.registry import find_task
from pipeline.tracking.query import artifact, search
from pipeline.tracking.store import Store

FOLDER = Path(__file__).resolve().parent / "episodes"
SETTINGS = "settings.json"
UNIT = 1e-4  # scores are rounded to it: an eighth of the size, and pages show no more digits
ABOUT = "about"


@dataclass(frozen=True)
class Published:
    """What there is of a suite."""

    settings: Mapping[str, Any]  # of its last call; empty if its studies were made one by one
    suite: Mapping[str, Comparison]  # by task
    renewed: Mapping[str, Comparison]  # those that the store has
    missing: Mapping[str, str]  # by task: why the store has none


def publish(store: Store, suite: str) -> Published:
    """Keep the studies of a suite that the store has at their end, and return all that are kept, if any."""
    renewed, missing = {}, {}
    for task in TASKS:  # whichever the last call was given
        try:
            renewed[task] = comparison_of(store, suite, task)
        except UserError as error:
            missing[task] = one_line(error)
    for task, comparison in renewed.items():
        keep(comparison, file_of(suite, task))
    settings = FOLDER / suite / SETTINGS
    calls = search(store, {STUDY: suite, KIND: Kind.SUITE})
    if renewed and calls:
        with artifact(store, calls[-1].run_id, SETTINGS) as stored, whole_file(settings) as temporary:
            shutil.copyfile(stored, temporary)
    kept = {task: file for task in TASKS if (file := file_of(suite, task)).exists()}
    called = json.loads(settings.read_text()) if settings.exists() else {}
    return Published(called, {task: read(file) for task, file in kept.items()}, renewed, missing)


def comparison_of(store: Store, suite: str, task: str) -> Comparison:
    """Return the comparison of a suite's study of a task.

    Raises `SettingsError` if it has no finished models or is not at its end: a look at a part of it is no result.
    """
    study = f"{suite}-{task}"
    found = search(store, {STUDY: study, KIND: Kind.STUDY})
    if found and found[-1].status not in ("FINISHED", "FAILED"):
        raise SettingsError(f"study '{study}': expected one that is at its end, found {found[-1].status}.")
    return gather(store, study, task=task).comparison


def file_of(suite: str, task: str) -> Path:
    """The file of a suite's study of a task."""
    return FOLDER / suite / f"{task}.npz"


def keep(comparison: Comparison, file: Path) -> None:
    """Write what `read` reads."""
    models = [model for group in comparison.groups for model in group.models]
    names = dict.fromkeys(name for model in models for name in model.episodes)
    about = {
        "task": comparison.task.name,
        "title": comparison.title,
        "protocol": comparison.protocol,
        "design": asdict(comparison.design),
        "notes": comparison.notes,
        "models": [
            {field.name: getattr(model, field.name) for field in fields(Model)} | {"episodes": list(model.episodes)}
            for model in models
        ],
    }
    arrays = {
        name: np.rint(np.stack([model.episodes[name] for model in models if name in model.episodes]) / UNIT)
        for name in names
    }
    with whole_file(file) as temporary:
        np.savez_compressed(
            temporary, **{ABOUT: np.array(json.dumps(about))}, **{name: smallest(of) for name, of in arrays.items()}
        )


def smallest(whole: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Whole numbers in as few bytes as they need."""
    kind = np.result_type(np.min_scalar_type(int(whole.min())), np.min_scalar_type(int(whole.max())))
    return whole.astype(kind)


def read(file: Path) -> Comparison:
    """Read what `keep` wrote."""
    with np.load(file) as arrays:
        about = json.loads(str(arrays[ABOUT]))
        scores = {name: iter(arrays[name] * UNIT) for name in arrays if name != ABOUT}
    models = [as_model(each, {name: next(scores[name]) for name in each["episodes"]}) for each in about["models"]]
    return compare_models(
        find_task(about["task"]),
        about["title"],
        about["protocol"],
        Design(**about["design"]),
        models,
        about["notes"],
    )


def as_model(about: Mapping[str, Any], episodes: Mapping[str, Any]) -> Model:
    """A model from what is kept of it."""
    conditions: Sequence[Sequence[float]] = about["conditions"]
    where = tuple((noise, int(replan)) for noise, replan in conditions)
    return Model(**{**about, "conditions": where, "episodes": episodes})
