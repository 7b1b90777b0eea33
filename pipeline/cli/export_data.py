"""`export-data`."""

from pipeline.cli.options import settings_command
from pipeline.stages.settings import ExportDataSettings

EXAMPLES = ("export-data --out lerobot_pendulum", "export-data --task reacher --out lerobot_reacher")


def run(settings: ExportDataSettings) -> None:
    """Export and print what was written."""
    from pipeline.cli.console import ERR, print_rows
    from pipeline.cli.progress import count_display
    from pipeline.stages.export_data import export_data

    with count_display(ERR, "writing episodes") as watch:
        made = export_data(settings, watch)
    rows = [
        ("episodes", f"{made.episodes:,} of the task {made.task}, {made.frames:,} frames"),
        ("files", f"{made.files:,}, {made.size / 2**20:,.1f} MiB"),
        ("folder", str(made.folder)),
    ]
    print_rows(f"Exported demonstrations, format {settings.format}", rows, "folder")


COMMAND = settings_command("export-data", ExportDataSettings, run, EXAMPLES)
