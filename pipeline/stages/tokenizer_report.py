"""What FAST costs on given demonstrations, before any training: at several scales, on held-out chunks and in control.

Shapes: N chunks, H horizon, A action, B states.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.data.split import split_pairs
from pipeline.errors import DataError, TokenizerError
from pipeline.evaluation.control import Evaluation, Planner, draw_episodes, evaluate_planner
from pipeline.evaluation.expert import evenly_spaced
from pipeline.evaluation.yardsticks import yardstick_planner
from pipeline.files import check_folder, write_text
from pipeline.methods.method import Plans
from pipeline.report.tokenizer_cost import Fitted, TokenizerCost
from pipeline.stages.settings import TokenizerReportSettings, TokenizeSettings
from pipeline.stages.tokenize import REBUILD, pairs_of_task
from pipeline.tasks.facts import require_length
from pipeline.tasks.score import primary_of
from pipeline.tasks.settings import settle
from pipeline.tasks.task import Array, Ints, Task
from pipeline.tokenizer.fast import FastTokenizer, Floats
from pipeline.tokenizer.fit import fit_tokenizer
from pipeline.tokenizer.measure import measure_cost

STAGES = logging.getLogger(__name__)

MOST_TRAIN, MOST_HELD_OUT = 100_000, 10_000  # chunks, evenly spaced, that are fitted on and measured
MIXED = (0.5, 1.0, 2.0)  # multiples of the recipe's two scales
SINGLE = (1.0, 2.0, 4.0)  # multiples of its coarse scale, for all frequencies: published FAST
PURPOSE = "tokenizer report"

Watch = Callable[[int, int], None]
"""`watch(done, total)` is called after each tokenizer."""


def tokenizer_report(settings: TokenizerReportSettings, watch: Watch) -> tuple[TokenizerCost, tuple[Path, ...]]:
    """Measure, and write tables and figure to `settings.out`; the same input gives the same tables.

    Raises `DataError` for pairs that cannot be used, `SettingsError` for a folder that cannot be written to.
    """
    from pipeline.report.tokenizer_figures import draw_tokenizer_cost  # matplotlib is slow to import

    settings, task = settle(settings)
    check_folder(settings.out, "the report")
    pairs, digest = pairs_of_task(settings.pairs, task)
    if task.world is not None:
        require_length(str(settings.pairs), pairs.action_chunk.shape[1], task, DataError, REBUILD)
    split = split_pairs(pairs.trajectory, len(pairs.state))
    chunks = pairs.action_chunk
    train, held_out = chunks[evenly_spaced(split.train, MOST_TRAIN)], chunks[evenly_spaced(split.val, MOST_HELD_OUT)]
    STAGES.debug("%s read and split", settings.pairs)

    tokenizers = [each for scales in all_scales(chunks.shape[1]) if (each := _fit(train, *scales)) is not None]
    if not tokenizers:
        raise DataError(
            f"{settings.pairs}: expected actions that FAST can encode, found too wide a range at any scale."
        )
    expert = next((name for name, each in task.yardsticks.items() if each.planned), None) if task.world else None
    alone = None if expert is None else act_of_expert(task, settings, expert, None)
    rows = []
    for number, tokenizer in enumerate(tokenizers, 1):
        control = None if expert is None else mean_primary(act_of_expert(task, settings, expert, tokenizer))
        rows.append(Fitted(tokenizer, measure_cost(tokenizer, held_out), control))
        STAGES.debug("measured: %s", tokenizer.summary)
        watch(number, len(tokenizers))
    found = TokenizerCost(
        task=task.name,
        channels=tuple(task.action),
        control_seconds=task.control_seconds,
        pairs=str(settings.pairs),
        pairs_sha256=digest,
        train=len(train),
        held_out=len(held_out),
        by_trajectory=split.by_trajectory,
        rows=tuple(rows),
        expert=expert,
        score=task.scores[task.primary].label,
        short=task.scores[task.primary].short,
        alone=None if alone is None else mean_primary(alone),
        episodes=settings.episodes * len(task.conditions),
    )
    settings.out.mkdir(parents=True, exist_ok=True)
    files = tuple(settings.out / f"tokenizer_report.{ending}" for ending in ("md", "json", "png"))
    write_text(files[0], found.markdown())
    write_text(files[1], json.dumps(found.values(), indent=1, allow_nan=False) + "\n")
    draw_tokenizer_cost(found, files[2])
    return found, files


def all_scales(horizon: int) -> list[tuple[float, float, int]]:
    """Return the settings that are measured: scale, fine scale, and number of frequencies that have it."""
    recipe = TokenizeSettings()
    fine = min(recipe.fine, horizon)
    mixed = [(recipe.scale * factor, recipe.fine_scale * factor, fine) for factor in MIXED]
    return [*mixed, *((recipe.scale * factor, 1.0, 0) for factor in SINGLE)]


def _fit(train: Floats, scale: float, fine_scale: float, fine: int) -> FastTokenizer | None:
    """Fit on `train (N, H, A)`; None where the integers are too many for any vocabulary."""
    try:
        return fit_tokenizer(train, scale, 0, fine_scale, fine)
    except TokenizerError as error:
        STAGES.debug("scale %g left out: %s", scale, error)
        return None


def act_of_expert(
    task: Task, settings: TokenizerReportSettings, expert: str, tokenizer: FastTokenizer | None
) -> Evaluation:
    """Execute the expert's plans, as the tokenizer returns them if there is one, on the report's episodes."""
    episodes = draw_episodes(task, task.conditions, settings.episodes, settings.seed, PURPOSE)
    horizon = 0 if tokenizer is None else tokenizer.horizon
    planner = yardstick_planner(task.yardsticks[expert], episodes, 0, horizon)
    return evaluate_planner(planner if tokenizer is None else rounded(planner, tokenizer), episodes)


def rounded(planner: Planner, tokenizer: FastTokenizer) -> Planner:
    """Return a planner of the same plans, encoded and decoded."""

    def plan(states: Array, due: Ints, step: int) -> Plans:
        integers, _ = tokenizer.quantise(planner(states, due, step).actions)
        return Plans(tokenizer.dequantise(integers))  # tokens decode to these integers exactly

    return plan


def mean_primary(evaluation: Evaluation) -> float:
    """Return the mean primary score of all episodes."""
    return float(np.mean(evaluation.columns[primary_of(evaluation.scores)]))
