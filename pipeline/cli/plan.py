"""`plan`: what a comparison will need."""

from pipeline.cli.options import settings_command
from pipeline.results.settings import PlanSettings

EXAMPLES = (
    "plan --study trial --half-width 0.005",
    "plan --study none --std-models 0.01 --std-rest 0.2",
)


def run(settings: PlanSettings) -> None:
    """Print what is needed."""
    from pipeline.cli.console import print_result
    from pipeline.results.plan import make_plan

    print_result(make_plan(settings).text())


COMMAND = settings_command("plan", PlanSettings, run, EXAMPLES)
