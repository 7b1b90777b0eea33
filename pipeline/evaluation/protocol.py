"""The evaluation protocol: conditions, and episodes per condition. Plain values, without the simulator."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Condition:
    """A condition: uniform noise of +-`action_noise` on every action, and a plan every `replan` steps."""

    action_noise: float
    replan: int

    def __str__(self) -> str:
        return f"noise{self.action_noise:g}_replan{self.replan}"


CONDITIONS = tuple(Condition(noise, replan) for noise in (0.01, 0.03, 0.05) for replan in (10, 13, 15))

LONGEST_REPLAN = max(condition.replan for condition in CONDITIONS)

VERSION = 2
"""Of the episodes that a seed draws and of the scores' definitions: results of two versions do not compare.

1: starts of their own in each condition; an episode that was calm and then fell counted as converged.
"""


@dataclass(frozen=True)
class Protocol:
    """The episodes that all models of a comparison meet."""

    episodes: int  # per condition
    seed: int
    version: int = VERSION

    def __str__(self) -> str:
        earlier = "" if self.version == VERSION else f", version {self.version} of the episodes"
        return f"{self.episodes} episodes per condition, seed {self.seed}{earlier}"
