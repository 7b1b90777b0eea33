"""Opening a model file, exported or not. Torch is imported only for files that need it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.policies.exported import ExportedPolicy
    from pipeline.policies.policy import Policy


def open_policy(
    path: str | Path, tokenizer: str | Path | None = None, act: Mapping[str, Any] | None = None
) -> "Policy | ExportedPolicy":
    """Open an `.onnx` file of `python -m pipeline export`, or a `.pth`; see `pipeline.load_policy`."""
    if Path(path).suffix == ".onnx":
        if act:
            raise SettingsError(
                f"act: {path} is an exported file, which acts as it was exported. Name the model's .pth."
            )
        from pipeline.policies.exported import load_exported

        return load_exported(path)
    from pipeline.policies.load import load_policy

    return load_policy(path, tokenizer, act)
