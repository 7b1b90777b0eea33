"""`suite`: the same groups of models on several tasks."""

from datetime import timedelta

from pipeline.cli.options import settings_command
from pipeline.errors import RunError
from pipeline.studies.settings import SuiteSettings

EXAMPLES = (
    "suite",
    "suite --tasks pendulum,avoiding --methods pi0,pi0_fast,regression --n-models 10",
)


def run(settings: SuiteSettings) -> None:
    """Run a suite and print its results; raises `RunError` if a part of it failed."""
    from pipeline.cli.console import OUT, print_rows
    from pipeline.cli.progress import jobs_display
    from pipeline.report.suite import suite_text
    from pipeline.studies.suite import run_suite
    from pipeline.tracking.store import ui_command

    with jobs_display(OUT, settings.suite) as display:
        suite = run_suite(settings, display.line, display.show)
    if suite.comparisons:
        OUT.print("\n" + suite_text(suite.comparisons), markup=False)
    rows = [
        ("time", f"{timedelta(seconds=round(suite.seconds))}"),
        ("report", "\n".join(map(str, suite.files)) or "none: no model"),
        ("MLflow run", suite.run_id),
        ("in the UI", suite.url),
        ("open the UI", ui_command()),
        *[("failed", failure) for failure in suite.failures],
    ]
    print_rows(f"suite {settings.suite}", rows, "report")
    if suite.failures:
        raise RunError(
            f"suite '{settings.suite}': {len(suite.failures)} parts failed, the first: "
            f"{suite.failures[0].removesuffix('.')}. Run the same command again to retry."
        )


COMMAND = settings_command("suite", SuiteSettings, run, EXAMPLES, starts_runs=True)
