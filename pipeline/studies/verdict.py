"""Metrics and notes of a study's runs for MLflow's lists: means as metrics, the verdict as a note."""

import re

from pipeline.report.comparison import Comparison, Group
from pipeline.report.overview import overview_table, verdict_table, verdicts

NOTE = "mlflow.note.content"  # the tag that MLflow's UI shows as a run's description
MAIN = ("calm", "success", "converge")
NOT_IN_NAMES = re.compile(r"[^\w./ :-]")  # characters that MLflow refuses in the name of a metric


def group_metrics(group: Group) -> dict[str, float]:
    """Means and deviations over a group's models: `SCORE_mean`, `SCORE_std`; scores are means over the conditions."""
    found = {name: by[None] for name, by in group.scores.items() if None in by} | group.costs
    means = {f"{name}_mean": summary.mean for name, summary in found.items()}
    return means | {f"{name}_std": summary.std for name, summary in found.items() if summary.std is not None}


def study_metrics(comparison: Comparison) -> dict[str, float]:
    """Each group's number of models and main means: `GROUP/models`, `GROUP/success`, `GROUP/converge`."""
    metrics: dict[str, float] = {}
    for group in comparison.of_kind("model"):
        name = NOT_IN_NAMES.sub("_", group.name)
        metrics[f"{name}/models"] = float(len(group.models))
        metrics |= {f"{name}/{score}": group.scores[score][None].mean for score in MAIN if score in group.scores}
    return metrics


def study_note(comparison: Comparison, study: str) -> dict[str, str]:
    """The tag with the description of a study's run: the verdicts and the table of means."""
    lines = [f"- {verdict}" for verdict in verdicts(comparison)]
    tables = [verdict_table(comparison).markdown()] if comparison.contrasts else []
    tables.append(overview_table(comparison).markdown())
    return {NOTE: "\n\n".join([f"**Study {study}**", "\n".join(lines), *tables])}
