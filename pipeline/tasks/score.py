"""A score: its name, unit, format, and which direction is better. A task declares its scores in a table of these."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SUCCESS = "success"
"""A task's score of this name, if it has one, is 1 of an episode that went well, else 0."""


@dataclass(frozen=True)
class Score:
    """The name and format of a number that every episode has."""

    short: str  # heading of a column
    label: str
    unit: str  # empty: none
    digits: int
    better: int  # +1: more is better; -1: less is; 0: neither, it only describes
    binary: bool = False  # 0 or 1 of an episode, so that its mean is a share of episodes
    primary: bool = False  # the one by which models are compared; it lies in [0, 1]
    event: str = ""  # of the step at which something came, the number of steps where it never did: what, "converged"

    def __str__(self) -> str:
        return f"{self.label}, {self.unit}" if self.unit else self.label

    def text(self, value: float) -> str:
        """Return the value as text."""
        return f"{value:.{self.digits}f}"


Scores = Mapping[str, Score]
"""The scores of a task by name, in the order in which they are shown."""

OF_WAYS: Scores = {
    "ways": Score("ways", "entropy over the ways taken, as a share of the demonstrators'", "", 3, 0),
    "switches": Score("switches", "changes of the planned way between two plans of an episode", "", 3, -1),
}
"""Beside a task's own scores, where there are several good ways. `ways` has one value per condition and model."""

OF_PLANS: Scores = {
    "tokens_per_plan": Score("tokens", "tokens per plan", "", 2, 0),
    "undecodable": Score("undecod.", "undecodable plans of an episode, share", "", 4, 0),
    "no_plan": Score("no plan", "given up for want of a plan, share of episodes", "", 3, 0),
}
"""Beside a task's own scores: for methods with tokens, and for policies of others."""

OF_HELD_OUT: Scores = {
    "agreement": Score("agreement", "agreement of plans with held-out actions", "", 3, +1, primary=True),
    "plan_error": Score("error", "mean |error| of plans", "standard deviations", 3, -1),
    "reconstruction": Score(
        "tokenizer", "of it the tokenizer's: mean |error| of rebuilt chunks", "standard deviations", 3, 0
    ),
}
"""Of a task without a simulator, of every held-out episode: see `evaluation/held_out.py`."""

PLANNED, REBUILT = "plan_mae", "tokenizer_mae"  # metrics of each action of such a task
NOT_IN_NAMES = re.compile(r"[^\w./ :-]")  # characters that MLflow refuses in the name of a metric


def error_metrics(what: str, channels: Sequence[str]) -> list[str]:
    """Return the names of the metrics `what` that hold the mean |error| of each channel, in its own unit."""
    return [f"{what}/{number} {NOT_IN_NAMES.sub('_', name)}" for number, name in enumerate(channels)]


def primary_of(scores: Scores) -> str:
    """Return the name of the primary score."""
    return next(name for name, score in scores.items() if score.primary)


def shares_of(scores: Scores) -> tuple[str, ...]:
    """Return the names of the scores that lie in [0, 1], where more is better: the primary and the binary ones."""
    return tuple(name for name, score in scores.items() if score.primary or score.binary)


def action_change(actions: Array, limit: float, running: NDArray[np.bool_]) -> Array:
    """Return the mean |change| between the steps of `actions (B, T, A)` that are `running (B, T)`: `(B,)`."""
    change = np.abs(np.diff(actions.clip(-limit, limit), axis=1)).mean(-1)
    mean: Array = np.where(running[:, 1:], change, 0).sum(1) / np.maximum(1, running[:, 1:].sum(1))
    return mean
