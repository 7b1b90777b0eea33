"""`doctor`: clean up after crashes."""

from typing import TYPE_CHECKING

from pipeline.cli.options import settings_command
from pipeline.errors import RunError
from pipeline.upkeep.settings import DoctorSettings

if TYPE_CHECKING:
    from pipeline.upkeep.doctor import Finding

EXAMPLES = ("doctor",)


def run(settings: DoctorSettings) -> None:
    """Clean up, and print what was found."""
    from pipeline.upkeep.doctor import doctor

    print_findings("doctor", doctor(), "nothing to repair: no orphaned runs")


def print_findings(title: str, findings: "list[Finding]", nothing: str) -> None:
    """Print a row per finding; raises `RunError` if data could not be uploaded."""
    from pipeline.cli.console import OUT, print_rows

    if findings:
        print_rows(title, [(found.what, f"{found.state}; {found.done}") for found in findings])
    else:
        OUT.print(nothing)
    if waiting := sum(found.waiting for found in findings):
        raise RunError(f"MLflow: expected the store to accept all data, {waiting} calls are pending. Try again later.")


COMMAND = settings_command("doctor", DoctorSettings, run, EXAMPLES)
