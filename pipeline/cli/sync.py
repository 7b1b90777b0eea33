"""`sync`: upload pending data to MLflow."""

from pipeline.cli.doctor import print_findings
from pipeline.cli.options import settings_command
from pipeline.upkeep.settings import SyncSettings

EXAMPLES = ("sync",)


def run(settings: SyncSettings) -> None:
    """Upload, and print what; raises `RunError` if data could not be uploaded."""
    from pipeline.upkeep.doctor import sync

    print_findings("sync", sync(), "nothing to upload")


COMMAND = settings_command("sync", SyncSettings, run, EXAMPLES)
