"""`register`."""

from pipeline.cli.options import settings_command
from pipeline.names import STUDY
from pipeline.registry.settings import RegisterSettings

EXAMPLES = ("register --study ensemble", "register --run 0123456789abcdef0123456789abcdef")


def run(settings: RegisterSettings) -> None:
    """Register, and print the versions."""
    from pipeline.cli.console import OUT, print_rows
    from pipeline.registry.register import register_models

    made = register_models(settings, lambda line: OUT.print(line, markup=False))
    rows = [
        (str(each.version), f"{each.run.name}{', the best of ' + each.run.tags[STUDY] if each.best else ''}")
        for each in made
    ]
    print_rows("Registered", rows)


COMMAND = settings_command("register", RegisterSettings, run, EXAMPLES)
