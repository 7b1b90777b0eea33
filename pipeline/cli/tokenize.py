"""`tokenize`."""

import os
from dataclasses import asdict

from pipeline.cli.options import settings_command
from pipeline.stages.settings import TokenizeSettings

EXAMPLES = ("tokenize", "tokenize --scheme bins", "tokenize --vocabulary 1024 --fine 0 --out trial")
BY_PAIR = "the file has no 'trajectory' key, so chunks of one trajectory are in several parts"


def run(settings: TokenizeSettings) -> None:
    """Tokenize and print a summary."""
    from pipeline.cli.console import print_rows
    from pipeline.stages.tokenize import SCHEMES, tokenize

    made, files = tokenize(settings)
    if "MLFLOW_RUN_ID" in os.environ:
        from pipeline.tracking.launched import describe_files  # MLflow is slow to import

        numbers = {name: value for name, value in asdict(made).items() if type(value) in (int, float)}
        describe_files("tokenize", numbers, files)
    rows = [
        ("tokens per chunk", f"{made.tokens_mean:.2f} on average, {made.tokens_max} at most"),
        (
            "vocabulary",
            f"{made.vocabulary_used} of {made.vocabulary} entries used ({made.alphabet} integers, 3 specials)",
        ),
        ("error, standard units", f"{made.error_mean:.4f} on average, {made.error_max:.4f} at most"),
        ("coefficients", f"all decode exactly; {made.clipped} clipped to the training range"),
        ("fitted on", "training split, by trajectory" if made.by_trajectory else f"training split, by pair: {BY_PAIR}"),
        ("files", "\n".join(map(str, files))),
    ]
    print_rows(f"{SCHEMES[made.scheme]} tokens", rows, "files")


COMMAND = settings_command("tokenize", TokenizeSettings, run, EXAMPLES)
