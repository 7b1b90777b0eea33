"""Opening any model file that needs torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.errors import SettingsError
from pipeline.policies.checkpoint import parse_checkpoint, read_pth
from pipeline.policies.ensemble import FORMAT as ENSEMBLE
from pipeline.policies.ensemble import parse_ensemble
from pipeline.policies.original import import_original
from pipeline.policies.policy import Policy, policy_of


def load_policy(path: str | Path, tokenizer: str | Path | None = None, act: Mapping[str, Any] | None = None) -> Policy:
    """Open our `.pth`, of a model or an averaged policy, or the original's state_dict (FAST: with `tokenizer`).

    `act` chooses anew how it acts, such as `{"start_noise": 1}`; what it does not name is as in the file.
    Raises `CheckpointError`, a `ValueError`, if the file is missing, truncated, hostile or of another kind, and
    `SettingsError` if such a model cannot act so.
    """
    path, chosen = Path(path), act or {}
    content = read_pth(path)
    if content and all(isinstance(value, Tensor) for value in content.values()):
        if chosen:
            raise SettingsError(f"act: {path} holds the reference system's weights, which act as published only.")
        return import_original(path, content, None if tokenizer is None else Path(tokenizer))
    if content.get("format") == ENSEMBLE:
        return parse_ensemble(path, content, chosen)
    return policy_of(parse_checkpoint(path, content).acting_by(chosen))
