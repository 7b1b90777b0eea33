"""The error for a missing package. Imported before all other modules, also by Pythons too old for those."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
OLDEST = (3, 11)


@contextmanager
def packages_needed() -> Iterator[None]:
    """In this context, a missing package ends the process: one line on stderr, exit code 2."""
    if sys.version_info < OLDEST:
        _end(_sentence(f"expected Python {OLDEST[0]}.{OLDEST[1]} or newer"))
    try:
        yield
    except ModuleNotFoundError as error:
        if (sentence := missing_package(error)) is None:
            raise
        _end(sentence)


def missing_package(error: ModuleNotFoundError) -> str | None:
    """Say which Python lacks which package, and what to do; None if the module is ours."""
    if error.name is None or error.name.partition(".")[0] in ("pipeline", "train"):
        return None
    return _sentence(f"the package that provides '{error.name}' is not installed")


def _end(sentence: str) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)


def _sentence(why: str) -> str:
    return f"{sys.executable} (Python {sys.version.split()[0]}): {why}. {_advice()}"


def _advice() -> str:
    here = shlex.quote(min(os.path.relpath(ROOT), str(ROOT), key=len))
    if not (ENVIRONMENT / "bin" / "python").exists():
        return f"Make the project's environment, `make -C {here} setup`, and activate it."
    if Path(sys.prefix).resolve() == ENVIRONMENT:
        return f"The project's environment is incomplete: make it again, `make -C {here} clean setup`."
    return f"This is not the project's environment: run `source {here}/.venv/bin/activate` first."
