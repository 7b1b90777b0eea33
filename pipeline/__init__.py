"""tinypi: train, evaluate and honestly compare pi0 and pi0-FAST on a MuJoCo inverted pendulum."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.policies.load import load_policy

__all__ = ["load_policy"]


def __getattr__(name: str) -> Any:
    """Import `load_policy` on first use, so that `--help` need not wait for torch."""
    if name == "load_policy":
        from pipeline.policies.load import load_policy

        return load_policy
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
