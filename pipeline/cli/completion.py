"""`completion`: the shell completion script of `tinypi`."""

from typing import Literal

import click
from click.shell_completion import get_completion_class
from pydantic import Field

from pipeline.cli.options import settings_command
from pipeline.config import ARGUMENT, Settings

SCRIPT, VARIABLE = "tinypi", "_TINYPI_COMPLETE"
EXAMPLES = ("completion bash > ~/.tinypi-complete.bash",)


class CompletionSettings(Settings):
    """Print the shell completion script of `tinypi`: commands, options, choices and files.

    bash: source the script in ~/.bashrc. zsh: source it in ~/.zshrc, after compinit. fish: write it to
    ~/.config/fish/completions/tinypi.fish. 'make setup' installs `tinypi` into the environment.
    """

    shell: Literal["bash", "zsh", "fish"] = Field(description="the shell", json_schema_extra=ARGUMENT)


def run(settings: CompletionSettings) -> None:
    """Print the script."""
    kind = get_completion_class(settings.shell)
    assert kind is not None
    print(kind(click.get_current_context().find_root().command, {}, SCRIPT, VARIABLE).source())


COMMAND = settings_command("completion", CompletionSettings, run, EXAMPLES)
