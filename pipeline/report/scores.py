"""The scores: names, formats, and which direction is better."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """The name and format of a number."""

    short: str  # heading of a column
    label: str
    digits: int
    better: int  # +1: more is better; -1: less is; 0: neither

    def text(self, value: float) -> str:
        """Return the value as text."""
        return f"{value:.{self.digits}f}"


SCORES = {
    "success": Score("success", "success, share of episodes without a fall", 3, +1),
    "converge": Score("converge", "converge, share of all episodes", 3, +1),
    "converge_of_successful": Score("conv. of succ.", "converge, share of successful episodes", 3, +1),
    "converge_step": Score("conv. step", "converge step, of successful and converged episodes", 1, -1),
    "velocity_std": Score("vel. std", "velocity std of an episode, m/s", 3, -1),
    "angle": Score("|angle|", "mean |angle|, rad", 4, -1),
    "action_change": Score("act. change", "mean |action change| per step, action units", 4, -1),
    "return": Score("return", "return, steps upright of 100", 2, +1),
    "tokens_per_plan": Score("tokens", "tokens per plan", 2, 0),
    "undecodable": Score("undecod.", "undecodable plans, share", 4, -1),
}
"""The scores of `evaluation.mean_scores`, by name; a test compares the two."""

COSTS = {
    "best_val_loss": Score("val loss", "val loss", 5, -1),
    "test_loss_at_best_val": Score("test loss", "test loss", 5, -1),
    "chunk_mae": Score("plan MAE", "plan against expert, MAE, action units", 4, -1),
    "chunk_mse": Score("plan MSE", "plan against expert, MSE, action units squared", 5, -1),
    "train_seconds": Score("training, s", "training, s", 1, -1),
    "samples_per_second": Score("samples/s", "training, samples/s", 0, +1),
    "parameters": Score("parameters", "parameters", 0, 0),
}
"""Numbers of a model without conditions: losses, errors against the expert's chunks on the test split, cost."""

LOSSES = ("best_val_loss", "test_loss_at_best_val")
