"""What a verdict rests on. A study fixes it before its first evaluation and keeps it in the tags of its run."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from pipeline.names import EARLIER

PREFIX = "design."
NO_LOOKS = "none"
MARGIN = 0.01  # of a primary score in [0, 1]


@dataclass(frozen=True)
class Design:
    """The terms of a verdict."""

    primary: str  # the score that decides
    margin: float  # differences of the primary score below it do not matter
    conditions: str
    episodes: int  # per condition
    seed: int  # of the episodes
    looks: str = NO_LOOKS  # numbers of models per group at which a study may stop: "8,12,16,20"

    @property
    def planned(self) -> tuple[int, ...]:
        """The numbers of models at which one looks; none where all models are judged once."""
        return () if self.looks == NO_LOOKS else tuple(int(look) for look in self.looks.split(","))

    def __str__(self) -> str:
        looks = "" if self.looks == NO_LOOKS else f", looks at {self.looks} models per group"
        return f"{self.primary} within {self.margin:g}, {self.episodes} episodes per condition, seed {self.seed}{looks}"

    def tags(self) -> dict[str, str]:
        """The tags of the study's run."""
        return {PREFIX + name: str(value) for name, value in asdict(self).items()}


def earlier_of(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """The designs that a study's run had before, each a `design` and its `verdict` in words, the first one first.

    What an early version wrote may be longer than the store's tags, which cut it.
    """
    try:
        found: list[dict[str, str]] = json.loads(tags.get(EARLIER, "[]"))
    except ValueError:
        return [{"design": "several, whose record was cut by the store", "verdict": "not known"}]
    return found


def design_of(tags: Mapping[str, str]) -> Design | None:
    """The design that a study's run has in its tags; None if it has none."""
    found = {field.name: tags[PREFIX + field.name] for field in fields(Design) if PREFIX + field.name in tags}
    if len(found) < len(fields(Design)):
        return None
    return Design(
        found["primary"],
        float(found["margin"]),
        found["conditions"],
        int(found["episodes"]),
        int(found["seed"]),
        found["looks"],
    )
