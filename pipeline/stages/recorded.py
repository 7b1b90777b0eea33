"""Results that other systems made: a table of methods, models and episodes, or lerobot's `eval_info.json`.

The table is CSV with the columns method, model, episode, score and, if there are several, condition; more is better.
All models have a score for the same episodes of the same conditions.

lerobot writes {"per_episode": [{"success": ..., "seed": ...}, ...]}, or for several tasks {"per_task":
[{"task_group": ..., "task_id": ..., "metrics": {"successes": [...]}}, ...]}.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import DataError, one_line
from pipeline.report.statistics import Floats

EVAL_INFO = ".json"  # what files of recorded episodes of a policy end in
COLUMNS = ("method", "model", "episode", "score")
CONDITION = "condition"
WHERE = [CONDITION, "episode"]
HEADER = 1  # lines of a table before its first row


def read_table(path: Path) -> dict[str, Floats]:
    """Read the scores of each method, `(n models, C conditions, E episodes)`; raises `DataError` naming the row."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{path}: expected a table as CSV, found: {one_line(error)[:200]}.") from error
    if missing := [name for name in COLUMNS if name not in table]:
        raise DataError(
            f"{path}: expected the columns {', '.join(COLUMNS)}, and {CONDITION} if there are several, found no "
            f"'{missing[0]}'."
        )
    if CONDITION not in table:
        table[CONDITION] = ""
    whose, keys = ["method", "model"], ["method", "model", *WHERE]
    numbers = pd.to_numeric(table["score"], errors="coerce")
    check_rows(path, table, ~np.isfinite(numbers), "a finite number as score")
    check_rows(path, table, table.duplicated(keys), "every episode of a model once")
    if table["method"].nunique() < 2:
        raise DataError(f"{path}: expected two methods or more, found {table['method'].nunique()}.")
    scores = numbers.set_axis(pd.MultiIndex.from_frame(table[keys]))
    everywhere = pd.MultiIndex.from_product([table[name].unique() for name in WHERE])
    found: dict[str, list[Floats]] = {}
    for (method, model), own in scores.groupby(level=whose, sort=False):
        own = own.droplevel(whose)
        if len(lacking := everywhere.difference(own.index, sort=False)):
            condition, episode = lacking[0]
            where = f"episode {episode}" + (f" of condition {condition}" if condition else "")
            raise DataError(
                f"{path}: expected a row for every model in every episode, found none for method {method}, "
                f"model {model}, {where}."
            )
        found.setdefault(method, []).append(own.reindex(everywhere).to_numpy().reshape(everywhere.levshape))
    return {method: np.stack(models) for method, models in found.items()}


def check_rows(path: Path, table: pd.DataFrame, wrong: Any, expected: str) -> None:
    """Raise `DataError` naming the first row that is wrong."""
    if (numbers := np.flatnonzero(wrong)).size:
        row = ", ".join(f"{name} '{text}'" for name, text in table.iloc[numbers[0]].items() if text)
        raise DataError(f"{path}: line {numbers[0] + HEADER + 1}: expected {expected}, found {row}.")


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
                f"{where}: expected the same episodes as in the other file, found {task} {lacking[0]} in this one only."
            )
    if len({len(episodes) for episodes in a.values()}) > 1:
        raise DataError(f"{first}: expected equally many episodes of every task, found other numbers.")
    conditions = tuple(sorted(a))
    blocks = [[[found[task][key] for key in sorted(a[task])] for task in conditions] for found in (a, b)]
    return conditions, np.array(blocks[0], dtype=np.float64), np.array(blocks[1], dtype=np.float64)


def read_eval_info(path: Path) -> dict[str, dict[str, bool]]:
    """Read which episodes succeeded, by task and by seed or place; raises `DataError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if "per_task" in content:
            tasks = {
                f"{each['task_group']} {each['task_id']}": _named(each["metrics"]["successes"], None)
                for each in content["per_task"]
            }
        else:
            rows = content["per_episode"]
            seeds = [row.get("seed") for row in rows]
            tasks = {"episodes": _named([row["success"] for row in rows], None if None in seeds else seeds)}
        if not tasks or not all(tasks.values()):
            raise ValueError("no episodes")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: expected lerobot's eval_info.json, with per_episode or per_task, found: {one_line(error)[:200]}."
        ) from error
    return tasks


def _named(successes: Sequence[Any], seeds: Sequence[Any] | None) -> dict[str, bool]:
    keys = [f"episode {n}" for n in range(len(successes))] if seeds is None else [f"seed {seed}" for seed in seeds]
    if len(set(keys)) < len(keys):
        raise ValueError("a seed that is there twice")
    if any(value not in (True, False) for value in successes):
        raise ValueError("a success that is neither true nor false")
    return dict(zip(keys, map(bool, successes), strict=True))
