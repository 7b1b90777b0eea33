"""What a comparison will need: models and episodes for a half-width, from the variance components of both methods."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from pipeline.report.statistics import ALPHA, Components, Floats

MODELS = (6, 8, 10, 12, 16, 20, 30, 40, 60, 100)  # per method; what is offered
EPISODES = (100, 1_000_000)  # the fewest and the most that are offered
DECIDES = 0.7  # 1.96 / (1.96 + 0.84): an interval so much narrower than the difference leaves zero out in 4 of 5 cases


@dataclass(frozen=True)
class Need:
    """Models of each method, and episodes (starts, for a mean over conditions) of each model."""

    models: int
    episodes: int


def shared_variance(first: Floats, second: Floats) -> float:
    """Estimate the variance of what episodes do to both methods alike, from `(n, E)` and `(m, E)` on the same ones."""
    return max(0.0, float(np.cov(first.mean(0), second.mean(0))[0, 1]))


def expected_half_width(
    first: Components, second: Components, models: int, episodes: int, shared: float = 0.0, alpha: float = ALPHA
) -> float:
    """Return the half-width that the interval of a difference will have, of two methods with so many models each.

    `shared` is their `shared_variance`; 0 if it is not known, which asks for too many episodes rather than too few.
    """
    own = max(0.0, first.episodes + second.episodes - 2 * shared)
    parts = [(each.models + each.rest / episodes) / models for each in (first, second)]
    parts.append((own + (first.rest + second.rest) / models) / episodes)
    variance = sum(parts)
    if variance == 0:
        return 0.0
    degrees = (models - 1, models - 1, episodes - 1)
    df = variance**2 / sum(part**2 / each for part, each in zip(parts, degrees, strict=True))
    return -float(special.stdtrit(df, alpha / 2)) * float(np.sqrt(variance))


def needed(
    first: Components, second: Components, half_width: float, shared: float = 0.0, alpha: float = ALPHA
) -> list[Need]:
    """Return what gives an interval of 1 - alpha with at most this half-width: the fewest episodes by number of models.

    More models are listed only where they save episodes. Empty if no number that is offered is enough.
    """
    found: list[Need] = []
    for models in MODELS:
        low, high = EPISODES
        if expected_half_width(first, second, models, high, shared, alpha) > half_width:
            continue
        while low < high:
            middle = (low + high) // 2
            enough = expected_half_width(first, second, models, middle, shared, alpha) <= half_width
            low, high = (low, middle) if enough else (middle + 1, high)
        if not found or high < found[-1].episodes:
            found.append(Need(models, high))
    return found


def deciding_half_width(value: float, margin: float) -> float:
    """Return the half-width that would most likely decide, if the true difference is `value`.

    It would be shown, or shown to be within +-margin, in four of five repetitions.
    """
    return DECIDES * max(abs(value), margin - abs(value))
