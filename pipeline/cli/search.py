"""`search`: a recipe for each method, found with the same budget for all."""

from datetime import timedelta
from importlib.util import find_spec

from pipeline.cli.options import settings_command
from pipeline.errors import MissingExtraError
from pipeline.studies.settings import SearchSettings

EXAMPLES = (
    "search --methods pi0,pi0_fast --trials 24 --max-seconds pi0=30,pi0_fast=60",
    "search --search mine --space space.yaml --sampler random --seeds-per-trial 1",
)


def run(settings: SearchSettings) -> None:
    """Run a search and print what it found; raises `RunError` if a part of it failed, `MissingExtraError`."""
    if find_spec("optuna") is None:
        raise MissingExtraError("search: expected Optuna to be installed. Install it: pip install -e '.[search]'.")
    from pipeline.cli.console import OUT, print_rows
    from pipeline.cli.progress import jobs_display
    from pipeline.report.search import search_text
    from pipeline.studies.search import run_search
    from pipeline.tracking.store import ui_command

    with jobs_display(OUT, settings.search) as display:
        made = run_search(settings, display.line, display.show)
    OUT.print("\n" + search_text(made.searched), markup=False, soft_wrap=True)
    rows = [
        ("time", f"{timedelta(seconds=round(made.seconds))}"),
        ("report", "\n".join(map(str, made.files))),
        ("presets", "\n".join(map(str, made.presets)) or "none: no recipe was complete and fast enough"),
        ("MLflow run", made.run_id),
        ("in the UI", made.url),
        ("open the UI", ui_command()),
    ]
    print_rows(f"search {settings.search}", rows, "presets")


COMMAND = settings_command("search", SearchSettings, run, EXAMPLES, starts_runs=True)
