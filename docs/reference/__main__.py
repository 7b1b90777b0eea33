"""Write docs/reference/settings.md from the settings, the command lines and MLproject: python -m docs.reference."""

from pathlib import Path
from typing import get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from pipeline.cli import main as cli
from pipeline.cli.options import Command, bounds_of
from pipeline.cli.train import train_command
from pipeline.config import Settings, fields_of
from pipeline.files import whole_file
from pipeline.methods.registry import METHODS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "settings.md"
HEAD = """# Settings of every command

Made from the settings in the code by `python -m docs.reference`; a test holds this page to it.

A setting is written `--name value` on the command line, with `-` or `_`, and `-P name=value` with `mlflow run . -e
ENTRY_POINT`, where the entry point exists; both have the same defaults and checks. Values outside the range are refused
in one line, with exit code 2, before any work starts. Files are relative to the folder a command is started in. Every
command also takes `--quiet` (results only), `--verbose` (what is used, and when each stage is done), `--debug` (the
traceback of an error) and `--help`. Exit codes: 0 done, 1 a run that was started failed, 2 bad input, 130 interrupted.
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
    entry = f"`mlflow run . -e {command.name}`" if command.name in entry_points else "none: it is not for `mlflow run`"
    lines = [f"## {start}", "", command.help or "", "", f"Entry point: {entry}.", ""]
    fields = fields_of(kind) | dict(command.shorthands)
    if not fields:
        return "\n".join([*lines, "No settings.", ""])
    lines += ["| setting | type | default | range | meaning |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *(row(kind, name, info) for name, info in fields.items()), ""])


def row(kind: type[Settings], name: str, info: FieldInfo) -> str:
    """A setting."""
    default = "required" if info.is_required() else f"`{info.default}`" if info.default != () else "none"
    return f"| `{name}` | {type_of(info)} | {default} | {bounds_of(info)} | {info.description} |"


def type_of(info: FieldInfo) -> str:
    """A type as people say it."""
    kind = info.annotation
    if get_origin(kind) is tuple:
        return f"{get_args(kind)[0].__name__.lower()}, several"
    if get_origin(kind):
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    return {"str": "text", "bool": "switch"}.get(kind.__name__, kind.__name__.lower()) if kind else ""


if __name__ == "__main__":
    with whole_file(PAGE) as temporary:
        temporary.write_text(render(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
