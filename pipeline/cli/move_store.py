"""`move-store`."""

from pipeline.cli.options import settings_command
from pipeline.upkeep.settings import MoveStoreSettings

EXAMPLES = ("move-store",)


def run(settings: MoveStoreSettings) -> None:
    """Copy a local store into the team server's, and print what was copied."""
    from pipeline.cli.console import print_rows
    from pipeline.upkeep.move_store import move

    moved = move(settings)
    rows = [
        ("runs", f"{moved.rows['runs']:,}, with {moved.rows['metrics']:,} metric values"),
        ("models", f"{moved.rows['model_versions']:,} registered versions"),
        ("all rows", f"{sum(moved.rows.values()):,} in {len(moved.rows)} tables, verified after the copy"),
        ("artifacts", f"{moved.files:,} files, {moved.size / 2**20:,.1f} MiB"),
        ("start the server", f"make server, or python -m pipeline server --folder {settings.folder}"),
    ]
    print_rows(f"copied {settings.source}", rows, "runs")


COMMAND = settings_command("move-store", MoveStoreSettings, run, EXAMPLES)
