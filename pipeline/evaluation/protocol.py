"""The evaluation protocol: which episodes, in each of a task's conditions. Plain values, without the simulator."""

from dataclasses import dataclass

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
