"""Which models the held-out episodes of a task without a simulator can judge, and how many there are."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.data.pairs import ActionPairs
from pipeline.errors import CheckpointError, SettingsError
from pipeline.evaluation.expert import ChunkErrors
from pipeline.evaluation.held_out import count_held_out
from pipeline.names import PAIRS_SHA256
from pipeline.policies.policy import Policy
from pipeline.tasks.score import PLANNED, REBUILT, error_metrics
from pipeline.tasks.task import Channel, Task
from pipeline.tracking.query import StoredRun


def most_episodes(task: Task, path: Path, pairs: ActionPairs | None) -> int | None:
    """Return how many episodes a condition can have: without a simulator those that are held out of a file's `pairs`.

    With a simulator it is None: any number. Raises `DataError`.
    """
    if task.world is not None:
        return None
    assert pairs is not None, "plans are judged by what they demonstrate"
    return count_held_out(path, pairs)


def within(most: int | None, asked: int) -> int:
    """Return how many episodes a condition has of so many that are asked for."""
    return asked if most is None else min(asked, most)


def is_trained_on(policy: Policy, digest: str) -> bool:
    """Tell whether the test split of pairs with this digest is valid for a model: it was trained on the others.

    A model without provenance may have been.
    """
    return not policy.provenance or policy.provenance.get(PAIRS_SHA256) == digest


def check_held_out(task: Task, where: str, policy: Policy, pairs: Path, digest: str) -> None:
    """Raise `CheckpointError` unless the test split of `pairs`, with this digest, can judge a model."""
    if not is_trained_on(policy, digest):
        raise CheckpointError(
            f"{where}: expected a model that was trained on {pairs}, whose test split judges it, found one of other "
            "pairs: it may know these episodes. Name its own by --pairs, or train it again."
        )
    if policy.horizon != task.horizon:
        raise CheckpointError(
            f"{where}: expected plans of {task.horizon} actions, as {pairs} has, found {policy.horizon}."
        )


def require_pairs(run: StoredRun, pairs: Path, digest: str) -> None:
    """Raise `SettingsError` if a run's model was trained on other pairs than those with this digest."""
    trained = run.tags.get(PAIRS_SHA256)
    if trained not in (None, digest):
        raise SettingsError(
            f"run: expected a model that was trained on {pairs}, sha256 {digest[:12]}, whose test split judges it, "
            f"found that '{run.name}' ({run.run_id}) was trained on {trained[:12]}. Name its own by --pairs, or train "
            "it again."
        )


def errors_by_dimension(chunks: ChunkErrors, action: Sequence[Channel]) -> dict[str, float]:
    """Return the mean |error| of plans, and of the tokenizer alone, of each dimension: metrics by name."""
    names = [channel.name for channel in action]
    found = {PLANNED: chunks.mae_by, REBUILT: chunks.rebuilt_mae_by}
    return {
        name: float(value)
        for what, errors in found.items()
        if errors is not None
        for name, value in zip(error_metrics(what, names), errors.mean(0), strict=True)
    }
