"""A user's own code, by a reference: `path/to/file.py:NAME` or `package.module:NAME`.

A reference runs the user's code. It comes from the command line only, never from a file.
"""

import sys
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from traceback import extract_tb
from types import ModuleType

from pipeline.errors import SettingsError, UserError, one_line

MOST_BYTES = 10_000_000  # of a file that is taken for a part of somebody's code


def split_reference(reference: str) -> tuple[str, str] | None:
    """Return where to look, a module or the absolute path of a file, and the name there; None if it is no reference."""
    where, _, name = reference.rpartition(":")
    if not (where and name.isidentifier()):
        return None
    return str(Path(where).absolute()) if names_file(where) else where, name


def files_of(reference: str) -> tuple[Path, ...]:
    """Return the files that a user's own code needs on another machine: what is in its folder, or its package.

    A file larger than `MOST_BYTES`, or one in a folder below, is not taken for a part of it.
    """
    if split_reference(reference) is None:
        return ()
    where = reference.rpartition(":")[0]
    if names_file(where):
        return tuple(sorted(path for path in Path(where).parent.glob("[!.]*") if _is_part(path)))
    top = Path(where.partition(".")[0])
    found = top.rglob("[!.]*") if top.is_dir() else [top.with_suffix(".py")]
    return tuple(sorted(path for path in found if _is_part(path) and "__pycache__" not in path.parts))


def _is_part(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= MOST_BYTES


def names_file(where: str) -> bool:
    """Whether the first part of a reference names a file, not a module."""
    return where.endswith(".py")


def import_own(setting: str, where: str) -> ModuleType:
    """Import a module, or a file under a module name of its own, without leaving anything beside it.

    Raises `SettingsError` that begins with the name of the setting.
    """
    if names_file(where) and not Path(where).is_file():
        raise SettingsError(f"{setting}: expected a file {where}, found none.")
    try:
        return _import_file(Path(where)) if names_file(where) else import_module(where)
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        raise SettingsError(
            f"{setting}: {where}{place_of(error, where)} does not import: {kind}{one_line(error)}"
        ) from error


def place_of(error: BaseException, where: str) -> str:
    """Return ", line N" if the error passed through the file `where`, the last such line."""
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == where]
    return f", line {lines[-1]}" if lines else ""


def _import_file(path: Path) -> ModuleType:
    module = ModuleType(f"tinypi_own_{sha256(str(path).encode()).hexdigest()[:16]}")
    module.__file__ = str(path)
    code = compile(path.read_bytes(), str(path), "exec")
    sys.modules[module.__name__] = module  # where dataclasses and others look for what a module defines
    try:
        exec(code, vars(module))
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module
