"""What others have written as JSON or YAML: of limited size, and whatever is wrong with it is a `ValueError`."""

import json
from pathlib import Path
from typing import Any


def small_text(path: Path, most: int) -> str:
    """Return the text of a file; raises `ValueError` if it has more than `most` bytes or is no UTF-8, or `OSError`."""
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{size:,} bytes, of at most {most:,}")
    return path.read_text(encoding="utf-8")


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object that a text is; raises `ValueError`."""
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def yaml_values(text: str) -> Any:
    """Return the plain values that a text is as YAML; raises `ValueError`."""
    import yaml  # most that reads JSON needs none

    try:
        return yaml.safe_load(text)
    except RecursionError as error:
        raise ValueError("YAML that is nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
