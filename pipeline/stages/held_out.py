"""Which models the held-out episodes of a task without a simulator can judge, and how many there are."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import CheckpointError, SettingsError
from pipeline.evaluation.expert import ChunkErrors
from pipeline.evaluation.held_out import count_held_out
from pipeline.files import file_digest
from pipeline.policies.policy import Policy
from pipeline.tasks.score import PLANNED, REBUILT, error_metrics
from pipeline.tasks.task import Channel, Task
from pipeline.tracking.query import StoredRun


def episodes_of(task: Task, pairs: Path, asked: int) -> int:
    """Return how many episodes a condition has: as many as asked for; without a simulator no more than are held out.

    Raises `DataError` if the pairs are needed for it, and missing or faulty.
    """
    return asked if task.world else min(asked, count_held_out(pairs))


def is_trained_on(policy: Policy, pairs: Path) -> bool:
    """Tell whether the model was trained on `pairs`, or has no provenance: then their test split is valid for it."""
    return not policy.provenance or policy.provenance.get("pairs_sha256") == file_digest(pairs)


def check_held_out(task: Task, where: str, policy: Policy, pairs: Path) -> None:
    """Raise `CheckpointError` unless the test split of `pairs` can judge a model: it was trained on the others."""
    if not is_trained_on(policy, pairs):
        raise CheckpointError(
            f"{where}: expected a model that was trained on {pairs}, whose test split judges it, found one of other "
            "pairs: it may know these episodes. Name its own by --pairs, or train it again."
        )
    if policy.horizon != task.horizon:
        raise CheckpointError(
            f"{where}: expected plans of {task.horizon} actions, as {pairs} has, found {policy.horizon}."
        )


def require_pairs(run: StoredRun, task: Task, pairs: Path) -> None:
    """Raise `SettingsError` where there is no simulator, and a run's model was trained on other pairs."""
    trained = run.tags.get("pairs_sha256")
    if task.world is None and trained not in (None, now := file_digest(pairs)):
        raise SettingsError(
            f"run: expected a model that was trained on {pairs}, sha256 {now[:12]}, whose test split judges it, "
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
