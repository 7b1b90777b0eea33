"""`evaluate`."""

import json

from pipeline.cli.options import settings_command
from pipeline.config import NONE
from pipeline.stages.settings import EvaluateSettings

EXAMPLES = (
    "evaluate A.pth B.pth --yardsticks",
    "evaluate A.pth --policy http://127.0.0.1:5001 mine.py:act --yardsticks --csv results.csv",
    "evaluate A.pth B.pth --episodes 100000 --out episodes.parquet",
)


def run(settings: EvaluateSettings) -> None:
    """Evaluate and print the scores of each model."""
    if settings.out != NONE:
        _to_file(settings)
        return
    from pipeline.cli.console import ERR, print_result
    from pipeline.cli.progress import jobs_display
    from pipeline.cli.scores import as_values, episodes_of, score_tables
    from pipeline.report.words import NO_CONTROL
    from pipeline.stages.evaluate import evaluate
    from pipeline.tasks.registry import find_task

    with jobs_display(ERR, "evaluating") as display:
        judged = evaluate(settings, display.show, display.line)
    if settings.format == "json":
        print(json.dumps(as_values(settings, judged), allow_nan=False))
    else:
        for table in score_tables(settings, judged):
            print_result("\n" + table.text())
        if find_task(settings.task).world is None:
            print_result(f"\nJudged on {episodes_of(judged)} held-out episodes. {NO_CONTROL}")


def _to_file(settings: EvaluateSettings) -> None:
    from pipeline.cli.console import ERR, print_result
    from pipeline.cli.progress import jobs_display
    from pipeline.cli.scores import conditions_table, means_values
    from pipeline.stages.evaluate_to_file import evaluate_to_file
    from pipeline.stages.foreign import faults_text
    from pipeline.tasks.registry import find_task

    with jobs_display(ERR, "evaluating") as display:
        found = evaluate_to_file(settings, display.show, display.line)
    task = find_task(settings.task)
    if settings.format == "json":
        print(json.dumps(means_values(settings, task, found), allow_nan=False))
        return
    for name, rows in found.means.items():
        note = faults_text(found.faults[name])
        print_result("\n" + conditions_table(task, name, rows, task.scores, note).text())
    print_result(f"\nevery episode: {settings.out}")


COMMAND = settings_command("evaluate", EvaluateSettings, run, EXAMPLES)
