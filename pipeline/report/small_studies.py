"""What smaller studies would have said: verdicts on two groups from parts of their models and episodes.

A part is a study as somebody might have made it: some of the models of each group, on consecutive starts, judged as the
report judges two groups. Parts of one study share models and starts, so they agree with it, and with one another, more
than new studies would.

Shapes: n and m models of the two groups, S starts; outcomes `(n, S)` and `(m, S)` are means over the conditions.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.statistics import (
    Estimate,
    Floats,
    Interval,
    Word,
    difference_estimate,
    model_means,
    verdict,
)

MODELS, EPISODES = (1, 3, 5, 7, 10), (100, 300, 1000)  # the sizes that are looked at, up to those of the study
DRAWS = 200  # random choices of models, for every stretch of starts


@dataclass(frozen=True)
class Part:
    """What a part of a study says of its two groups."""

    models: int  # of each group
    starts: range
    difference: float  # first minus second
    interval: Interval | None  # 95%, over models and episodes
    word: Word
    word_alone: Word  # by the interval over models alone, as if all there is were these episodes


@dataclass(frozen=True)
class Size:
    """What the parts of one size say, as shares of them."""

    models: int
    episodes: int  # per condition
    parts: int
    words: dict[Word, float]
    contradicting: float  # decided, and by another word than the whole study, if that has decided
    contradicting_alone: float  # the same by the intervals over models alone
    reversed: float  # with the other group's mean ahead
    half_width: float | None  # mean of the intervals'; None where none can be given


@dataclass(frozen=True)
class Pair:
    """Two groups of a study, and by what they are judged."""

    names: tuple[str, str]
    first: Floats  # (n, S)
    second: Floats  # (m, S)
    margin: float
    better: int  # -1 where less is better

    @property
    def models(self) -> int:
        """The number of models that both groups have."""
        return min(len(self.first), len(self.second))

    @property
    def starts(self) -> int:
        """The number of episodes per condition."""
        return int(self.first.shape[1])

    @property
    def whole(self) -> Part:
        """What the study says of the two with all it has, judged as if they were its only groups."""
        return judge_part(self, range(len(self.first)), range(len(self.second)), range(self.starts))


def judge_part(pair: Pair, first: Sequence[int], second: Sequence[int], starts: range) -> Part:
    """Judge these models of each group on these starts."""
    a, b = (y[list(chosen), starts.start : starts.stop] for y, chosen in ((pair.first, first), (pair.second, second)))
    estimate, alone = difference_estimate(a, b), difference_estimate(model_means(a), model_means(b))

    def word(found: Estimate | None) -> Word:
        return verdict(found, pair.margin, pair.better)

    interval = estimate.interval() if estimate else None
    value = float(a.mean() - b.mean())
    return Part(min(len(first), len(second)), starts, value, interval, word(estimate), word(alone))


def stretches(starts: int, episodes: int) -> list[range]:
    """Cut so many starts into as many stretches of this length as there are: each is another draw of episodes."""
    return [range(first, first + episodes) for first in range(0, starts - episodes + 1, episodes)]


def draw_parts(pair: Pair, models: int, episodes: int, draws: int, generator: np.random.Generator) -> list[Part]:
    """Judge random choices of so many models, each on every stretch of so many starts.

    All models are one choice, if both groups have no more. The order is that of the choices, and of the stretches
    within each.
    """
    sizes = len(pair.first), len(pair.second)
    if sizes == (models, models):
        draws = 1
    parts = []
    for _ in range(draws):
        for starts in stretches(pair.starts, episodes):
            first, second = (np.sort(generator.permutation(size)[:models]).tolist() for size in sizes)
            parts.append(judge_part(pair, first, second, starts))
    return parts


def sizes_of(pair: Pair) -> list[tuple[int, int]]:
    """The sizes of parts, models and episodes, up to the whole study's."""
    models = sorted({*(count for count in MODELS if count < pair.models), pair.models})
    episodes = sorted({*(count for count in EPISODES if count < pair.starts), pair.starts})
    return [(n, count) for n in models for count in episodes]


def contradicts(word: Word, whole: Word) -> bool:
    """Whether both verdicts decide, and by another word. Two words can be true of one difference, below the margin."""
    return "undecided" not in (word, whole) and word != whole


def summarise_parts(parts: Sequence[Part], whole: Part) -> Size:
    """Count what parts of one size, at least one, say beside the whole study."""
    counted = Counter(part.word for part in parts)
    widths = [part.interval.high - part.interval.low for part in parts if part.interval]
    return Size(
        models=parts[0].models,
        episodes=len(parts[0].starts),
        parts=len(parts),
        words={word: count / len(parts) for word, count in counted.items()},
        contradicting=float(np.mean([contradicts(part.word, whole.word) for part in parts])),
        contradicting_alone=float(np.mean([contradicts(part.word_alone, whole.word) for part in parts])),
        reversed=float(np.mean([part.difference * whole.difference < 0 for part in parts])),
        half_width=float(np.mean(widths)) / 2 if widths else None,
    )
