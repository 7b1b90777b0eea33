"""`tokenizer-report`."""

import json

from pipeline.cli.options import settings_command
from pipeline.stages.settings import TokenizerReportSettings

EXAMPLES = ("tokenizer-report", "tokenizer-report --task reacher", "tokenizer-report --data NAME --out trial")


def run(settings: TokenizerReportSettings) -> None:
    """Measure, and print the tables and the recommendation."""
    from pipeline.cli.console import ERR, print_result, print_rows
    from pipeline.cli.progress import count_display
    from pipeline.stages.tokenizer_report import tokenizer_report

    with count_display(ERR, "measuring tokenizers") as watch:
        found, files = tokenizer_report(settings, watch)
    if settings.format == "json":
        print_result(json.dumps(found.values(), allow_nan=False))
        return
    for table in found.tables():
        print_result("\n" + table.text())
    print_result("\n" + found.recommendation)
    print_rows("Files", [("files", "\n".join(map(str, files)))])


COMMAND = settings_command("tokenizer-report", TokenizerReportSettings, run, EXAMPLES)
