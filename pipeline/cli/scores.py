"""The results of `evaluate`, as tables and as plain values."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation.control import mean_scores
from pipeline.evaluation.expert import ChunkErrors
from pipeline.report.comparison_tables import where_heading, where_text
from pipeline.report.tables import Table
from pipeline.stages.evaluate import protocol_for
from pipeline.stages.evaluate_to_file import Streamed
from pipeline.stages.foreign import faults_text
from pipeline.stages.judging import Judged
from pipeline.stages.settings import EvaluateSettings
from pipeline.tasks.registry import find_task
from pipeline.tasks.score import Scores
from pipeline.tasks.task import Channel, Task


def score_tables(settings: EvaluateSettings, judged: Sequence[Judged]) -> list[Table]:
    """Make a table per model: its mean scores, a row per condition; of several models one more, a row per model.

    Without a simulator there is also one of each model's errors by action.
    """
    tables = []
    task = find_task(settings.task)
    for model in judged:
        pooled = model.chunks if model.chunks and not model.action else None
        note = f"Plan against expert: MAE {pooled.mae:.4f}, MSE {pooled.mse:.5f}." if pooled else ""
        note = note or faults_text(model.faults)
        tables.append(conditions_table(task, model.name, mean_scores(model.evaluation), model.evaluation.scores, note))
        if model.chunks and model.action:
            tables.append(errors_table(model.chunks, model.action))
    return [*tables, means_table(judged)] if len(judged) > 1 else tables


def conditions_table(
    task: Task, title: str, means: Sequence[Mapping[str, float]], scores: Scores, note: str = ""
) -> Table:
    """Make the table of a model's mean scores, a row per condition."""
    names = [name for name in scores if any(name in row for row in means)]
    rows = [
        (
            where_text((condition.action_noise, condition.replan), task),
            *(scores[name].text(row[name]) if name in row else "-" for name in names),
        )
        for condition, row in zip(task.conditions, means, strict=True)
    ]
    return Table(title, (where_heading(task), *(scores[name].short for name in names)), rows, note)


def means_table(judged: Sequence[Judged]) -> Table:
    """Make the table of all models: the means of their scores over all conditions."""
    scores = judged[0].evaluation.scores
    shown = [name for name in scores if any(name in model.evaluation.columns for model in judged)]
    rows = [
        (
            model.name,
            *(
                scores[name].text(float(model.evaluation.columns[name].mean()))
                if name in model.evaluation.columns
                else "-"
                for name in shown
            ),
        )
        for model in judged
    ]
    return Table("Means over all conditions", ("policy", *(scores[name].short for name in shown)), rows)


def episodes_of(judged: Sequence[Judged]) -> int:
    """Return how many episodes a condition had; without a simulator they may be fewer than were asked for."""
    return int(next(iter(judged[0].evaluation.by_condition().values())).shape[1])


def errors_table(chunks: ChunkErrors, action: Sequence[Channel]) -> Table:
    """Make a table of a model's mean |error|, a row per action, in its own unit: over the plan, and of some steps."""
    steps = sorted({0, len(chunks.mae_by) // 2, len(chunks.mae_by) - 1})
    alone = chunks.rebuilt_mae_by
    rows = [
        (
            str(channel),
            f"{chunks.mae_by[:, number].mean():.4g}",
            *(f"{chunks.mae_by[step, number]:.4g}" for step in steps),
            *([] if alone is None else [f"{alone[:, number].mean():.4g}"]),
        )
        for number, channel in enumerate(action)
    ]
    columns = ("mean |error| of plans", "all steps", *(f"step {step + 1}" for step in steps))
    return Table("", (*columns, *([] if alone is None else ["tokenizer alone"])), rows)


def as_values(settings: EvaluateSettings, judged: Sequence[Judged]) -> dict[str, Any]:
    """Return all results as plain values, every episode's scores included."""
    models = []
    for model in judged:
        episodes = model.evaluation.by_condition()
        conditions = [
            {
                "action_noise": condition.action_noise,
                "replan": condition.replan,
                "scores": scores,
                "episodes": {name: column[number].tolist() for name, column in episodes.items()},
            }
            for number, (condition, scores) in enumerate(
                zip(model.evaluation.conditions, mean_scores(model.evaluation), strict=True)
            )
        ]
        chunks: dict[str, Any] | None = None
        if model.chunks and not model.action:
            chunks = {"mae": model.chunks.mae, "mse": model.chunks.mse}
        elif model.chunks:
            by, alone = model.chunks.mae_by, model.chunks.rebuilt_mae_by
            chunks = {"actions": [channel.name for channel in model.action]}
            chunks |= {
                "mae_by_step_and_action": by.tolist(),
                "tokenizer_alone": None if alone is None else alone.tolist(),
            }
        about = {"name": model.name, "method": model.method} | ({"no_plan": model.faults} if model.faults else {})
        models.append(about | {"conditions": conditions, "plan_against_expert": chunks})
    return {
        "format": "tinypi-evaluation-2",
        "judged": "control" if find_task(settings.task).world else "plans",
        "episodes": episodes_of(judged),
        "seed": protocol_for(settings, None).seed,
        "models": models,
    }


def means_values(settings: EvaluateSettings, task: Task, found: Streamed) -> dict[str, Any]:
    """Return the mean scores of models whose episodes are in a file as plain values."""
    models = [
        {
            "name": name,
            **({"no_plan": found.faults[name]} if found.faults[name] else {}),
            "conditions": [
                {"action_noise": condition.action_noise, "replan": condition.replan, "scores": scores}
                for condition, scores in zip(task.conditions, rows, strict=True)
            ],
        }
        for name, rows in found.means.items()
    ]
    return {"format": "tinypi-evaluation-means-1", "file": settings.out, "models": models}
