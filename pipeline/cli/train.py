"""`python -m train.train_...`: train one model of a method."""

import os
from typing import Any

from pipeline.cli.command import Command
from pipeline.cli.options import settings_command
from pipeline.config import is_default
from pipeline.methods.preset import preset_for
from pipeline.methods.settings import TrainSettings
from pipeline.names import BEST_TEST_LOSS, BEST_VAL_LOSS, TRAIN_SECONDS

EXAMPLES = {
    "pi0": ("--seed 1", "--epochs 10 --width 128", "--resume latest"),
    "pi0_fast": ("--seed 1", "--decoding greedy", "--resume latest"),
}
FOR_ANY = ("--seed 1", "--resume latest")


def train(method_name: str, settings: TrainSettings) -> None:
    """Train and print the run's results."""
    from pipeline.cli.console import OUT, print_rows
    from pipeline.cli.progress import training_display
    from pipeline.methods.registry import METHODS
    from pipeline.stages.train import train as work
    from pipeline.tracking.run import list_of
    from pipeline.tracking.store import ui_command

    with training_display(OUT) as display:
        made = work(METHODS[method_name], settings, display.line, display.step)
    metrics = made.metrics
    losses = f"val {metrics[BEST_VAL_LOSS]:.5f}, test {metrics[BEST_TEST_LOSS]:.5f}"
    looked = ", ".join(f"{name} {value:.2f}" for name, value in made.check.items())
    rows = [
        ("loss", f"{losses}, at epoch {made.best_epoch}"),
        ("control", f"{looked} (a first check)" if looked else "not judged: the task has no simulator"),
        ("training", f"{metrics[TRAIN_SECONDS]:.1f} s"),
        ("model", str(made.mirror.model)),
        ("loss curves", str(made.mirror.picture)),
        ("log", str(made.mirror.log)),
        ("MLflow run", made.run_id),
        ("in the UI", made.url),
        ("all runs", list_of(made.url)),
        ("open the UI", ui_command()),
    ]
    if made.undelivered:
        calls = f"{made.undelivered} calls are pending ({made.obstacle}); upload: 'python -m pipeline sync'"
        rows.append(("MLflow", calls))
    print_rows(made.mirror.name, rows, "model")


def train_command(method_name: str, kind: type[TrainSettings]) -> Command:
    """Make the command that trains a method, with an option for each of its settings."""

    def run(settings: TrainSettings) -> None:
        train(method_name, settings)

    def complete(given: dict[str, Any]) -> dict[str, Any]:
        if "MLFLOW_RUN_ID" in os.environ:  # `mlflow run` passes every setting: one at its default was not given
            given = {name: value for name, value in given.items() if not is_default(kind, name, value)}
        return preset_for(method_name, given)

    examples = EXAMPLES.get(method_name, FOR_ANY)
    return settings_command(f"train_{method_name}", kind, run, examples, starts_runs=True, complete=complete)
