"""An evaluation as files of a run: a table of mean scores, a row per episode, and plans with the expert's chunks.

evaluation/scores.json    {"columns": ["action_noise", "replan", SCORE, ...], "data": [a row per condition]},
                          which MLflow's UI shows as a table
evaluation/episodes.csv   a row per episode: its condition, its number in it, and its scores
evaluation/plans.npz      planned chunks and the expert's, if its chunks are known
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.evaluation.protocol import Condition, Protocol

FOLDER, SCORES_FILE, EPISODES_FILE, PLANS_FILE = "evaluation", "scores.json", "episodes.csv", "plans.npz"
CONDITION_COLUMNS = ("action_noise", "replan")

UNFINISHED = "unfinished"  # the tag `evaluation` while results are being logged

Where = tuple[float, int] | None
"""A condition, (action noise, replan interval). None is the mean over all conditions, which no file has."""


def protocol_tags(protocol: Protocol) -> dict[str, str]:
    """Return the tags of a run that was evaluated by this protocol: as text, and as numbers."""
    return {
        "evaluation": str(protocol),
        "evaluation_episodes": str(protocol.episodes),
        "evaluation_seed": str(protocol.seed),
    }


def protocol_of(tags: Mapping[str, str]) -> Protocol | None:
    """Return the protocol that a run with these tags was evaluated by; None if it was not, or not completely."""
    episodes, seed = tags.get("evaluation_episodes", ""), tags.get("evaluation_seed", "")
    complete = tags.get("evaluation", UNFINISHED) != UNFINISHED and episodes.isdecimal() and seed.isdecimal()
    return Protocol(int(episodes), int(seed)) if complete else None


def scores_table(conditions: Sequence[Condition], rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the mean scores per condition as a table; None for a score that a condition does not have."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    data = [
        [condition.action_noise, condition.replan, *(row.get(name) for name in names)]
        for condition, row in zip(conditions, rows, strict=True)
    ]
    return {"columns": [*CONDITION_COLUMNS, *names], "data": data}


def read_scores(path: Path) -> dict[str, dict[Where, float]]:
    """Read the finite scores of a table, by name and condition; raises `ValueError` if the file is not such a table."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        names = table["columns"]
        rows = [dict(zip(names, row, strict=True)) for row in table["data"]]
        found: dict[str, dict[Where, float]] = {}
        for row in rows:
            where = float(row.pop("action_noise")), int(row.pop("replan"))
            for name, value in row.items():
                if isinstance(value, (int, float)) and math.isfinite(value):
                    found.setdefault(name, {})[where] = float(value)
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path.name}: expected a table of scores by condition, found another file.") from error
    return found
