"""`relocate`."""

from pipeline.cli.options import settings_command
from pipeline.upkeep.settings import RelocateSettings

EXAMPLES = ("relocate", "relocate --store copy/mlruns/mlflow.db")


def run(settings: RelocateSettings) -> None:
    """Rewrite the addresses, and say which."""
    from pipeline.cli.console import print_rows
    from pipeline.upkeep.relocate import relocate

    print_rows(f"relocated {settings.store}", relocate(settings), "addresses")


COMMAND = settings_command("relocate", RelocateSettings, run, EXAMPLES)
