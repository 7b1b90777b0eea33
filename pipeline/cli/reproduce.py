"""`reproduce`."""

from pipeline.cli.options import settings_command
from pipeline.errors import RunError
from pipeline.upkeep.settings import ReproduceSettings

EXAMPLES = ("reproduce 0123456789abcdef0123456789abcdef",)


def run(settings: ReproduceSettings) -> None:
    """Train again and print whether the weights are the same; raises `RunError` if not."""
    from pipeline.cli.console import OUT, print_rows
    from pipeline.cli.progress import training_display
    from pipeline.upkeep.reproduce import reproduce

    with training_display(OUT) as display:
        made = reproduce(settings, display.line, display.step)
    rows = [
        ("weights", "match bit for bit" if made.matches else "differ"),
        ("sha256 then", made.then),
        ("sha256 now", made.now),
    ]
    print_rows(f"reproduced {made.name}", rows, "weights")
    if not made.matches:
        others = ", ".join(name for name, _, _ in made.differences) or "nothing that the run's lock records"
        raise RunError(f"run {settings.run}: the weights differ; changed since then: {others}. Restore that.")


COMMAND = settings_command("reproduce", ReproduceSettings, run, EXAMPLES)
