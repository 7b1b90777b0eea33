"""The command line: options made from the settings, errors as one line, exit codes 0, 1 (failed run), 2 (bad input)."""

import json
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from pipeline.config import (
    CollectSettings,
    EnsembleSettings,
    EvaluateSettings,
    ReportSettings,
    Settings,
    TokenizeSettings,
    TrainSettings,
    fields_of,
    make,
)
from pipeline.errors import RunError, UserError, one_line

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130
BY_PAIR = "the file has no 'trajectory' key, so chunks of one trajectory stand in several parts"
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


class Command(click.Command):
    """A command whose options of several values take them one after another: `--checkpoint A.pth B.pth`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        several = {word for option in self.params if getattr(option, "multiple", False) for word in option.opts}
        words: list[str] = []
        current = ""  # the option of several values that we are in
        for word in args:
            if word.startswith("-"):
                current = word if word in several else ""
            elif current and words[-1] != current:
                words.append(current)
            words.append(word)
        return super().parse_args(ctx, words)


def settings_command(name: str, kind: type[Settings], run: Callable[[Any], None]) -> click.Command:
    """Make a command with one option for each field of `kind`, in both `-` and `_` spellings.

    All values reach `kind` as text: its validation is the only one, whatever surface they came by.
    """
    options: list[click.Parameter] = [
        option for field, info in fields_of(kind).items() for option in options_of(field, info)
    ]
    options.append(click.Option(["--debug"], is_flag=True, expose_value=False, help="show tracebacks"))

    def call(**values: Any) -> None:
        run(make(kind, {field: value for field, value in values.items() if value not in (None, ())}))

    context = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
    return Command(name, params=options, callback=call, help=kind.__doc__, context_settings=context)


def options_of(field: str, info: FieldInfo) -> list[click.Parameter]:
    """The options of one field; their help says the default and what values are allowed.

    A field of several values takes `--field A --field B` and `--field A B`; a switch takes no value.
    """
    spellings = list(dict.fromkeys((f"--{field.replace('_', '-')}", f"--{field}")))
    kind: Any = info.annotation
    if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("flags"):
        return [
            click.Option([f"--{choice}", field], flag_value=choice, type=str, help=f"print {choice.upper()} only")
            for choice in get_args(kind)
            if choice != info.default
        ]
    if kind is bool:
        return [click.Option([*spellings, field], is_flag=True, flag_value="true", type=str, help=info.description)]
    if get_origin(kind) is tuple:
        metavar = f"{get_args(kind)[0].__name__.upper()}..."
        return [click.Option([*spellings, field], type=str, metavar=metavar, multiple=True, help=info.description)]
    metavar = "|".join(get_args(kind)) if get_origin(kind) else kind.__name__.upper()
    limits = {"ge": ">= {}", "gt": "> {}", "le": "<= {}", "lt": "< {}"}
    bounds = [
        text.format(f"{value:,}")
        for bound in info.metadata
        for key, text in limits.items()
        if (value := getattr(bound, key, None)) is not None
    ]
    about = "; ".join(filter(None, (f"default {info.default}", " and ".join(bounds))))
    help_text = f"{info.description} [{about}]"
    return [click.Option([*spellings, field], type=str, metavar=metavar, help=help_text)]


def run_collect(settings: CollectSettings) -> None:
    """Collect and say what was made."""
    from pipeline.console import print_rows
    from pipeline.workflows.collect import collect

    made = collect(settings)
    rows = [
        ("trajectories", f"{made.trajectories:,}, all upright, converged and finite"),
        (
            "refused",
            ", ".join(f"{n} {fault}" for fault, n in made.refused.items()) + " (replaced)" if made.refused else "none",
        ),
        ("converge step", f"{made.converge_step:.1f} on average"),
        ("training pairs", f"{made.pairs:,}"),
        ("files", "\n".join(map(str, made.files))),
    ]
    print_rows("Collected demonstrations", rows)


def run_tokenize(settings: TokenizeSettings) -> None:
    """Tokenize and say how well it went."""
    from pipeline.console import print_rows
    from pipeline.workflows.tokenize import tokenize

    made, files = tokenize(settings)
    rows = [
        ("tokens a chunk", f"{made.tokens_mean:.2f} on average, {made.tokens_max} at most"),
        (
            "vocabulary",
            f"{made.vocabulary_used} of {made.vocabulary} entries occur ({made.alphabet} integers, 3 specials)",
        ),
        ("error, action units", f"{made.error_mean:.4f} on average, {made.error_max:.4f} at most"),
        ("coefficients", f"all decode exactly; {made.clipped} clipped to the training range"),
        ("fitted on", "training split, by trajectory" if made.by_trajectory else f"training split, by pair: {BY_PAIR}"),
        ("files", "\n".join(map(str, files))),
    ]
    print_rows("FAST tokens", rows)


def run_train(method_name: str, settings: TrainSettings) -> None:
    """Train and say what the run left."""
    from pipeline.console import OUT, print_rows
    from pipeline.methods import METHODS
    from pipeline.progress import training_display
    from pipeline.tracking.store import ui_command
    from pipeline.workflows.train import train

    with training_display(OUT) as display:
        made = train(METHODS[method_name], settings, display.line, display.step)
    metrics = made.metrics
    rows = [
        (
            "loss",
            f"val {metrics['best_val_loss']:.5f}, test {metrics['best_test_loss']:.5f}, at epoch {made.best_epoch}",
        ),
        ("control", f"success {metrics['check_success']:.2f}, converge {metrics['check_converge']:.2f} (a first look)"),
        ("training", f"{metrics['train_seconds']:.1f} s"),
        ("model", str(made.mirror.model)),
        ("loss curves", str(made.mirror.picture)),
        ("log", str(made.mirror.log)),
        ("MLflow run", made.run_id),
        ("in the UI", made.url),
        ("open the UI", ui_command()),
    ]
    print_rows(made.mirror.name, rows)


def run_evaluate(settings: EvaluateSettings) -> None:
    """Evaluate and print the scores of each model."""
    from pipeline.console import ERR, OUT
    from pipeline.progress import jobs_display
    from pipeline.workflows.evaluate import describe, evaluate, score_tables

    with jobs_display(ERR, "evaluating") as display:
        judged = evaluate(settings, display.show)
    if settings.format == "json":
        print(json.dumps(describe(settings, judged)))
    else:
        for table in score_tables(judged):
            OUT.print("\n" + table.text(), markup=False)


def run_ensemble(settings: EnsembleSettings) -> None:
    """Run a study and say what came out; raises `RunError` if a part of it failed."""
    from pipeline.console import OUT, print_rows
    from pipeline.progress import jobs_display
    from pipeline.report.overview import as_text
    from pipeline.tracking.store import ui_command
    from pipeline.workflows.ensemble import ensemble

    with jobs_display(OUT, settings.study) as display:
        study = ensemble(settings, display.line, display.show)
    if study.reported:
        OUT.print("\n" + as_text(study.reported.comparison), markup=False)
    rows = [
        ("jobs", f"{study.done} done now, {study.found} models found done, {len(study.failures)} failed"),
        ("time", f"{timedelta(seconds=round(study.seconds))}"),
        ("report", "\n".join(str(path) for path in study.reported.files) if study.reported else "none: no model"),
        ("MLflow run", study.run_id),
        ("in the UI", study.url),
        ("open the UI", ui_command()),
        *[("failed", failure) for failure in study.failures],
    ]
    print_rows(f"study {settings.study}", rows)
    if study.failures:
        raise RunError(
            f"study '{settings.study}': {len(study.failures)} jobs failed, the first: {study.failures[0]}. "
            "The same command tries again what is missing."
        )


def run_report(settings: ReportSettings) -> None:
    """Print the comparison in the format asked for."""
    from pipeline.console import OUT, print_rows
    from pipeline.report.overview import as_markdown, as_text, as_values
    from pipeline.workflows.report import as_csv, report

    made = report(settings)
    if settings.format == "text":
        OUT.print(as_text(made.comparison), markup=False)
        print_rows("files", [("", str(path)) for path in made.files])
    elif settings.format == "json":
        print(json.dumps(as_values(made.comparison)))
    else:
        print((as_csv if settings.format == "csv" else as_markdown)(made.comparison), end="")


COMMANDS = click.Group(
    "pipeline",
    help="Data, evaluation, ensembles and reports for pi0 and pi0-FAST. "
    "Training: python -m train.train_pi0, python -m train.train_pi0_fast.",
    commands=[
        settings_command("collect", CollectSettings, run_collect),
        settings_command("tokenize", TokenizeSettings, run_tokenize),
        settings_command("evaluate", EvaluateSettings, run_evaluate),
        settings_command("ensemble", EnsembleSettings, run_ensemble),
        settings_command("report", ReportSettings, run_report),
    ],
)


def train_command(method_name: str, kind: type[TrainSettings]) -> click.Command:
    """The command of `python -m train.train_...`."""
    return settings_command(f"train_{method_name}", kind, lambda settings: run_train(method_name, settings))


def main(command: click.Command, arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code. Errors are one line on stderr; `--debug` shows their traceback."""
    from pipeline.console import print_error

    words = sys.argv[1:] if arguments is None else arguments
    program = f"python -m {'pipeline' if command is COMMANDS else f'train.{command.name}'}"
    before = {number: signal.signal(number, _interrupt) for number in INTERRUPTS}
    try:
        with command.make_context(program, list(words)) as context:
            command.invoke(context)
        return 0
    except click.exceptions.Exit as done:  # --help
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        before.clear()  # further interrupts stay ignored: the process is ending
        print_error("interrupted; a run that was started is recorded as KILLED")
        return EXIT_INTERRUPTED
    except Exception as error:
        if "--debug" in words:
            raise
        expected = (UserError, RunError, OSError, click.UsageError)
        message = error.format_message() if isinstance(error, click.UsageError) else one_line(error)
        print_error(
            message if isinstance(error, expected) else f"{type(error).__name__}: {message} (--debug shows where)"
        )
        return EXIT_BAD_INPUT if isinstance(error, (UserError, click.UsageError)) else EXIT_FAILED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:
    for each in INTERRUPTS:  # `mlflow run` passes Ctrl-C on a second time, which must not interrupt the cleaning up
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)
