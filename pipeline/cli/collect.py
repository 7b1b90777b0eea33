"""`collect`."""

import os

from pipeline.cli.options import settings_command
from pipeline.stages.settings import CollectSettings

EXAMPLES = ("collect", "collect --task reacher", "collect --trajectories 500 --plots 3 --out trial")


def run(settings: CollectSettings) -> None:
    """Collect and print a summary."""
    from pipeline.cli.console import print_rows
    from pipeline.stages.collect import collect

    made = collect(settings)
    if "MLFLOW_RUN_ID" in os.environ:
        from pipeline.tracking.launched import describe_files  # MLflow is slow to import

        counts = {
            "trajectories": made.trajectories,
            "refused": sum(made.refused.values()),
            "training_pairs": made.pairs,
            "primary_score": made.primary,
        }
        describe_files("collect", counts, [path for path in made.files if path.suffix == ".npz"])
    rows = [
        ("trajectories", f"{made.trajectories:,} of the task {made.task}, without faults"),
        (
            "refused",
            ", ".join(f"{n} {fault}" for fault, n in made.refused.items()) + " (replaced)" if made.refused else "none",
        ),
        ("quality", f"{made.primary:.3f} on average: {made.label}"),
        ("training pairs", f"{made.pairs:,}"),
        ("files", "\n".join(map(str, made.files))),
    ]
    print_rows("Collected demonstrations", rows, "files")


COMMAND = settings_command("collect", CollectSettings, run, EXAMPLES)
