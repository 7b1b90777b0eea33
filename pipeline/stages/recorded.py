"""Recorded results: a table of methods, models and episodes, ours or another system's.

The table is CSV with the columns method, model, episode, score and, if there are several, condition; more is better.
All models have a score for the same episodes of the same conditions. `evaluate` writes such a table, with the primary
score as `score` and all scores after it; `evaluate --out` the same as parquet.
"""

import csv
import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.config import AUTO
from pipeline.errors import DataError, reason
from pipeline.files import whole_file
from pipeline.report.statistics import Floats
from pipeline.tasks.score import primary_of

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.evaluation.control import Evaluation  # it imports torch, which reading does not need

COLUMNS = ("method", "model", "episode")
SCORE = "score"  # the column that is compared unless another is named
CONDITION = "condition"
KEYS = ("method", "model", CONDITION)
PARQUET = ".parquet"
ABOUT, MODELS = "tinypi", "models"  # what an evaluation's file tells of itself; in it, all methods and models
Recorded = dict[str, dict[str, dict[str, list[Floats]]]]
"""By method, model and condition: episodes and their scores, `(2, B)` of each block."""
Where = tuple[str, str]
"""A condition and an episode, by the names that the table gives them."""


def read_recorded(path: Path, score: str = AUTO) -> dict[str, Floats]:
    """Read the scores of each method, `(n models, C conditions, E episodes)`, from CSV or parquet.

    `score` names the column, of which more is better; auto: the one of this name. Raises `DataError`.
    """
    column = SCORE if score == AUTO else score
    return _read_parquet(path, column) if path.suffix == PARQUET else _read_table(path, column)


def _read_table(path: Path, column: str) -> dict[str, Floats]:
    """Read a table as CSV; raises `DataError` naming the row."""
    found: dict[str, dict[str, dict[Where, float]]] = {}  # by method and model
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            wanted = (*COLUMNS, column)
            if missing := [name for name in wanted if name not in (table.fieldnames or ())]:
                raise DataError(
                    f"{path}: expected the columns {', '.join(wanted)}, and {CONDITION} if there are several, found "
                    f"no '{missing[0]}'."
                )
            for row in table:
                own = found.setdefault(str(row["method"]), {}).setdefault(str(row["model"]), {})
                where = str(row.get(CONDITION, "")), str(row["episode"])
                score = _number(row[column])
                ragged = None in row or None in row.values()
                if ragged or score is None or where in own:
                    expected = f"a finite number as {column}" if score is None else "every episode of a model once"
                    expected = f"{len(table.fieldnames or ())} fields, as in the first line" if ragged else expected
                    said = ", ".join(f"{name or 'more'} '{text}'" for name, text in row.items())
                    raise DataError(f"{path}: line {table.line_num}: expected {expected}, found {said}.")
                own[where] = score
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: expected a table as CSV, found: {reason(error)[:200]}.") from error
    require_two(path, found)
    everywhere = {where: None for models in found.values() for own in models.values() for where in own}
    conditions, episodes = (list(dict.fromkeys(part)) for part in zip(*everywhere, strict=True))
    for method, models in found.items():
        for model, own in models.items():
            for where in product(conditions, episodes):
                if where not in own:
                    said = f"condition '{where[0]}', " if where[0] else ""
                    raise DataError(
                        f"{path}: expected a row for every model in every episode of every condition, found none for "
                        f"method '{method}', model '{model}', {said}episode '{where[1]}'."
                    )
    return {
        method: np.array([[[own[c, e] for e in episodes] for c in conditions] for own in models.values()])
        for method, models in found.items()
    }


def _read_parquet(path: Path, column: str) -> dict[str, Floats]:
    """Read a table as parquet, a row group at a time; its episodes are numbers. Raises `DataError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: Recorded = {}
    try:
        with pq.ParquetFile(path) as file:
            names, about = file.schema_arrow.names, (file.schema_arrow.metadata or {}).get(ABOUT.encode(), b"")
            if missing := [name for name in (*COLUMNS, column) if name not in names]:
                raise DataError(f"{path}: expected a column '{missing[0]}', found {', '.join(names)[:300]}.")
            keys = [name for name in KEYS if name in names]
            for number in range(file.num_row_groups):
                table = file.read_row_group(number, [*keys, "episode", column])
                numbers = np.stack([table.column(name).cast(pa.float64()).to_numpy() for name in ("episode", column)])
                if not np.isfinite(numbers).all():
                    raise DataError(f"{path}: expected a finite number in each row of '{column}', found none in some.")
                for (method, model, *condition), rows in _by_key(table, keys):
                    own = found.setdefault(method, {}).setdefault(model, {})
                    own.setdefault(condition[0] if condition else "", []).append(numbers[:, rows])
    except (OSError, ValueError, TypeError, AttributeError, pa.ArrowException) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: expected a table as parquet, found: {reason(error)[:200].rstrip('.')}.") from error
    require_two(path, found)
    found = in_order(found, about)
    first = next(iter(next(iter(found.values())).values()))
    return {method: np.stack([_paired(path, first, own) for own in each.values()]) for method, each in found.items()}


def in_order(found: Recorded, about: bytes) -> Recorded:
    """Return methods and models in the order in which they were named, as an evaluation's file tells it.

    Its rows are in the order in which work was done. Files of others have the order of their rows.
    """
    try:
        named = [(str(method), str(model)) for method, model in json.loads(about)[MODELS]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return found
    places: dict[tuple[str, str], int] = {pair: number for number, pair in enumerate(named)}
    first = {method: min(places.get((method, model), len(named)) for model in found[method]) for method in found}
    return {
        method: dict(sorted(found[method].items(), key=lambda each: places.get((method, each[0]), len(named))))
        for method in sorted(found, key=lambda each: first[each])
    }


def require_two(path: Path, found: Collection[str]) -> None:
    """Raise `DataError` unless a table has methods that can be compared."""
    if len(found) < 2:
        raise DataError(f"{path}: expected two methods or more, found {len(found)}.")


def _by_key(table: "pa.Table", keys: Sequence[str]) -> Iterator[tuple[list[str], NDArray[np.intp]]]:
    """Each combination of what the columns `keys` have, and the numbers of the rows that have it."""
    import pyarrow as pa

    encoded = [table.column(name).cast(pa.string()).combine_chunks().dictionary_encode() for name in keys]
    codes = np.stack([each.indices.to_numpy() for each in encoded], axis=1)
    found, where = np.unique(codes, axis=0, return_inverse=True)
    rows = np.split(where.argsort(kind="stable"), np.bincount(where, minlength=len(found)).cumsum()[:-1])
    for row, at in zip(found, rows, strict=True):
        yield [each.dictionary[int(code)].as_py() for each, code in zip(encoded, row, strict=True)], at


def _paired(path: Path, first: dict[str, list[Floats]], own: dict[str, list[Floats]]) -> Floats:
    """A model's scores `(C, E)`, in order; raises `DataError` unless it has the same episodes as the first model."""
    rows = []
    for condition in sorted(first):
        wanted, there = (np.concatenate(each.get(condition, [np.empty((2, 0))]), axis=1) for each in (first, own))
        wanted, there = (each[:, each[0].argsort(kind="stable")] for each in (wanted, there))
        once = len(np.unique(there[0])) == there.shape[1]
        if not (once and own.keys() == first.keys() and np.array_equal(wanted[0], there[0])):
            raise DataError(
                f"{path}: expected every model to have the same episodes of the same conditions, each once, found "
                f"others in condition '{condition}'."
            )
        rows.append(there[1])
    return np.stack(rows)


def write_table(path: Path, judged: Sequence[tuple[str, str, "Evaluation"]]) -> None:
    """Write the scores of every episode of models, each with its method and its name; the same name gets a number."""
    scores = dict.fromkeys(name for _, _, each in judged for name in each.scores if name in each.columns)
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [*KEYS, "episode", SCORE, *scores], lineterminator="\n")
        table.writeheader()
        seen: Counter[tuple[str, str]] = Counter()
        for method, model, each in judged:
            seen[method, model] += 1
            again = seen[method, model]
            about = {"method": method, "model": f"{model} ({again})" if again > 1 else model}
            columns = {name: column * 1 for name, column in each.by_condition().items()}  # True as 1
            for number, condition in enumerate(each.conditions):
                for episode in range(columns[primary_of(each.scores)].shape[1]):
                    row = {name: column[number, episode].item() for name, column in columns.items()}
                    where = {CONDITION: str(condition), "episode": episode, SCORE: row[primary_of(each.scores)]}
                    table.writerow(about | where | row)


def _number(text: str | None) -> float | None:
    """Read a finite number; None if it is none."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
