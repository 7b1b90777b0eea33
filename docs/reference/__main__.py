"""Write docs/reference/settings.md from the settings, the command lines and MLproject: python -m docs.reference."""

import inspect
from pathlib import Path
from typing import get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from pipeline.cli import main as cli
from pipeline.cli.command import Command
from pipeline.cli.options import bounds_of
from pipeline.cli.train import train_command
from pipeline.config import AUTO, fields_of, value_type
from pipeline.files import whole_file
from pipeline.methods.registry import METHODS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "settings.md"
NAMES: dict[type, str] = {str: "text", bool: "switch", Path: "path"}
HEAD = """# Settings of every command

`python -m docs.reference` makes this page from the settings in the code. A test compares the two.

On the command line a setting is `--name value`, with `-` or `_` in the name. With `mlflow run . -e ENTRY_POINT` it is
`-P name=value`. (`format` is a flag, `--json`, `--csv` or `--markdown`; what the usage of `--help` shows in capitals is
given without a name.) Defaults and checks are the same. Values outside the range are refused before any work starts.
Relative paths start from the current folder of a command, and from the project's folder with `mlflow run`.

Where the command line does not name them, trainings and `ensemble` take the experiment from `MLFLOW_EXPERIMENT_NAME`,
and the name of the run, or of the study, from `MLFLOW_RUN_NAME`. With `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=true` they
log the machine's load.

Every command also takes `--quiet` (results only), `--verbose` (settings, versions and stages), `--debug` (traceback of
an error) and `--help`. Exit codes: 0 done, 1 a started run failed, 2 bad input, 130 interrupted; `compare`
has some of its own ([command line](../how-to/command_line.md#exit-codes)).
"""


def commands() -> dict[str, Command]:
    """All commands, as people start them."""
    trainings = {
        f"python -m train.train_{name}": train_command(name, method.settings_type) for name, method in METHODS.items()
    }
    others = {
        f"python -m pipeline {name}": command
        for name, command in cli.COMMANDS.commands.items()
        if isinstance(command, Command)
    }
    return trainings | others


def render() -> str:
    """The page."""
    entry_points = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    sections = [section(start, command, entry_points) for start, command in commands().items()]
    return "\n".join([HEAD, *sections])


def section(start: str, command: Command, entry_points: dict[str, object]) -> str:
    """One command: what it does, where MLflow has it, and a table of its settings."""
    kind = command.settings_type
    entry = f"`mlflow run . -e {command.name}`" if command.name in entry_points else "none"
    lines = [f"## {start}", "", text_of(command), "", f"Entry point of `mlflow run`: {entry}.", ""]
    fields = fields_of(kind) | dict(command.shorthands)
    if not fields:
        return "\n".join([*lines, "No settings.", ""])
    lines += ["| setting | type | default | range | meaning |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *(row(name, info) for name, info in fields.items()), ""])


def text_of(command: Command) -> str:
    """What a command says of itself. Docstrings keep their indentation before Python 3.13, and lose it since."""
    return inspect.cleandoc(command.help or "")


def row(name: str, info: FieldInfo) -> str:
    """A setting."""
    shown = AUTO if info.default is None else info.default
    default = "required" if info.is_required() else f"`{shown}`" if shown != () else "none"
    meaning = (info.description or "").replace("|", "\\|")
    return f"| `{name}` | {type_of(info)} | {default} | {bounds_of(info)} | {meaning} |"


def type_of(info: FieldInfo) -> str:
    """A type as people say it."""
    kind = value_type(info)
    if kind is not None and get_origin(kind) is tuple:
        return f"{name_of(get_args(kind)[0])}, several"
    if kind is not None and get_origin(kind):
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    return name_of(kind) if kind else ""


def name_of(kind: type) -> str:
    """The name of a plain type."""
    return NAMES.get(kind, kind.__name__)


if __name__ == "__main__":
    with whole_file(PAGE) as temporary:
        temporary.write_text(render(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
