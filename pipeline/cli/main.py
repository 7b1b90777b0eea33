"""The command line: commands, errors as one line, exit codes 0, 1 (failed run), 2 (bad input), 130 (interrupted)."""

import os
import signal
import stat
import sys
import threading
import time

import click
from click.shell_completion import get_completion_class, shell_complete

from pipeline.cli import commands
from pipeline.cli.console import be_normal, print_error
from pipeline.cli.options import STARTS_RUNS, Command, Group, settings_command
from pipeline.config import (
    CollectSettings,
    CompletionSettings,
    DoctorSettings,
    EnsembleSettings,
    EvaluateSettings,
    ExportSettings,
    InfoSettings,
    MoveStoreSettings,
    PlaySettings,
    PromoteSettings,
    RegisterSettings,
    ReportSettings,
    ReproduceSettings,
    ServerSettings,
    SyncSettings,
    TokenizeSettings,
    TrainSettings,
)
from pipeline.errors import RunError, UserError, one_line

SCRIPT, COMPLETE = "tinypi", "_TINYPI_COMPLETE"
EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130
RECORDED = "; a run that was started is recorded as KILLED"
INTERRUPTS = [signal.SIGINT, signal.SIGTERM]
if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it: then a closed terminal is no reason to end
    INTERRUPTS.append(signal.SIGHUP)


def completion(settings: CompletionSettings) -> None:
    """Print the script that makes a shell complete `tinypi`."""
    kind = get_completion_class(settings.shell)
    assert kind is not None
    print(kind(COMMANDS, {}, SCRIPT, COMPLETE).source())


COMMANDS = Group(
    "pipeline",
    help="Data, evaluation, ensembles and reports for pi0 and pi0-FAST. "
    "Training: python -m train.train_pi0, python -m train.train_pi0_fast.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    commands=[
        settings_command("collect", CollectSettings, commands.collect),
        settings_command("tokenize", TokenizeSettings, commands.tokenize),
        settings_command("evaluate", EvaluateSettings, commands.evaluate),
        settings_command("play", PlaySettings, commands.play),
        settings_command("export", ExportSettings, commands.export),
        settings_command("ensemble", EnsembleSettings, commands.ensemble),
        settings_command("report", ReportSettings, commands.report),
        settings_command("register", RegisterSettings, commands.register),
        settings_command("promote", PromoteSettings, commands.promote),
        settings_command("reproduce", ReproduceSettings, commands.reproduce),
        settings_command("doctor", DoctorSettings, commands.doctor),
        settings_command("sync", SyncSettings, commands.sync),
        settings_command("server", ServerSettings, commands.server),
        settings_command("move-store", MoveStoreSettings, commands.move_store),
        settings_command("info", InfoSettings, commands.info),
        settings_command("completion", CompletionSettings, completion),
    ],
)


def train_command(method_name: str, kind: type[TrainSettings]) -> Command:
    """The command of `python -m train.train_...`."""
    return settings_command(f"train_{method_name}", kind, lambda settings: commands.train(method_name, settings))


def tinypi() -> int:
    """The console script `tinypi`: `python -m pipeline` under a name that shells can complete."""
    if instruction := os.environ.get(COMPLETE):
        return shell_complete(COMMANDS, {}, SCRIPT, COMPLETE, instruction)
    return main(COMMANDS, program=SCRIPT)


def main(command: click.Command, arguments: list[str] | None = None, program: str = "") -> int:
    """Run a command and return its exit code. Errors are one line on stderr; `--debug` shows their traceback."""
    words = sys.argv[1:] if arguments is None else arguments
    program = program or f"python -m {'pipeline' if command is COMMANDS else f'train.{command.name}'}"
    be_normal()
    flags: dict[str, bool] = {}
    before = {number: signal.signal(number, _interrupt) for number in INTERRUPTS}
    if "MLFLOW_RUN_ID" in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        with command.make_context(program, list(words), obj=flags) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as done:  # --help
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return EXIT_BAD_INPUT
    except (KeyboardInterrupt, Exception) as error:
        # Python 3.11 wraps an interrupt that comes while a class is being made.
        if isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt):
            before.clear()  # further interrupts stay ignored: the process is ending
            print_error(f"interrupted{RECORDED if flags.get(STARTS_RUNS) else ''}")
            return EXIT_INTERRUPTED
        if flags.get("debug"):
            raise
        if isinstance(error, BrokenPipeError) and stat.S_ISFIFO(os.fstat(1).st_mode):  # closed, as by `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where what is still to be written goes
            return EXIT_FAILED
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
