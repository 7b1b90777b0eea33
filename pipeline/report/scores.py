"""The numbers of a model of any task, beside the scores that its task declares."""

from collections.abc import Mapping

from pipeline.tasks.score import SUCCESS, Score

COSTS = {
    "best_val_loss": Score("val loss", "val loss", "", 5, -1),
    "test_loss_at_best_val": Score("test loss", "test loss", "", 5, -1),
    "chunk_mae": Score("plan MAE", "plan against expert, MAE", "action units", 4, -1),
    "chunk_mse": Score("plan MSE", "plan against expert, MSE", "action units squared", 5, -1),
    "train_seconds": Score("training, s", "training", "s", 1, -1),
    "samples_per_second": Score("samples/s", "training", "samples/s", 0, +1),
    "parameters": Score("parameters", "parameters", "", 0, 0),
}
"""Numbers of a model without conditions: losses, errors against the expert's chunks on the test split, cost."""

LOSSES = ("best_val_loss", "test_loss_at_best_val")


def went_well(scores: Mapping[str, float]) -> bool:
    """Tell from the scores of an episode whether it succeeded; in a task without `success` one that ended did not."""
    return bool(scores.get(SUCCESS, False))
