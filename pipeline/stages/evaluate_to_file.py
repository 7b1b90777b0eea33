"""Evaluate models on any number of episodes, block by block, into one table on disk: nothing else is kept.

A block is some thousand episodes of one model in one condition, with the same bits as among all others. Its rows are a
row group of the file, in the order in which blocks are done:

    method, model, condition   text
    episode                    its number: models and conditions are paired by it
    score                      the primary score
    SCORE, ...                 a column for each score of the task; null where a method has none

The entropy over ways is no score of an episode, and left out.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.config import NONE
from pipeline.errors import SettingsError
from pipeline.evaluation.protocol import Protocol
from pipeline.executors.jobs import Job
from pipeline.executors.run import Watch
from pipeline.files import check_folder, whole_file
from pipeline.stages.evaluate import Candidate, find_contenders, run_judging
from pipeline.stages.judging import Block, EvaluationSpec, Judged
from pipeline.stages.recorded import ABOUT, CONDITION, KEYS, MODELS, PARQUET
from pipeline.stages.say import Say
from pipeline.stages.settings import EvaluateSettings
from pipeline.tasks.registry import find_task
from pipeline.tasks.settings import settle
from pipeline.tasks.task import Task

FORMAT = "tinypi-episodes-1"
BLOCK = 5_000  # episodes: some 20 MB of states while they are simulated
OF_ALL = "ways"  # no score of a single episode


@dataclass(frozen=True)
class Streamed:
    """What is known of the models whose episodes are in a file, by their names."""

    means: dict[str, list[dict[str, float]]]  # of each score, in every condition
    faults: dict[str, Counter[str]]  # of somebody else's policy: answers without a plan, by kind


@dataclass
class Sums:
    """What is known of a model in one condition without its episodes."""

    episodes: int = 0
    totals: dict[str, list[float]] = field(default_factory=dict)  # by score, of each block

    def add(self, columns: dict[str, NDArray[Any]]) -> None:
        """Count the episodes of a block."""
        self.episodes += len(next(iter(columns.values())))
        for name, column in columns.items():
            self.totals.setdefault(name, []).append(float(column.sum(dtype=np.float64)))

    def means(self) -> dict[str, float]:
        """The mean of each score, with the same bits in whatever order blocks came."""
        return {name: math.fsum(totals) / self.episodes for name, totals in self.totals.items()}


def evaluate_to_file(settings: EvaluateSettings, watch: Watch, say: Say) -> Streamed:
    """Evaluate all named models into `settings.out`.

    Bad input raises a `UserError` before any work; `RunError` names what failed, and then there is no file.
    """
    path = Path(settings.out)
    if settings.csv != NONE:
        raise SettingsError("out: expected no --csv beside it.")
    if path.suffix != PARQUET:
        raise SettingsError(f"out: expected a name that ends in .parquet, found '{path}'.")
    check_folder(path.parent, "the table")
    if (task := settle(settings)[1]).world is None:
        raise task.unsimulated("it has no episodes to run. Leave --out out")
    return stream(*find_contenders(settings, say), watch)


def stream(settings: EvaluateSettings, contenders: Sequence[Candidate], spec: EvaluationSpec, watch: Watch) -> Streamed:
    """Evaluate contenders into `settings.out`, see `evaluate_to_file`."""
    names = [each.name for each in contenders]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise SettingsError(f"out: expected models of different names, found '{min(doubled)}' twice.")
    task = find_task(settings.task)
    schema = schema_of(task, spec.protocol, contenders)
    jobs: list[Job[Judged]] = []
    where: dict[str, tuple[Candidate, Block]] = {}
    for contender in contenders:
        for block in blocks_of(task, spec.protocol.episodes):
            name = f"{contender.name}, {task.conditions[block.condition]}, from episode {block.first}"
            jobs.append(Job(name, contender.name, partial(contender.judge, replace(spec, block=block))))
            where[name] = contender, block
    faults = {name: Counter[str]() for name in names}
    sums = {(name, number): Sums() for name in names for number in range(len(task.conditions))}
    with whole_file(Path(settings.out)) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:

        def take(job: Job[Judged], judged: Judged) -> None:
            contender, block = where[job.name]
            columns = {name: each for name, each in judged.evaluation.columns.items() if name in schema.names}
            sums[contender.name, block.condition].add(columns)
            faults[contender.name].update(judged.faults)
            writer.write_table(rows_of(schema, task, contender, block, columns))

        run_judging(settings, jobs, watch, take)
    means = {name: [sums[name, number].means() for number in range(len(task.conditions))] for name in names}
    return Streamed(means, faults)


def blocks_of(task: Task, episodes: int) -> Iterator[Block]:
    """Divide the episodes of each condition."""
    for number in range(len(task.conditions)):
        for first in range(0, episodes, BLOCK):
            yield Block(number, first, min(BLOCK, episodes - first))


def schema_of(task: Task, protocol: Protocol, contenders: Sequence[Candidate]) -> pa.Schema:
    """The columns of the file, and what is known about all of it."""
    text = pa.dictionary(pa.int32(), pa.string())
    fields = [(name, text) for name in KEYS] + [("episode", pa.int64()), ("score", pa.float64())]
    fields += [(name, pa.float64()) for name in task.scores if name != OF_ALL]
    about: dict[str, Any] = {"format": FORMAT, "task": task.name, "primary": task.primary}
    about |= {"episodes": protocol.episodes, "seed": protocol.seed, "version": protocol.version}
    about[MODELS] = [[each.method, each.name] for each in contenders]
    return pa.schema(fields, metadata={ABOUT: json.dumps(about)})


def rows_of(
    schema: pa.Schema, task: Task, contender: Candidate, block: Block, columns: dict[str, NDArray[Any]]
) -> pa.Table:
    """The rows of a block."""
    texts = {"method": contender.method, "model": contender.name, CONDITION: str(task.conditions[block.condition])}
    values: dict[str, Any] = {
        name: pa.DictionaryArray.from_arrays(np.zeros(block.count, np.int32), [text]) for name, text in texts.items()
    }
    values["episode"] = np.arange(block.first, block.first + block.count)
    values["score"] = columns[task.primary]
    for name in schema.names[len(values) :]:
        values[name] = columns[name].astype(np.float64) if name in columns else pa.nulls(block.count, pa.float64())
    return pa.table(values, schema=schema)
