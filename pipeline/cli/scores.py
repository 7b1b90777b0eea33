"""The results of `evaluate`, as tables and as plain values."""

from collections.abc import Sequence
from typing import Any

from pipeline.evaluation.control import mean_scores
from pipeline.report.tables import Table
from pipeline.stages.evaluate import Judged
from pipeline.stages.settings import EvaluateSettings


def score_tables(judged: Sequence[Judged]) -> list[Table]:
    """Make a table per model: its mean scores, a row per condition."""
    tables = []
    for model in judged:
        rows, table = mean_scores(model.evaluation), model.evaluation.scores
        names = [name for name in table if any(name in row for row in rows)]
        cells = [
            (
                f"{condition.action_noise:g}, {condition.replan}",
                *(table[name].text(row[name]) if name in row else "-" for name in names),
            )
            for condition, row in zip(model.evaluation.conditions, rows, strict=True)
        ]
        note = f"Plan against expert: MAE {model.chunks.mae:.4f}, MSE {model.chunks.mse:.5f}." if model.chunks else ""
        tables.append(Table(model.name, ("noise, replan", *(table[name].short for name in names)), cells, note))
    return tables


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
