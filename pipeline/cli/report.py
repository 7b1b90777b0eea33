"""`report`: compare evaluated models."""

import json
from pathlib import Path

from pipeline.cli.options import settings_command
from pipeline.config import AUTO, NONE
from pipeline.results.settings import ReportSettings

EXAMPLES = (
    "report",
    "report --study trial --markdown",
    "report --study trial --out train/reports/trial --html",
)


def run(settings: ReportSettings) -> None:
    """Print the comparison in the chosen format, and write files if a folder is named."""
    from pipeline.cli.console import ERR, print_result, print_rows
    from pipeline.files import check_folder
    from pipeline.report.overview import as_markdown, as_text
    from pipeline.report.values import as_csv, as_values
    from pipeline.results.gather import gather
    from pipeline.tasks.registry import find_task
    from pipeline.tracking.store import open_store

    if settings.out != NONE:
        check_folder(Path(settings.out), "the report")
    if settings.task != AUTO:
        find_task(settings.task)
    store = open_store()
    gathered = gather(store, settings.study, settings.experiment, settings.task)
    match settings.format:
        case "text":
            print_result(as_text(gathered.comparison))
        case "json":
            print(json.dumps(as_values(gathered.comparison), allow_nan=False))
        case "csv":
            print(as_csv(gathered.comparison), end="")
        case "markdown":
            print(as_markdown(gathered.comparison), end="")
    if settings.out == NONE:
        return
    from pipeline.results.write import write_files  # matplotlib, and torch for the page, are slow to import

    files, missing = write_files(store, gathered, Path(settings.out), settings.html)
    rows = [*(("", str(path)) for path in files), *(("not drawn", why) for why in missing)]
    if settings.format == "text":
        print_rows("files", rows)
    else:  # standard output is for the chosen format
        ERR.print(f"{len(files)} files written to {settings.out}", markup=False)


COMMAND = settings_command("report", ReportSettings, run, EXAMPLES)
