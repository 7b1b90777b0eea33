"""`ensemble`: run a study."""

from datetime import timedelta

from pipeline.cli.options import settings_command
from pipeline.errors import RunError
from pipeline.studies.settings import EnsembleSettings, shorthands

EXAMPLES = (
    "ensemble --n-models 2 --epochs 1 --episodes 20 --study trial",
    "ensemble --study rates --set pi0.lr=0.002 --set pi0_fast.lr=0.004",
    'ensemble --study widths --methods "pi0 width=64,pi0 width=128"',
)


def run(settings: EnsembleSettings) -> None:
    """Run a study and print its results; raises `RunError` if a part of it failed."""
    from pipeline.cli.console import OUT, print_rows
    from pipeline.cli.progress import jobs_display
    from pipeline.report.overview import as_text
    from pipeline.studies.study import run_study
    from pipeline.tracking.run import list_of
    from pipeline.tracking.store import ui_command

    with jobs_display(OUT, settings.study) as display:
        study = run_study(settings, display.line, display.show)
    if study.gathered:
        OUT.print("\n" + as_text(study.gathered.comparison, names=()), markup=False)
    rows = [
        ("jobs", f"{study.done} jobs run, {study.reused} models reused, {len(study.failures)} failed"),
        ("time", f"{timedelta(seconds=round(study.seconds))}"),
        ("details", f"python -m pipeline report --study {settings.study}"),
        ("report", "\n".join(map(str, study.files)) or "none: no model"),
        ("MLflow run", study.run_id),
        ("in the UI", study.url),
        ("all runs", list_of(study.url)),
        ("open the UI", ui_command()),
        *[("failed", failure) for failure in study.failures],
    ]
    print_rows(f"study {settings.study}", rows, "report")
    if study.failures:
        raise RunError(
            f"study '{settings.study}': {len(study.failures)} jobs failed, the first: {study.failures[0]}. "
            "Run the same command again to retry."
        )
    if study.gathered is None:
        raise RunError(f"study '{settings.study}': expected finished models to report on, found none in the store.")


COMMAND = settings_command("ensemble", EnsembleSettings, run, EXAMPLES, starts_runs=True, shorthands=shorthands())
