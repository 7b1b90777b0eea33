"""`promote`."""

from pipeline.cli.options import settings_command
from pipeline.registry.settings import PromoteSettings

EXAMPLES = ("promote", "promote --model pi0_fast --dry-run")


def run(settings: PromoteSettings) -> None:
    """Decide, and print the reasons."""
    from pipeline.cli.console import ERR, OUT, print_rows
    from pipeline.cli.progress import jobs_display
    from pipeline.registry.promote import contest_table, promote

    with jobs_display(ERR, "comparing") as display:
        made = promote(settings, display.line, display.show)
    if made.contest:
        OUT.print("\n" + contest_table(made.contest).text(), markup=False)
    rows = [("candidate", made.candidate), ("decision", made.sentence)]
    if made.promoted and not settings.dry_run:
        rows.append(("serve it", f"mlflow models serve -m models:/{settings.model}@champion --env-manager local"))
    print_rows(f"promote {settings.model}", rows, "decision")


COMMAND = settings_command("promote", PromoteSettings, run, EXAMPLES)
