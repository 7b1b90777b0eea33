"""`info`."""

from pathlib import Path

from pipeline.cli.options import settings_command
from pipeline.upkeep.settings import InfoSettings

EXAMPLES = ("info",)


def run(_settings: InfoSettings) -> None:
    """Print the overview."""
    from pipeline.cli.console import print_rows
    from pipeline.upkeep.info import info

    print_rows(f"tinypi in {Path.cwd()}", info(), "next")


COMMAND = settings_command("info", InfoSettings, run, EXAMPLES)
