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
    purpose: str = ""  # a stream of its own: episodes of two purposes are others, whatever their seeds

    @property
    def stream(self) -> tuple[str, ...]:
        """The words that name the stream of the episodes' draws, beside the seed."""
        return (self.purpose,) if self.purpose else ()

    def __str__(self) -> str:
        earlier = "" if self.version == VERSION else f", version {self.version} of the episodes"
        purpose = f", of a {self.purpose}" if self.purpose else ""
        return f"{self.episodes} episodes per condition, seed {self.seed}{earlier}{purpose}"
