"""The tasks by name, and a user's own: `path/to/file.py:NAME` or `package.module:NAME`.

A reference to a user's own runs the user's code. It comes from the command line only: data files, checkpoints and runs
carry a task's name, and a name alone leads to no code outside this project.
"""

import sys
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import TYPE_CHECKING

from pipeline.errors import SettingsError, UserError, one_line

if TYPE_CHECKING:  # names alone need no NumPy: settings are read for --help
    from pipeline.tasks.task import Task

DEFAULT = "pendulum"
MOST_BYTES = 10_000_000
TASKS = {
    "pendulum": "pipeline.tasks.pendulum:PENDULUM",
    "double_pendulum": "pipeline.tasks.double_pendulum:DOUBLE_PENDULUM",
    "swing_up": "pipeline.tasks.swing_up:SWING_UP",
    "reacher": "pipeline.tasks.reacher:REACHER",
    "avoiding": "pipeline.tasks.avoiding:AVOIDING",
}
"""Where each task's record is: a module is imported when its task is used."""


def find_task(reference: str) -> "Task":
    """Return a task by its name, or a user's own, checked; a relative path starts from the current folder.

    Raises `SettingsError` for a name that is not known, and for a user's task that cannot be used, see `check_task`.
    """
    if reference in TASKS:
        module, _, name = TASKS[reference].partition(":")
        found: Task = getattr(import_module(module), name)
        return found
    where, _, name = reference.rpartition(":")
    if not (where and name.isidentifier()):
        raise SettingsError(
            f"task: expected one of {', '.join(TASKS)}, or your own as path/to/file.py:NAME or package.module:NAME, "
            f"found '{reference}'. See --help."
        )
    return _own_task(str(Path(where).absolute()) if is_file(where) else where, name)


def files_of(reference: str) -> tuple[Path, ...]:
    """Return the files that a user's own task needs on another machine: what is in its folder, or its package.

    A file larger than `MOST_BYTES`, or one in a folder below, is not taken for a part of it.
    """
    where, _, _ = reference.rpartition(":")
    if not where:
        return ()
    if is_file(where):
        return tuple(sorted(path for path in Path(where).parent.glob("[!.]*") if _is_part(path)))
    top = Path(*where.split(".")[:1])
    found = top.rglob("[!.]*") if top.is_dir() else [top.with_suffix(".py")]
    return tuple(sorted(path for path in found if _is_part(path) and "__pycache__" not in path.parts))


def _is_part(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= MOST_BYTES


def is_file(where: str) -> bool:
    """Whether the first part of a reference names a file, not a module."""
    return where.endswith(".py")


def is_own(reference: str) -> bool:
    """Whether a reference leads to a user's own code."""
    return ":" in reference


@cache
def _own_task(where: str, name: str) -> "Task":
    from pipeline.tasks.check import check_task
    from pipeline.tasks.task import Task

    module = _import(where)
    found = getattr(module, name, None)
    if not isinstance(found, Task):
        known = [each for each, value in vars(module).items() if isinstance(value, Task)]
        what = f"{type(found).__name__}" if hasattr(module, name) else "nothing"
        raise SettingsError(
            f"task: expected a Task called '{name}' in {where}, found {what} of that name; "
            f"its tasks are {', '.join(known) or 'none'}."
        )
    check_task(found)
    return found


def _import(where: str) -> ModuleType:
    """Import a module, or a file under a module name of its own, without leaving anything beside it."""
    if is_file(where) and not Path(where).is_file():
        raise SettingsError(f"task: expected a file {where}, found none.")
    try:
        return _import_file(Path(where)) if is_file(where) else import_module(where)
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == where]
        place = f", line {lines[-1]}" if lines else ""
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        raise SettingsError(f"task: {where}{place} does not import: {kind}{one_line(error)}") from error


def _import_file(path: Path) -> ModuleType:
    module = ModuleType(f"tinypi_task_{sha256(str(path).encode()).hexdigest()[:16]}")
    module.__file__ = str(path)
    code = compile(path.read_bytes(), str(path), "exec")
    sys.modules[module.__name__] = module  # where dataclasses and others look for what a module defines
    try:
        exec(code, vars(module))
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module
