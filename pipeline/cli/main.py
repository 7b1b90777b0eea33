"""The command line: commands, errors as one line, exit codes 0, 1 (failed run), 2 (bad input), 130 (interrupted).

A command may return other codes for what it found, as `compare` does."""

import os
import signal
import stat
import sys
import threading
import time
from importlib import import_module
from typing import Any

import click
from click.shell_completion import shell_complete

from pipeline import __version__
from pipeline.cli.command import Group
from pipeline.cli.completion import SCRIPT, VARIABLE
from pipeline.cli.console import be_normal, print_error
from pipeline.cli.options import STARTS_RUNS
from pipeline.errors import RunError, UserError, one_line
from pipeline.missing import missing_package

FILES = (
    "collect",
    "import_data",
    "tokenize",
    "tokenizer_report",
    "evaluate",
    "compare",
    "play",
    "export",
    "export_data",
    "ensemble",
    "suite",
    "search",
    "report",
    "plan",
    "register",
    "promote",
    "reproduce",
    "doctor",
    "sync",
    "server",
    "move_store",
    "relocate",
    "data",
    "info",
    "completion",
)
"""The commands, in the order of the workflow: each is a file here, with its `COMMAND`."""

COMMANDS: Group = click.version_option(__version__, prog_name=SCRIPT)(
    Group(
        "pipeline",
        help="Data, evaluation, studies and reports for pi0 and pi0-FAST. "
        "Training: python -m train.train_pi0, python -m train.train_pi0_fast.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        commands=[import_module(f"pipeline.cli.{name}").COMMAND for name in FILES],
    )
)

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130
RECORDED = "; a run that was started is recorded as KILLED"
INTERRUPTS = [signal.SIGINT, signal.SIGTERM]
if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # ignored under nohup, where a closed terminal must not end it
    INTERRUPTS.append(signal.SIGHUP)


def tinypi() -> int:
    """Run the console script `tinypi`: `python -m pipeline` under a name that shells can complete."""
    if instruction := os.environ.get(VARIABLE):
        return shell_complete(COMMANDS, {}, SCRIPT, VARIABLE, instruction)
    return main(COMMANDS, program=SCRIPT)


def main(command: click.Command, arguments: list[str] | None = None, program: str = "") -> int:
    """Run a command and return its exit code. Errors are one line on stderr; `--debug` shows their traceback."""
    words = sys.argv[1:] if arguments is None else arguments
    program = program or f"python -m {'pipeline' if command is COMMANDS else f'train.{command.name}'}"
    be_normal()
    flags: dict[str, Any] = {}
    before = {number: signal.signal(number, _interrupt) for number in INTERRUPTS}
    if "MLFLOW_RUN_ID" in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        with command.make_context(program, list(words), obj=flags) as context:
            code = command.invoke(context)
        sys.stdout.flush()
        return code or 0
    except click.exceptions.Exit as done:  # --help
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return EXIT_BAD_INPUT
    except (KeyboardInterrupt, Exception) as error:
        # Python 3.11 wraps an interrupt that arrives while a class is being created.
        if isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt):
            before.clear()  # further interrupts stay ignored: the process is ending
            print_error(f"interrupted{RECORDED if flags.get(STARTS_RUNS) else ''}")
            return EXIT_INTERRUPTED
        if flags.get("debug"):
            raise
        if isinstance(error, BrokenPipeError) and stat.S_ISFIFO(os.fstat(1).st_mode):  # closed, as by `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # discards what is still to be written
            return EXIT_FAILED
        if isinstance(error, ModuleNotFoundError) and (sentence := missing_package(error)):
            print_error(sentence)
            return EXIT_BAD_INPUT
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
    """Interrupt this process when the `mlflow run` that started it ends: signals sent to that do not reach us."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _interrupt(number: int, frame: object) -> None:
    for each in INTERRUPTS:  # `mlflow run` forwards Ctrl-C a second time, which must not interrupt the cleanup
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)
