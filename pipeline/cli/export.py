"""`export`."""

from pipeline.cli.options import settings_command
from pipeline.stages.settings import ExportSettings

EXAMPLES = ("export --checkpoint train/trained_models/NAME.pth",)


def run(settings: ExportSettings) -> None:
    """Export and print how much the file's actions deviate from the model's."""
    from pipeline.cli.console import print_rows
    from pipeline.stages.export import export

    made = export(settings)
    ties = f", of which {made.ties} are ties of two plans" if made.ties else ""
    rows = [
        ("file", str(made.path)),
        ("size", f"{made.path.stat().st_size / 1024:,.0f} KiB"),
        ("deviation", f"{made.deviation:.1e} of the actions' size at most, over {made.states} states{ties}"),
        ("open it with", f"pipeline.load_policy({str(made.path)!r})"),
    ]
    print_rows(f"Exported {made.name}", rows, "file")


COMMAND = settings_command("export", ExportSettings, run, EXAMPLES)
