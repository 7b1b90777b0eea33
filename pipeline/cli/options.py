"""Commands made from settings: options, help that teaches, completion of what is typed."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin

import click
from click.shell_completion import CompletionItem
from pydantic.fields import FieldInfo

from pipeline.cli.console import be_quiet, be_verbose
from pipeline.config import (
    ChunkRecipe,
    FlowRecipe,
    Recipe,
    Settings,
    TokenRecipe,
    TrainSettings,
    fields_of,
    make,
)

EXIT_CODES = (
    "Exit codes: 0 done; 1 a run that was started failed; 2 bad input, nothing was started; 130 interrupted.\n"
    "Every option is also spelled with _ for -, as MLflow's parameters are."
)
STARTS_RUNS = "starts_runs"
"""What a command's context object says of it: whether it starts runs of its own."""
HEADINGS: dict[type[Settings], str] = {
    TrainSettings: "This run",
    FlowRecipe: "Flow matching",
    ChunkRecipe: "Chunks as numbers",
    TokenRecipe: "Chunks as tokens",
    Recipe: "Network and training",
}
"""The options of these classes stand under headings of their own."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "collect": ("collect", "collect --trajectories 500 --plots 3 --out trial"),
    "tokenize": ("tokenize", "tokenize --scheme bins", "tokenize --vocabulary 1024 --fine 0 --out trial"),
    "evaluate": (
        "evaluate --checkpoint A.pth B.pth --yardsticks",
        "evaluate --run 0123456789abcdef0123456789abcdef",
        "evaluate --ensemble trial --json",
    ),
    "play": (
        "play --checkpoint train/trained_models/NAME.pth",
        "play --policy http://127.0.0.1:5001 --action-noise 0.05 --replan 15",
        "play --checkpoint NAME.onnx --lockstep --episode 7 --out seven.gif",
    ),
    "export": ("export --checkpoint train/trained_models/NAME.pth",),
    "ensemble": ("ensemble --n-models 2 --epochs 1 --episodes 20 --study trial", "ensemble --study wide --width 128"),
    "report": ("report", "report --study trial --markdown", "report --study trial --html"),
    "register": ("register --study ensemble", "register --run 0123456789abcdef0123456789abcdef"),
    "promote": ("promote", "promote --model pi0_fast --dry-run"),
    "reproduce": ("reproduce 0123456789abcdef0123456789abcdef",),
    "doctor": ("doctor",),
    "sync": ("sync",),
    "server": ("server", "server --auth --folder mlruns/server"),
    "move-store": ("move-store",),
    "info": ("info",),
    "completion": ("completion bash > ~/.tinypi-complete.bash",),
    "train_pi0": ("--seed 1", "--epochs 10 --width 128", "--resume latest"),
    "train_pi0_fast": ("--seed 1", "--decoding greedy", "--resume latest"),
    "train_regression": ("--seed 1",),
    "train_binning": ("--seed 1",),
}
"""By command, without the program before it."""


class Command(click.Command):
    """A command whose options of several values take them one after another: `--checkpoint A.pth B.pth`."""

    settings_type: type[Settings]  # what its options were made from

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

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings, each in one spelling."""
        fields = self.settings_type.model_fields
        owners = {
            field: base
            for base in reversed(self.settings_type.__mro__)
            for field in vars(base).get("__annotations__", {})
        }
        sections: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            if isinstance(option, click.Argument):
                sections["Argument"] = [(option.make_metavar(ctx), fields[str(option.name)].description or "")]
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
        examples = EXAMPLES.get(self.name or "", ())
        program = ctx.command_path.removesuffix(f" {self.name}")
        with formatter.section("Examples"):
            for example in examples:
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
        write_exit_codes(formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What can stand next, each option in one spelling."""
        found = super().shell_complete(ctx, incomplete)
        return [item for item in found if not (item.value.startswith("--") and "_" in item.value)]


class Group(click.Group):
    """Commands in the order of the work, each with its whole first sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them; click would sort them and cut what they do."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first(command.help)) for name, command in self.commands.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write where to read on, and the exit codes."""
        formatter.write_paragraph()
        formatter.write_text(f"'{ctx.command_path} COMMAND --help' has the options and examples of a command.")
        write_exit_codes(formatter)


def write_exit_codes(formatter: click.HelpFormatter) -> None:
    """What scripts can rely on."""
    formatter.write_paragraph()
    for line in EXIT_CODES.split("\n"):
        formatter.write_text(line)


def _first(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


def settings_command(name: str, kind: type[Settings], run: Callable[[Any], None]) -> Command:
    """Make a command with one option for each field of `kind`, in both `-` and `_` spellings.

    All values reach `kind` as text: its validation is the only one, whatever surface they came by.
    """
    options: list[click.Parameter] = [
        option for field, info in fields_of(kind).items() for option in options_of(field, info)
    ]
    options += [
        click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, callback=_quiet, help="print results only"),
        click.Option(
            ["-v", "--verbose"], is_flag=True, expose_value=False, callback=_verbose,
            help="say on stderr what is used and when each stage is done",
        ),
        click.Option(["--debug"], is_flag=True, expose_value=False, callback=_remember, help="show tracebacks"),
    ]  # fmt: skip

    def call(**values: Any) -> None:
        click.get_current_context().obj[STARTS_RUNS] = issubclass(kind, Recipe)
        settings = make(kind, {field: value for field, value in values.items() if value not in (None, ())})
        if click.get_current_context().obj.get("verbose"):
            be_verbose(settings)
        run(settings)

    context = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
    command = Command(name, params=options, callback=call, help=kind.__doc__, context_settings=context)
    command.settings_type = kind
    return command


def options_of(field: str, info: FieldInfo) -> list[click.Parameter]:
    """The options of one field; their help says the default and what values are allowed.

    A field of several values takes `--field A --field B` and `--field A B`; a switch takes no value.
    """
    spellings = list(dict.fromkeys((f"--{field.replace('_', '-')}", f"--{field}")))
    kind: Any = info.annotation
    if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("argument"):
        metavar = "|".join(get_args(kind)) or field.upper()
        return [click.Argument([field], type=str, metavar=metavar, shell_complete=_completion(field, kind))]
    if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("flags"):
        return [
            click.Option([f"--{choice}", field], flag_value=choice, type=str, help=f"print {choice.upper()} only")
            for choice in get_args(kind)
            if choice != info.default
        ]
    if kind is bool:
        return [click.Option([*spellings, field], is_flag=True, flag_value="true", type=str, help=info.description)]
    complete = _completion(field, kind)
    if get_origin(kind) is tuple:
        metavar = f"{get_args(kind)[0].__name__.upper()}..."
        return [
            click.Option(
                [*spellings, field], type=str, metavar=metavar, multiple=True, help=info.description,
                shell_complete=complete,
            )
        ]  # fmt: skip
    metavar = "|".join(get_args(kind)) if get_origin(kind) else kind.__name__.upper()
    required = info.is_required()
    about = "; ".join(filter(None, ("required" if required else f"default {info.default}", bounds_of(info))))
    help_text = f"{info.description} [{about}]"
    return [
        click.Option(
            [*spellings, field], type=str, metavar=metavar, required=required, help=help_text, shell_complete=complete
        )
    ]


def bounds_of(info: FieldInfo) -> str:
    """What values a number may have: "0 to 3", ">= 1", "0 to < 1"; nothing where there are no bounds."""
    found: dict[str, str] = {
        key: f"{value:,}"
        for bound in info.metadata
        for key in ("ge", "gt", "le", "lt")
        if (value := getattr(bound, key, None)) is not None
    }
    low = found.get("ge") or (f"> {found['gt']}" if "gt" in found else "")
    high = found.get("le") or (f"< {found['lt']}" if "lt" in found else "")
    if low and high:
        return f"{low} to {high}"
    return f">= {low}" if "ge" in found else f"<= {high}" if "le" in found else low or high


Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completion(field: str, kind: Any) -> Complete | None:
    """How a field's values are completed: by its choices, by files, or not at all."""
    choices = get_args(kind) if get_origin(kind) is not tuple else ()
    if choices:
        return lambda _context, _option, typed: [CompletionItem(each) for each in choices if each.startswith(typed)]
    if kind is Path or Path in get_args(kind) or field in ("checkpoint", "tokenizer", "out"):
        return lambda _context, _option, typed: [CompletionItem(typed, type="file")]
    return None


def _remember(context: click.Context, option: click.Parameter, value: bool) -> None:
    """Tell `main`: the word alone is not enough, for it may stand there as another option's value."""
    context.obj[option.name] = value


def _quiet(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        be_quiet()


def _verbose(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        context.obj[option.name] = True
