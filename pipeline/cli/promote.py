"""`promote`."""

from pipeline.cli.options import settings_command
from pipeline.registry.settings import PromoteSettings

EXAMPLES = ("promote", "promote --model pi0_fast --dry-run")


def run(settings: PromoteSettings) -> None:
    """Decide, and print the reasons."""
    from pipeline.cli.console import ERR, OUT, print_rows
    from pipeline.cli.progress import contest_display
    from pipeline.registry.promote import promote
    from pipeline.registry.register import registered_name
    from pipeline.report.contest import contest_table
    from pipeline.stages.compare import blocks_of, condition_names
    from pipeline.tasks.registry import find_task

    task = find_task(settings.task)
    with contest_display(ERR, blocks_of(task, settings.max_episodes)) as watch:
        made = promote(settings, lambda line: OUT.print(line, markup=False), watch)
    if made.contest:
        names = "candidate", "champion"
        table = contest_table(str(task.scores[task.primary]), condition_names(task), made.contest, names)
        OUT.print("\n" + table.text(), markup=False)
    name = registered_name(task.name, settings.model)
    rows = [("candidate", made.candidate), ("decision", made.sentence)]
    if made.promoted and not settings.dry_run:
        rows.append(("serve it", f"mlflow models serve -m models:/{name}@champion --env-manager local"))
    print_rows(f"promote {name}", rows, "decision")


COMMAND = settings_command("promote", PromoteSettings, run, EXAMPLES)
