"""The results of `evaluate`, as tables and as plain values."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation.control import Evaluation, mean_scores
from pipeline.report.tables import Table
from pipeline.stages.evaluate import Judged
from pipeline.stages.settings import EvaluateSettings
from pipeline.tasks.task import Task


def score_tables(judged: Sequence[Judged]) -> list[Table]:
    """Make a table per model: its mean scores, a row per condition."""
    tables = []
    for model in judged:
        note = f"Plan against expert: MAE {model.chunks.mae:.4f}, MSE {model.chunks.mse:.5f}." if model.chunks else ""
        tables.append(means_table(model.name, model.evaluation, mean_scores(model.evaluation), note))
    return tables


def means_table(title: str, judged: Task | Evaluation, means: Sequence[Mapping[str, float]], note: str = "") -> Table:
    """Make a table of mean scores, a row per condition."""
    table = judged.scores
    names = [name for name in table if any(name in row for row in means)]
    cells = [
        (
            f"{condition.action_noise:g}, {condition.replan}",
            *(table[name].text(row[name]) if name in row else "-" for name in names),
        )
        for condition, row in zip(judged.conditions, means, strict=True)
    ]
    return Table(title, ("noise, replan", *(table[name].short for name in names)), cells, note)


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
        chunks = {"mae": model.chunks.mae, "mse": model.chunks.mse} if model.chunks else None
        models.append(
            {"name": model.name, "method": model.method, "conditions": conditions, "plan_against_expert": chunks}
        )
    return {"format": "tinypi-evaluation-2", "episodes": settings.episodes, "seed": settings.seed, "models": models}


def means_values(
    settings: EvaluateSettings, task: Task, means: Mapping[str, Sequence[Mapping[str, float]]]
) -> dict[str, Any]:
    """Return the mean scores of models whose episodes are in a file as plain values."""
    models = [
        {
            "name": name,
            "conditions": [
                {"action_noise": condition.action_noise, "replan": condition.replan, "scores": scores}
                for condition, scores in zip(task.conditions, rows, strict=True)
            ],
        }
        for name, rows in means.items()
    ]
    return {"format": "tinypi-evaluation-means-1", "file": settings.out, "models": models}
