"""The numbers of a model of any task, beside the scores that its task declares."""

from collections.abc import Mapping

from pipeline.names import (
    BEST_TEST_LOSS,
    BEST_VAL_LOSS,
    CHUNK_MAE,
    CHUNK_MSE,
    PARAMETERS,
    SAMPLES_PER_SECOND,
    TRAIN_SECONDS,
)
from pipeline.tasks.score import SUCCESS, Score

COSTS = {
    BEST_VAL_LOSS: Score("val loss", "val loss", "", 5, -1),
    BEST_TEST_LOSS: Score("test loss", "test loss", "", 5, -1),
    CHUNK_MAE: Score("plan MAE", "plan against expert, MAE", "action units", 4, -1),
    CHUNK_MSE: Score("plan MSE", "plan against expert, MSE", "action units squared", 5, -1),
    TRAIN_SECONDS: Score("training, s", "training", "s", 1, -1),
    SAMPLES_PER_SECOND: Score("samples/s", "training", "samples/s", 0, +1),
    PARAMETERS: Score("parameters", "parameters", "", 0, 0),
}
"""Numbers of a model without conditions: losses, errors against the expert's chunks on the test split, cost."""

LOSSES = (BEST_VAL_LOSS, BEST_TEST_LOSS)


def went_well(scores: Mapping[str, float]) -> bool:
    """Tell from the scores of an episode whether it succeeded; in a task without `success` one that ended did not."""
    return bool(scores.get(SUCCESS, False))
