"""Opening a model file, exported or not. Torch is imported only for files that need it."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.policies.exported import ExportedPolicy
    from pipeline.policies.policy import Policy


def open_policy(path: str | Path, tokenizer: str | Path | None = None) -> "Policy | ExportedPolicy":
    """Open an `.onnx` file of `python -m pipeline export`, or a `.pth`; see `pipeline.load_policy`."""
    if Path(path).suffix == ".onnx":
        from pipeline.policies.exported import load_exported

        return load_exported(path)
    from pipeline.policies.load import load_policy

    return load_policy(path, tokenizer)
