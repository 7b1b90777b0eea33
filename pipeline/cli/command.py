"""Commands of our kind: options with several values, help under headings with examples, hints for a wrong name."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType

import click
from click.shell_completion import CompletionItem
from pydantic.fields import FieldInfo

from pipeline.config import Settings
from pipeline.methods.settings import ChunkRecipe, FlowActing, Recipe, TokenActing, TokenRecipe, TrainSettings

EXIT_CODES = (
    "Exit codes: 0 done; 1 a run that was started failed; 2 bad input, nothing was started; 130 interrupted.\n"
    "Options can also be spelled with _ instead of -, like MLflow's parameters."
)
BARE = "_bare"  # suffix of a field's name, for the argument that also sets the field
SETTING = re.compile(r"[A-Za-z_][\w.]*=")  # NAME=VALUE
HEADINGS: dict[type[Settings], str] = {
    TrainSettings: "This run",
    FlowActing: "Acting",
    TokenActing: "Acting",
    ChunkRecipe: "Chunks as numbers",
    TokenRecipe: "Chunks as tokens",
    Recipe: "Network and training",
}
"""The options of these classes have headings of their own."""


class Command(click.Command):
    """A command with options that take several values in a row: `--checkpoint A.pth B.pth`.

    After NAME=VALUE a word without "=" is no further value, but an argument: `--act start_noise=1 A.pth`.
    """

    settings_type: type[Settings]  # its options are made from these
    examples: Sequence[str] = ()  # without the program's name
    exit_codes: str = EXIT_CODES
    shorthands: Mapping[str, FieldInfo] = MappingProxyType({})  # more options, each a shorthand of --set NAME=VALUE

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        several = {word for option in self.params if getattr(option, "multiple", False) for word in option.opts}
        words: list[str] = []
        current = ""  # the option that the following values belong to
        for word in args:
            if word.startswith("-"):
                current = word if word in several else ""
            elif current and words[-1] != current:
                if SETTING.match(words[-1]) and not SETTING.match(word):
                    current = ""
                else:
                    words.append(current)
            words.append(word)
        return super().parse_args(ctx, words)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings, one spelling each."""
        fields: dict[str, FieldInfo] = dict(self.settings_type.model_fields)
        owners = {
            field: base
            for base in reversed(self.settings_type.__mro__)
            for field in vars(base).get("__annotations__", {})
        }
        owners |= dict.fromkeys(self.shorthands, Recipe)
        fields |= self.shorthands
        sections: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            if isinstance(option, click.Argument):
                field = str(option.name).removesuffix(BARE)
                sections["Argument"] = [(option.make_metavar(ctx), fields[field].description or "")]
            elif isinstance(option, click.Option):
                shown = ", ".join(word for word in option.opts if "_" not in word)
                shown += "" if option.is_flag else f" {option.make_metavar(ctx)}"
                heading = HEADINGS.get(owners[name], "Options") if (name := option.name) in fields else "All commands"
                sections.setdefault(heading, []).append((shown, option.help or ""))
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows, col_max=26)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples and the exit codes."""
        program = ctx.command_path.removesuffix(f" {self.name}")
        with formatter.section("Examples"):
            for example in self.examples:
                indent = " " * formatter.current_indent
                wrap = textwrap.TextWrapper(
                    formatter.width - 2,
                    initial_indent=indent,
                    subsequent_indent=f"{indent}    ",
                    break_long_words=False,
                    break_on_hyphens=False,
                )
                lines = wrap.wrap(f"{program} {example}")
                formatter.write(" \\\n".join(lines) + "\n")
        write_exit_codes(formatter, self.exit_codes)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """List the possible completions, one spelling per option."""
        found = super().shell_complete(ctx, incomplete)
        return [item for item in found if not (item.value.startswith("--") and "_" in item.value)]


class Group(click.Group):
    """Commands in the order of the workflow, each with its whole first sentence."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by its name; the error for an unknown name suggests a similar one."""
        name = args[0]
        if name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            like = ["train"] if name.startswith("train") else get_close_matches(name, [*self.commands, "train"], 1)
            if like == ["train"]:  # no command of this kind
                hint = "Models are trained by python -m train.train_pi0 or train.train_pi0_fast."
            else:
                hint = f"Did you mean '{like[0]}'?" if like else "See --help."
            raise click.UsageError(f"expected a command, found '{name}'. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands; click would sort them and shorten their descriptions."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first(command.help)) for name, command in self.commands.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write where to find more help, and the exit codes."""
        formatter.write_paragraph()
        formatter.write_text(f"'{ctx.command_path} COMMAND --help' shows the options and examples of a command.")
        write_exit_codes(formatter)


def write_exit_codes(formatter: click.HelpFormatter, codes: str = EXIT_CODES) -> None:
    """Write the exit codes."""
    formatter.write_paragraph()
    for line in codes.split("\n"):
        formatter.write_text(line)


def _first(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())
