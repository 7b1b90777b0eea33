"""Opening any model file that needs torch."""

from pathlib import Path

from torch import Tensor

from pipeline.policies.checkpoint import parse_checkpoint, read_pth
from pipeline.policies.ensemble import FORMAT as ENSEMBLE
from pipeline.policies.ensemble import parse_ensemble
from pipeline.policies.original import import_original
from pipeline.policies.policy import Policy, policy_of


def load_policy(path: str | Path, tokenizer: str | Path | None = None) -> Policy:
    """Open our `.pth`, of a model or an averaged policy, or the original's state_dict (FAST: with `tokenizer`).

    Raises `CheckpointError`, a `ValueError`, if the file is missing, truncated, hostile or of another kind.
    """
    path = Path(path)
    content = read_pth(path)
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return import_original(path, content, None if tokenizer is None else Path(tokenizer))
    if content.get("format") == ENSEMBLE:
        return parse_ensemble(path, content)
    return policy_of(parse_checkpoint(path, content))
