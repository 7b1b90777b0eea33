"""The scores of an episode: names, units, formats, and which direction is better. `env.scores` computes them.

A module of its own, so that a report does not need MuJoCo.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """The name and format of a number."""

    short: str  # heading of a column
    label: str
    unit: str  # empty: none
    digits: int
    better: int  # +1: more is better; -1: less is; 0: neither, it only describes
    binary: bool = False  # 0 or 1 of an episode, so that its mean is a share of episodes
    primary: bool = False  # the one by which models are compared; it lies in [0, 1]

    def __str__(self) -> str:
        return f"{self.label}, {self.unit}" if self.unit else self.label

    def text(self, value: float) -> str:
        """Return the value as text."""
        return f"{value:.{self.digits}f}"


SCORES = {
    "calm": Score("calm", "calm, share of the last 2 s with |angle| < 0.02 rad", "", 3, +1, primary=True),
    "success": Score("success", "success, share of episodes without a fall", "", 3, +1, binary=True),
    "converge": Score(
        "converge", "converge, share of episodes with ten steps of |angle| < 0.02 rad in a row", "", 3, +1, binary=True
    ),
    "converge_step": Score("conv. step", "converge step", "steps, 100 without convergence", 1, -1),
    "velocity_std": Score("vel. std", "velocity std of an episode", "m/s", 3, -1),
    "angle": Score("|angle|", "mean |angle|", "rad", 4, -1),
    "action_change": Score("act. change", "mean |action change| per step", "action units", 4, -1),
    "return": Score("return", "return", "steps upright of 100", 2, +1),
    "tokens_per_plan": Score("tokens", "tokens per plan", "", 2, 0),
    "undecodable": Score("undecod.", "undecodable plans of an episode, share", "", 4, 0),
}
"""Every episode has a number for each of these, whether it falls or not; a model's score is the mean over its episodes.
Only methods with tokens have the last two."""

PRIMARY = next(name for name, score in SCORES.items() if score.primary)
