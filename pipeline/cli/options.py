"""Commands made from settings: options, help with examples, completion."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem
from pydantic.fields import FieldInfo

from pipeline.cli.command import BARE, EXIT_CODES, Command
from pipeline.cli.console import be_quiet, be_verbose
from pipeline.config import AUTO, NONE, VARIABLE, S, bound_text, fields_of, make, value_type
from pipeline.errors import SettingsError

STARTS_RUNS = "starts_runs"
"""Key of a command's context object: whether the command starts runs of its own."""
CHOSEN = "chosen"  # key of a command's context object: the choices made by flags such as --json


def settings_command(
    name: str,
    kind: type[S],
    run: Callable[[S], int | None],
    examples: Sequence[str],
    starts_runs: bool = False,
    shorthands: Mapping[str, FieldInfo] | None = None,
    complete: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    exit_codes: str = EXIT_CODES,
) -> Command:
    """Make a command with one option for each field of `kind`, in both `-` and `_` spellings.

    `run` may return an exit code; none is 0. All values reach `kind` as text, so its validation is the only one. For
    one of the `shorthands`, `--NAME VALUE` is `--set NAME=VALUE`, unless the value is "auto".
    `complete` adds values to those that were given.
    """
    short = shorthands or {}
    options: list[click.Parameter] = [
        option for field, info in fields_of(kind).items() for option in options_of(field, info)
    ]
    options += [option for field, info in short.items() for option in options_of(field, info)]
    options += [
        click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, callback=_quiet, help="print results only"),
        click.Option(
            ["-v", "--verbose"], is_flag=True, expose_value=False, callback=_verbose,
            help="log settings, versions and finished stages to stderr",
        ),
        click.Option(["--debug"], is_flag=True, expose_value=False, callback=_remember, help="show tracebacks"),
    ]  # fmt: skip

    def call(**values: Any) -> int | None:
        flags = click.get_current_context().obj
        flags[STARTS_RUNS] = starts_runs
        context = click.get_current_context()
        if values.get("resume") not in (None, NONE):  # it goes on as it was started, whatever the environment says now
            values = {
                field: None if context.get_parameter_source(field) == ParameterSource.ENVIRONMENT else value
                for field, value in values.items()
            }
        given = {field: value for field, value in values.items() if value not in (None, ())} | flags.get(CHOSEN, {})
        for field in [field for field in given if field.endswith(BARE)]:
            _take_bare(given, field.removesuffix(BARE))
        for field in [field for field in given if field in short]:
            if (value := given.pop(field)) != AUTO:
                given["set"] = (f"{field}={value}", *given.get("set", ()))
        variables = {
            field: variable
            for field in given.keys() & kind.model_fields.keys()
            if context.get_parameter_source(field) == ParameterSource.ENVIRONMENT
            and (variable := variable_of(kind.model_fields[field]))
        }
        settings = _make(kind, complete(given), variables)
        if flags.get("verbose"):
            be_verbose(settings)
        return run(settings)

    context = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
    command = Command(name, params=options, callback=call, help=kind.__doc__, context_settings=context)
    command.settings_type, command.examples, command.shorthands = kind, examples, short
    command.exit_codes = exit_codes
    return command


def _make(kind: type[S], values: dict[str, Any], variables: Mapping[str, str]) -> S:
    """Make settings; raises `SettingsError`, which names the variable of a value that is from the environment."""
    try:
        return make(kind, values)
    except SettingsError as error:
        field, _, fault = str(error).partition(": ")
        if field not in variables:
            raise
        raise SettingsError(f"{variables[field]}: {fault} --{field.replace('_', '-')} wins over it.") from error


def variable_of(info: FieldInfo) -> str:
    """The environment's variable that a setting is from where the command line has none; empty if there is none."""
    return str(info.json_schema_extra.get(VARIABLE, "")) if isinstance(info.json_schema_extra, dict) else ""


def _take_bare(given: dict[str, Any], field: str) -> None:
    """Take arguments without an option as values of `field`; raises `click.UsageError` for one value too many."""
    bare, named = given.pop(field + BARE), given.get(field)
    if isinstance(bare, tuple):
        given[field] = (*bare, *(named or ()))
    elif named is None:
        given[field] = bare
    else:
        raise click.UsageError(f"{field}: expected one, found '{named}' and '{bare}'.")


def options_of(field: str, info: FieldInfo) -> list[click.Parameter]:
    """Make the options of one field; their help gives the default and the allowed values.

    A field of several values takes `--field A --field B` and `--field A B`; a switch takes no value.
    """
    spellings = list(dict.fromkeys((f"--{field.replace('_', '-')}", f"--{field}")))
    kind: Any = info.annotation
    if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("argument"):
        metavar = "|".join(get_args(kind)) or field.upper()
        return [click.Argument([field], type=str, metavar=metavar, shell_complete=_completion(field, kind))]
    if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("flags"):
        return [
            click.Option(
                [f"--{choice}", f"{field}_{choice}"], is_flag=True, expose_value=False,
                callback=partial(_choose, field, choice), help=f"print {choice.upper()} only",
            )
            for choice in get_args(kind)
            if choice != info.default
        ]  # fmt: skip
    if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("bare"):
        return [_bare_argument(field, info), *_named_options(field, info, spellings)]
    return _named_options(field, info, spellings)


def _bare_argument(field: str, info: FieldInfo) -> click.Argument:
    several = get_origin(info.annotation) is tuple
    complete = _completion(field, info.annotation)
    metavar = f"[{field.upper()}]{'...' if several else ''}"
    nargs = -1 if several else 1
    return click.Argument(
        [field + BARE], type=str, nargs=nargs, required=False, metavar=metavar, shell_complete=complete
    )


def _named_options(field: str, info: FieldInfo, spellings: list[str]) -> list[click.Parameter]:
    kind = value_type(info)
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
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    required = info.is_required() and not extra.get("bare")  # a bare word may give it instead
    variable = variable_of(info)
    value = AUTO if info.default is None else info.default
    default = "required" if info.is_required() else f"default {f'${variable} or ' if variable else ''}{value}"
    help_text = f"{info.description} [{'; '.join(filter(None, (default, bounds_of(info))))}]"
    return [
        click.Option(
            [*spellings, field], type=str, metavar=metavar, required=required, help=help_text,
            shell_complete=complete, envvar=variable or None,
        )
    ]  # fmt: skip


def bounds_of(info: FieldInfo) -> str:
    """Describe the allowed range of a number: "0 to 3", ">= 1", "0 to < 1"; empty without bounds."""
    found: dict[str, str] = {
        key: bound_text(value)
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
    """Return how a field's values are completed: by its choices, by files, or not at all."""
    choices = get_args(kind) if get_origin(kind) is not tuple else ()
    if choices:
        return lambda _context, _option, typed: [CompletionItem(each) for each in choices if each.startswith(typed)]
    if kind is Path or Path in get_args(kind) or field in ("checkpoint", "tokenizer", "out"):
        return lambda _context, _option, typed: [CompletionItem(typed, type="file")]
    return None


def _remember(context: click.Context, option: click.Parameter, value: bool) -> None:
    """Remember that the flag was given: its word in `sys.argv` may be another option's value."""
    context.obj[option.name] = value


def _choose(field: str, choice: str, context: click.Context, _option: click.Parameter, value: bool) -> None:
    """Remember a flag's choice; raises `click.UsageError` if an earlier flag made another."""
    if value:
        earlier = context.obj.setdefault(CHOSEN, {}).setdefault(field, choice)
        if earlier != choice:
            raise click.UsageError(f"{field}: expected one of --{earlier} and --{choice}, found both.")


def _quiet(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        be_quiet()


def _verbose(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        context.obj[option.name] = True
