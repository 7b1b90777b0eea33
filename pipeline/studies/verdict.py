"""Metrics and notes of a study's runs for MLflow's lists: means as metrics, the verdict as a note."""

from collections.abc import Sequence

from pipeline.names import LOOKED, VERDICT
from pipeline.report.comparison import Comparison, Group
from pipeline.report.comparison_tables import averages_table, condition_table, verdict_table
from pipeline.report.leaders import has_many_pairs, verdicts_of
from pipeline.report.overview import by_condition, told
from pipeline.report.words import NO_CONTROL, verdict_words
from pipeline.tasks.score import NOT_IN_NAMES
from pipeline.tracking.study import as_tag

NOTE = "mlflow.note.content"  # the tag that MLflow's UI shows as a run's description
LONGEST, REST = 8000, "\n\nThe rest is in the report."  # characters of a tag in MLflow, which cuts longer ones anywhere


def as_note(parts: Sequence[str]) -> str:
    """Join the parts of a description; of a long one whole lines, so that a table stays one."""
    text = "\n\n".join(parts)
    return text if len(text) <= LONGEST else text[: LONGEST - len(REST)].rpartition("\n")[0] + REST


def group_metrics(group: Group) -> dict[str, float]:
    """Means and deviations over a group's models: `SCORE_mean`, `SCORE_std`; scores are means over the conditions."""
    found = {name: by[None] for name, by in group.scores.items() if None in by} | group.costs
    means = {f"{name}_mean": summary.mean for name, summary in found.items()}
    return means | {f"{name}_std": summary.std for name, summary in found.items() if summary.std is not None}


def study_metrics(comparison: Comparison) -> dict[str, float]:
    """Each group's number of models and main means: `GROUP/models`, `GROUP/SCORE`."""
    metrics: dict[str, float] = {}
    for group in comparison.of_kind("model"):
        name = NOT_IN_NAMES.sub("_", group.name)
        metrics[f"{name}/models"] = float(len(group.models))
        main = [score for score in comparison.main if score in group.scores]
        metrics |= {f"{name}/{score}": group.scores[score][None].mean for score in main}
    return metrics


def verdict_tags(comparison: Comparison, study: str, looked: str) -> dict[str, str]:
    """The tags that tell a study's verdict: its description, in words, and at how many models it was read.

    `looked` is the tag as it was.
    """
    found = verdicts_of(comparison)
    pairs = [] if has_many_pairs(comparison) else comparison.contrasts
    lines = [*told(comparison), *(line for each in pairs for line in by_condition(comparison, each))]
    tables = [verdict_table(comparison).markdown()] if found else []
    tables += [
        averages_table(comparison).markdown(),
        condition_table(comparison, comparison.design.primary).markdown(),
    ]
    about = [] if comparison.task.world else [NO_CONTROL]
    count = str(min((len(group.models) for group in comparison.of_kind("model")), default=0))
    numbers = looked.split()
    return {
        NOTE: as_note([f"**Study {study}**", *about, "\n".join(f"- {line}" for line in lines), *tables]),
        VERDICT: as_tag("; ".join(map(verdict_words, found))),
        LOOKED: " ".join(numbers if count in numbers else [*numbers, count]),
    }
