"""An evaluation as files of a run: a table of mean scores, a row per episode, and plans with the expert's chunks.

evaluation/episodes.csv   a row per condition and episode, with its scores: what a report reads
evaluation/scores.json    {"columns": ["action_noise", "replan", SCORE, ...], "data": [a row per condition]}: the means,
                          which MLflow's UI shows as a table
evaluation/plans.npz      planned chunks and the expert's, if its chunks are known, and errors by step and dimension
evaluation/paths.npz      of a task with several ways: paths of episodes, and the condition they are of: that in which
                          the choice is most the policy's own

Shapes: C conditions, S starts, which are the same in all conditions.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.protocol import Protocol
from pipeline.names import EVALUATION
from pipeline.tasks.task import Condition, Task

if TYPE_CHECKING:  # it imports torch, which a report does not
    from pipeline.evaluation.control import Evaluation

FOLDER, SCORES_FILE, EPISODES_FILE, PLANS_FILE = "evaluation", "scores.json", "episodes.csv", "plans.npz"
PATHS_FILE, MOST_PATHS = "paths.npz", 200
CONDITION_COLUMNS = ("action_noise", "replan")
EPISODE_COLUMNS = (*CONDITION_COLUMNS, "episode")


def clearest(conditions: Sequence[Condition]) -> Condition:
    """Return the condition in which a choice of way is most the policy's own: little noise, and plans that last."""
    return min(conditions, key=lambda each: (each.action_noise, -each.replan))


UNFINISHED = "unfinished"  # the tag EVALUATION while results are being logged


def protocol_tags(protocol: Protocol) -> dict[str, str]:
    """Return the tags of a run that was evaluated by this protocol: as text, and as numbers."""
    return {
        EVALUATION: str(protocol),
        "evaluation_episodes": str(protocol.episodes),
        "evaluation_seed": str(protocol.seed),
        "evaluation_version": str(protocol.version),
        "evaluation_purpose": protocol.purpose,
    }


def protocol_of(tags: Mapping[str, str]) -> Protocol | None:
    """Return the protocol that a run with these tags was evaluated by; None if it was not, or not completely.

    Runs of before there were versions have no tag for it.
    """
    numbers = [tags.get(f"evaluation_{name}", "") for name in ("episodes", "seed")]
    numbers.append(tags.get("evaluation_version", "1"))
    complete = tags.get(EVALUATION, UNFINISHED) != UNFINISHED and all(map(str.isdecimal, numbers))
    if not complete:
        return None
    episodes, seed, version = map(int, numbers)
    return Protocol(episodes, seed, version, tags.get("evaluation_purpose", ""))


def scores_table(conditions: Sequence[Condition], rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the mean scores per condition as a table."""
    data = [
        [condition.action_noise, condition.replan, *row.values()]
        for condition, row in zip(conditions, rows, strict=True)
    ]
    return {"columns": [*CONDITION_COLUMNS, *rows[0]], "data": data}


def write_episodes(path: Path, judged: "Task | Evaluation", scores: Mapping[str, NDArray[Any]]) -> None:
    """Write the scores of every episode, arrays `(C, S)` by name, so that they can be read back exactly."""
    names = [name for name in judged.scores if name in scores]
    columns = [scores[name].astype(np.int64) if scores[name].dtype == bool else scores[name] for name in names]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*EPISODE_COLUMNS, *names])
        for number, condition in enumerate(judged.conditions):
            rows = zip(*(column[number].tolist() for column in columns), strict=True)
            where = condition.action_noise, condition.replan
            writer.writerows([*where, episode, *row] for episode, row in enumerate(rows))


def read_episodes(path: Path, episodes: int, task: Task) -> dict[str, NDArray[np.float64]]:
    """Read what `write_episodes` wrote: arrays `(C, S)` by the name of the score, S = `episodes`.

    Raises `ValueError` unless the file has every episode of every condition in order, with all scores, in finite
    numbers. Scores that only describe may be missing.
    """

    conditions = task.conditions

    def refused(found: str) -> ValueError:
        wanted = f"the scores of {episodes} episodes in each of {len(conditions)} conditions"
        return ValueError(f"{path.name}: expected {wanted}, found {found}.")

    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    except UnicodeDecodeError as error:
        raise refused("no text") from error
    where, names = tuple(header.split(",")[:3]), header.split(",")[3:]
    known = [name for name, score in task.scores.items() if score.better or name in names]
    if where != EPISODE_COLUMNS or names != known:
        raise refused(f"another table, with the columns {header[:100]!r}")
    if len(lines) != len(conditions) * episodes:
        raise refused(f"{len(lines)} rows")
    try:
        table = np.loadtxt(lines, delimiter=",", ndmin=2).reshape(len(conditions), episodes, -1)
    except ValueError as error:
        raise refused("a damaged table") from error
    grid = [[[each.action_noise, each.replan, number] for number in range(episodes)] for each in conditions]
    if table.shape[2] != len(EPISODE_COLUMNS) + len(names) or not np.array_equal(table[..., :3], grid):
        raise refused("others, or in another order")
    if not np.isfinite(table).all():
        raise refused("numbers that are not finite")
    return {name: table[..., 3 + number].copy() for number, name in enumerate(names)}
