"""`doctor`: repair what processes that died have left."""

from typing import TYPE_CHECKING

from pipeline.cli.options import settings_command
from pipeline.errors import RunError
from pipeline.upkeep.settings import DoctorSettings

if TYPE_CHECKING:
    from pipeline.upkeep.doctor import Finding

EXAMPLES = ("doctor",)


def run(settings: DoctorSettings) -> None:
    """Repair, and say what was found."""
    from pipeline.upkeep.doctor import doctor

    print_findings("doctor", doctor(), "nothing to repair: no orphaned runs")


def print_findings(title: str, findings: "list[Finding]", nothing: str) -> None:
    """Print a row per finding; raises `RunError` if something still waits to be delivered."""
    from pipeline.cli.console import OUT, print_rows

    if findings:
        print_rows(title, [(found.what, f"{found.state}; {found.done}") for found in findings])
    else:
        OUT.print(nothing)
    if waiting := sum(found.waiting for found in findings):
        raise RunError(f"MLflow: expected the store to take everything, {waiting} calls still wait. Try again later.")


COMMAND = settings_command("doctor", DoctorSettings, run, EXAMPLES)
