"""Opening a model file of either kind."""

from pathlib import Path

from torch import Tensor

from pipeline.policies.checkpoint import parse_checkpoint, read_pth
from pipeline.policies.original import import_original
from pipeline.policies.policy import Policy, policy_of


def load_policy(path: str | Path, tokenizer: str | Path | None = None) -> Policy:
    """Open our `.pth`, or the original's bare state_dict (with its `tokenizer` file for pi0-FAST), ready to act.

    Raises `CheckpointError`, a `ValueError`, if the file is missing, truncated, hostile or of another kind.
    """
    path = Path(path)
    content = read_pth(path)
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return import_original(path, content, None if tokenizer is None else Path(tokenizer))
    return policy_of(parse_checkpoint(path, content))
