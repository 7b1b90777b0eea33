"""What lerobot recorded of a policy, its `eval_info.json`: which episodes succeeded.

It is {"per_episode": [{"success": ..., "seed": ...}, ...]}, or for several tasks {"per_task": [{"task_group": ...,
"task_id": ..., "metrics": {"successes": [...]}}, ...]}.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError, reason
from pipeline.parse import json_object
from pipeline.report.statistics import Floats

ENDING = ".json"


def read_eval_infos(first: Path, second: Path) -> tuple[tuple[str, ...], Floats, Floats]:
    """Read which episodes of two policies succeeded: the names of the C tasks, and `(C, S)` of each policy.

    Pairs are episodes of equal seed, or of equal place where no seeds are recorded. Raises `DataError` if the files do
    not have the same episodes of the same tasks.
    """
    a, b = read_eval_info(first), read_eval_info(second)
    for task in [*a, *b]:
        own, other = a.get(task, {}), b.get(task, {})
        if lacking := [key for key in (*own, *other) if key not in own or key not in other]:
            where = first if lacking[0] in own else second
            raise DataError(
                f"{where}: expected the same episodes as in the other file, found one in this file only: {task}, "
                f"seed or place {lacking[0]}."
            )
    if len({len(episodes) for episodes in a.values()}) > 1:
        raise DataError(f"{first}: expected equally many episodes of every task, found other numbers.")
    conditions = tuple(sorted(a))
    blocks = [[[found[task][key] for key in sorted(a[task])] for task in conditions] for found in (a, b)]
    return conditions, np.array(blocks[0], dtype=np.float64), np.array(blocks[1], dtype=np.float64)


def read_eval_info(path: Path) -> dict[str, dict[int, bool]]:
    """Read which episodes succeeded, by task and by seed or place; raises `DataError`."""
    try:
        content = json_object(path.read_text(encoding="utf-8"))
        if "per_task" in content:
            tasks = {
                f"{each['task_group']} {each['task_id']}": _named(each["metrics"]["successes"], None)
                for each in content["per_task"]
            }
            if len(tasks) < len(content["per_task"]):
                raise ValueError("a task that is there twice")
        else:
            rows = content["per_episode"]
            seeds = [row.get("seed") for row in rows]
            tasks = {"episodes": _named([row["success"] for row in rows], None if None in seeds else seeds)}
        if not tasks or not all(tasks.values()):
            raise ValueError("no episodes")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: expected lerobot's eval_info.json, with per_episode or per_task, found: {reason(error)[:200]}."
        ) from error
    return tasks


def _named(successes: Sequence[Any], seeds: Sequence[Any] | None) -> dict[int, bool]:
    keys = list(range(len(successes))) if seeds is None else list(seeds)
    if any(type(key) is not int for key in keys):
        raise ValueError("a seed that is no whole number")
    if len(set(keys)) < len(keys):
        raise ValueError("a seed that is there twice")
    if any(value not in (True, False) for value in successes):
        raise ValueError("a success that is neither true nor false")
    return dict(zip(keys, map(bool, successes), strict=True))
