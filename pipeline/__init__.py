"""tinypi: train, evaluate and honestly compare pi0 and pi0-FAST on tasks simulated by MuJoCo."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from pipeline.policies.exported import ExportedPolicy
    from pipeline.policies.policy import Policy
    from pipeline.report.comparison import Comparison

__all__ = ["compare", "load_policy", "open_store"]
__version__ = "0.2.0"


def load_policy(
    path: str | Path, tokenizer: str | Path | None = None, act: Mapping[str, Any] | None = None
) -> Policy | ExportedPolicy:
    """Open a trained model, ready to `act(states (B, S)) -> actions (B, H, A)`.

    An `.onnx` file of `python -m pipeline export` needs no torch. Our `.pth` files need it, and so do the original's
    bare state_dicts (pi0-FAST: with the `tokenizer` file). Heavy imports are made on use, so `--help` is fast.
    `act` chooses anew how a `.pth` of ours acts, such as `{"start_noise": 1}`; what it does not name is as in the file.

    Raises `CheckpointError`, a `ValueError`, if the file is missing, damaged, hostile or of another kind, and
    `SettingsError`, a `ValueError`, if such a model cannot act so.
    """
    from pipeline.policies.open import open_policy

    return open_policy(path, tokenizer, act)


def open_store() -> MlflowClient:
    """Return MLflow's client for the tracking store: `MLFLOW_TRACKING_URI`, or `mlruns/mlflow.db` of this folder.

    Raises `StoreError`, a `ValueError`, if the store does not answer within seconds.
    """
    from pipeline.tracking.store import open_store

    return open_store()


def compare(study: str = "all", experiment: str = "all", task: str = "auto") -> Comparison:
    """Return the comparison of `python -m pipeline report` as records: groups of models, scores and differences.

    `compare("ensemble").groups[0].scores["converge"][None].mean` is the first group's mean over models and conditions.
    Raises `SettingsError`, a `ValueError`, if there is nothing to compare.
    """
    from pipeline.results.gather import gather

    return gather(open_store(), study, experiment, task).comparison
