"""`sync`: deliver to MLflow what waits."""

from pipeline.cli.doctor import print_findings
from pipeline.cli.options import settings_command
from pipeline.upkeep.settings import SyncSettings

EXAMPLES = ("sync",)


def run(settings: SyncSettings) -> None:
    """Deliver, and say what; raises `RunError` if something still waits."""
    from pipeline.upkeep.doctor import sync

    print_findings("sync", sync(), "nothing waits to be delivered")


COMMAND = settings_command("sync", SyncSettings, run, EXAMPLES)
