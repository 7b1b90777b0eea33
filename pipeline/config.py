"""Settings: frozen records, validated when they are made. Each package declares its own in its `settings.py`.

A setting's name, default, range and meaning are declared there, once: the command line is made from it, and a test
compares `MLproject` with it. These files import no heavy library, so `--help` and completion are fast.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from pipeline.errors import SettingsError

AUTO, NONE, ALL, LATEST, BEST, AVERAGE = (
    "auto",
    "none",
    "all",
    "latest",
    "best",
    "average",
)  # words, because MLproject parameters cannot be empty
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
ARGUMENT: dict[str, JsonValue] = {"argument": True}  # on the command line, a positional argument
BARE: dict[str, JsonValue] = {"bare": True}  # an option that may also be given as positional arguments
FLAGS: dict[str, JsonValue] = {"flags": True}  # each choice is an option of its own: --json
VARIABLE = "variable"  # MLflow's, of the environment: its value is taken where the command line has none
EXPERIMENT_NAME: dict[str, JsonValue] = {VARIABLE: "MLFLOW_EXPERIMENT_NAME"}
RUN_NAME: dict[str, JsonValue] = {VARIABLE: "MLFLOW_RUN_NAME"}
MAX_SEED = 2**31 - 1
MAX_SHOWN = 100  # characters of a refused value
MAX_TEXT, MAX_PART = 4095, 255  # characters of a path, and bytes of a name in it
EXPECTED = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "tuple_type": "a list of values",
    "literal_error": "{expected}",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "a number below {lt}",
    "less_than_equal": "{le} or less",
    "string_too_short": "text of {min_length} or more characters",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text of the form {pattern}",
    "model_type": "names with values",
    "name": "a name of letters, digits, dots, dashes and underscores",
}
"""What was expected, by pydantic's type of error."""
ROOT = Path(__file__).resolve().parent.parent
DATA = Path("data")  # of the default task; of others and of data sets in folders below


class Settings(BaseModel):
    """A frozen record, validated when made; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_decoded(cls, value: Any) -> Any:
        """Refuse text of bytes that the locale cannot read, which pydantic calls neither text nor a path."""
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and any("\ud800" <= letter <= "\udfff" for letter in text):
                raise ValueError("expected text that the locale can read (with LC_ALL=C.UTF-8 it reads all)")
        return value

    @field_validator("*")
    @classmethod
    def _is_a_possible_name(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse text that no system accepts as a path, before any file is looked for; text of a form is no path."""
        has_form = any(getattr(each, "pattern", None) for each in cls.model_fields[str(info.field_name)].metadata)
        for text in map(str, value if isinstance(value, tuple) else (value,)):
            longest = 0 if has_form else max(len(os.fsencode(part)) for part in text.split("/"))
            if "\0" in text or len(text) > MAX_TEXT or longest > MAX_PART:
                raise ValueError(f"expected text without zero bytes, of at most {MAX_PART} bytes between slashes")
        return value


S = TypeVar("S", bound=Settings)


def fields_of(kind: type[Settings]) -> dict[str, FieldInfo]:
    """Return the fields of a class in the order of the help: its own first, then the inherited ones."""
    names = [name for base in kind.__mro__ for name in vars(base).get("__annotations__", {})]
    return {name: kind.model_fields[name] for name in dict.fromkeys(names) if name in kind.model_fields}


def with_defaults(**values: object) -> Callable[[type[S]], type[S]]:
    """Give fields of a class of settings other defaults, inherited fields too; those of its parents stay."""

    def change(kind: type[S]) -> type[S]:
        for name, value in values.items():
            kind.model_fields[name].default = value  # each class has fields of its own
        kind.model_rebuild(force=True)
        return kind

    return change


def make(kind: type[S], values: dict[str, Any]) -> S:
    """Make settings from text or typed values; raises `SettingsError` with one line for the first fault."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        field = kind.model_fields.get(str(fault["loc"][0])) if fault["loc"] else None
        examples = (field.examples if field else None) or ()
        raise SettingsError(f"{describe_fault(fault, examples)} See --help.") from error


def value_type(info: FieldInfo) -> Any:
    """Return the type of a setting's value; of `float | None`, which is a number or `auto`, the number's."""
    own = [each for each in get_args(info.annotation) if each is not NoneType]
    return own[0] if len(own) < len(get_args(info.annotation)) else info.annotation


def is_default(kind: type[Settings], name: str, value: object) -> bool:
    """Whether a value, as text or typed, is the default of a setting; a value that is impossible is not."""
    field = kind.model_fields.get(name)
    try:
        kind_of: Any = field.annotation if field else None
        return field is not None and bool(TypeAdapter(kind_of).validate_python(value) == field.default)
    except ValidationError:
        return False


def bound_text(value: float) -> str:
    """Write a bound of a setting: whole numbers without a fraction."""
    return f"{int(value):,}" if value == int(value) else f"{value:g}".replace("e-0", "e-")


def describe_fault(fault: Mapping[str, Any], examples: Sequence[str] = ()) -> str:
    """Describe an error of pydantic: which setting, what was expected, what was found.

    `examples` of the setting stand in place of a pattern that its text must match.
    """
    where, context = ".".join(map(str, fault["loc"])), fault.get("ctx", {})
    if fault["type"] == "value_error":
        message = str(context["error"])
        return f"{where}: {message}, found {_shown(fault['input'])}." if where else f"{message}."
    if fault["type"] == "missing":
        return f"{where}: expected a value, found none. Give it by --{where.replace('_', '-')}."
    if fault["type"] == "extra_forbidden":
        return f"{where}: expected the name of a setting, found '{where}'."
    is_name = context.get("pattern") == f"^{NAME_PATTERN}$"
    expected = EXPECTED.get("name" if is_name else fault["type"])
    if fault["type"] == "string_pattern_mismatch" and examples:
        expected = f"text like {', '.join(map(repr, examples[:-1]))} or {examples[-1]!r}"
    bounds = {key: bound_text(value) if isinstance(value, int | float) else value for key, value in context.items()}
    text = expected.format(**bounds) if expected else fault["msg"]
    return f"{where}{': ' if where else ''}expected {text}, found {_shown(fault['input'])}."


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
