"""The formats by name. Where each is: a module is imported when its format is tried."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import DataError, SettingsError

if TYPE_CHECKING:  # names alone need no NumPy: settings are read for --help
    from pipeline.data.sources.source import Format

FORMATS = {
    "lerobot": "pipeline.data.sources.lerobot:LEROBOT",
    "minari": "pipeline.data.sources.minari:MINARI",
    "robomimic": "pipeline.data.sources.robomimic:ROBOMIMIC",
    "npz": "pipeline.data.sources.npz:NPZ",
}
"""In the order in which they are tried: what recognises more stands later."""


def find_format(name: str) -> "Format":
    """Return a format by its name; raises `SettingsError`."""
    if name not in FORMATS:
        raise SettingsError(f"format: expected auto or one of {', '.join(FORMATS)}, found '{name}'.")
    module, _, record = FORMATS[name].partition(":")
    found: Format = getattr(import_module(module), record)
    return found


def recognise(path: Path) -> str:
    """Return the name of the format of `path`; raises `DataError`."""
    if not path.exists():
        raise DataError(f"{path}: expected demonstrations, found nothing there.")
    for name in FORMATS:
        if find_format(name).recognises(path):
            return name
    known = "; ".join(f"{name}: {find_format(name).about}" for name in FORMATS)
    raise DataError(f"{path}: expected one of the formats ({known}), found none of them. Say which by --format.")
