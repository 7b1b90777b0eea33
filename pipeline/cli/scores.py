"""The results of `evaluate`, as tables and as plain values."""

from collections.abc import Sequence
from typing import Any

from pipeline.evaluation.control import mean_scores
from pipeline.report.tables import Table
from pipeline.stages.evaluate import Judged
from pipeline.stages.foreign import faults_text
from pipeline.stages.settings import EvaluateSettings


def score_tables(judged: Sequence[Judged]) -> list[Table]:
    """Make a table per model: its mean scores, a row per condition; of several models one more, a row per model."""
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
        note = note or faults_text(model.faults)
        tables.append(Table(model.name, ("noise, replan", *(table[name].short for name in names)), cells, note))
    return [*tables, means_table(judged)] if len(judged) > 1 else tables


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
        about = {"name": model.name, "method": model.method} | ({"no_plan": model.faults} if model.faults else {})
        models.append(about | {"conditions": conditions, "plan_against_expert": chunks})
    return {"format": "tinypi-evaluation-2", "episodes": settings.episodes, "seed": settings.seed, "models": models}
