"""tinypi: train, evaluate and honestly compare pi0 and pi0-FAST on a MuJoCo inverted pendulum."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.policies.exported import ExportedPolicy
    from pipeline.policies.policy import Policy

__all__ = ["load_policy"]
__version__ = "0.2.0"


def load_policy(path: str | Path, tokenizer: str | Path | None = None) -> "Policy | ExportedPolicy":
    """Open a trained model, ready to `act(states (B, S)) -> actions (B, H, A)`.

    An `.onnx` file of `python -m pipeline export` opens without torch; our `.pth`, or the original's bare state_dict
    (with its `tokenizer` file for pi0-FAST), with it. Imports wait until here, so that `--help` need not.

    Raises `CheckpointError`, a `ValueError`, if the file is missing, damaged, hostile or of another kind.
    """
    if Path(path).suffix == ".onnx":
        from pipeline.policies.exported import load_exported

        return load_exported(path)
    from pipeline.policies.load import load_policy

    return load_policy(path, tokenizer)
