"""The command line: options made from the settings, errors as one line, exit codes 0, 1 (failed run), 2 (bad input)."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from pipeline import commands
from pipeline.config import (
    CollectSettings,
    DoctorSettings,
    EnsembleSettings,
    EvaluateSettings,
    ExportSettings,
    PromoteSettings,
    RegisterSettings,
    ReportSettings,
    ReproduceSettings,
    Settings,
    SyncSettings,
    TokenizeSettings,
    TrainSettings,
    fields_of,
    make,
)
from pipeline.errors import RunError, UserError, one_line

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130
INTERRUPTS = [signal.SIGINT, signal.SIGTERM]
if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it: then a closed terminal is no reason to end
    INTERRUPTS.append(signal.SIGHUP)


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
    options.append(
        click.Option(["--debug"], is_flag=True, expose_value=False, callback=_remember, help="show tracebacks")
    )

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
    if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("argument"):
        return [click.Argument([field], type=str)]
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
    required = info.is_required()
    about = "; ".join(filter(None, ("required" if required else f"default {info.default}", " and ".join(bounds))))
    help_text = f"{info.description} [{about}]"
    return [click.Option([*spellings, field], type=str, metavar=metavar, required=required, help=help_text)]


def _remember(context: click.Context, option: click.Parameter, value: bool) -> None:
    """Tell `main`: the word alone is not enough, for it may stand there as another option's value."""
    context.obj[option.name] = value


COMMANDS = click.Group(
    "pipeline",
    help="Data, evaluation, ensembles and reports for pi0 and pi0-FAST. "
    "Training: python -m train.train_pi0, python -m train.train_pi0_fast.",
    commands=[
        settings_command("collect", CollectSettings, commands.collect),
        settings_command("tokenize", TokenizeSettings, commands.tokenize),
        settings_command("evaluate", EvaluateSettings, commands.evaluate),
        settings_command("export", ExportSettings, commands.export),
        settings_command("ensemble", EnsembleSettings, commands.ensemble),
        settings_command("report", ReportSettings, commands.report),
        settings_command("register", RegisterSettings, commands.register),
        settings_command("promote", PromoteSettings, commands.promote),
        settings_command("reproduce", ReproduceSettings, commands.reproduce),
        settings_command("doctor", DoctorSettings, commands.doctor),
        settings_command("sync", SyncSettings, commands.sync),
    ],
)


def train_command(method_name: str, kind: type[TrainSettings]) -> click.Command:
    """The command of `python -m train.train_...`."""
    return settings_command(f"train_{method_name}", kind, lambda settings: commands.train(method_name, settings))


def main(command: click.Command, arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code. Errors are one line on stderr; `--debug` shows their traceback."""
    from pipeline.console import print_error

    words = sys.argv[1:] if arguments is None else arguments
    program = f"python -m {'pipeline' if command is COMMANDS else f'train.{command.name}'}"
    flags: dict[str, bool] = {}
    before = {number: signal.signal(number, _interrupt) for number in INTERRUPTS}
    if "MLFLOW_RUN_ID" in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        with command.make_context(program, list(words), obj=flags) as context:
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
        if flags.get("debug"):
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


def _end_with(parent: int) -> None:
    """Interrupt this process once `mlflow run`, which has started it, is gone: a signal to that does not reach us."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _interrupt(number: int, frame: object) -> None:
    for each in INTERRUPTS:  # `mlflow run` passes Ctrl-C on a second time, which must not interrupt the cleaning up
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)
