"""What a comparison will need: models and episodes for a half-width, from the variance components of both methods."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from pipeline.report.statistics import ALPHA, FEW_MODELS, Components, Estimate, Floats, components

MODELS = (6, 8, 10, 12, 16, 20, 30, 40, 60, 100)  # per method; what is offered
EPISODES = (100, 1_000_000)  # the fewest and the most that are offered
POWER = 0.8  # "would probably decide": in four of five repetitions


@dataclass(frozen=True)
class Need:
    """Models of each method, and episodes (starts, for a mean over conditions) of each model."""

    models: int
    episodes: int


@dataclass(frozen=True)
class Route:
    """A half-width that is small enough for something, of the interval of confidence 1 - `level`."""

    half_width: float
    level: float = ALPHA


@dataclass(frozen=True)
class Spread:
    """The variances behind a difference of two groups."""

    groups: tuple[Components, ...]  # of both groups; of groups with the same weights, those of the differences
    shared: float = 0.0  # `shared_variance` of two; 0 if it is not known, which asks for too many episodes

    def half_width(self, models: int, episodes: int, level: float = ALPHA) -> float:
        """Return the half-width that the interval of confidence 1 - level will have, with so many models a group."""
        own = max(0.0, sum(each.episodes for each in self.groups) - 2 * self.shared)
        parts = [(each.models + each.rest / episodes) / models for each in self.groups]
        parts.append((own + sum(each.rest for each in self.groups) / models) / episodes)
        variance = sum(parts)
        if variance == 0:
            return 0.0
        degrees = (*(models - 1 for _ in self.groups), episodes - 1)
        df = variance**2 / sum(part**2 / each for part, each in zip(parts, degrees, strict=True))
        each_own = tuple(zip(parts, degrees, strict=True)) if models < FEW_MODELS else ()
        return Estimate(0.0, float(np.sqrt(variance)), df, each_own).half_width(level)


def spread_of(first: Floats, second: Floats, paired: bool = False) -> Spread | None:
    """Estimate the variances from `(n, E)` and `(m, E)` on the same episodes; None of one model or episode.

    Of `paired` groups number i of both is the same model.
    """
    if paired:
        differences = components(first - second)
        return None if differences is None else Spread((differences,))
    ours, others = components(first), components(second)
    return None if ours is None or others is None else Spread((ours, others), shared_variance(first, second))


def shared_variance(first: Floats, second: Floats) -> float:
    """Estimate the variance of what episodes do to both methods alike, from `(n, E)` and `(m, E)` on the same ones."""
    return max(0.0, float(np.cov(first.mean(0), second.mean(0))[0, 1]))


def needed(spread: Spread, routes: Sequence[Route]) -> list[Need]:
    """Return what opens one of the routes: the fewest episodes by number of models.

    More models are listed only where they save episodes. Empty if no number that is offered is enough.
    """
    found: list[Need] = []
    for models in MODELS:
        counts = [count for route in routes if (count := _fewest_episodes(spread, models, route)) is not None]
        if counts and (not found or min(counts) < found[-1].episodes):
            found.append(Need(models, min(counts)))
    return found


def _fewest_episodes(spread: Spread, models: int, route: Route) -> int | None:
    low, high = EPISODES
    if spread.half_width(models, high, route.level) > route.half_width:
        return None
    while low < high:
        middle = (low + high) // 2
        enough = spread.half_width(models, middle, route.level) <= route.half_width
        low, high = (low, middle) if enough else (middle + 1, high)
    return high


def routes_of(value: float, margin: float, level: float = ALPHA, inner: float = ALPHA) -> tuple[Route, Route]:
    """Return the two ways to a decision, each with a chance of POWER if the true difference is `value`.

    The first: it is shown, by the interval of confidence 1 - level. The second: it is shown to be within the margin, by
    that of confidence 1 - 2 inner; there is no such way if it is not, and the half-width is 0. By the normal
    distribution, as of many models.
    """
    z, power = -special.ndtri(level / 2), special.ndtri(POWER)
    shown = Route(float(abs(value) * z / (z + power)), level)
    room, other = margin - abs(value), margin + abs(value)
    if room <= 0:
        return shown, Route(0.0, 2 * inner)
    ends = -special.ndtri(inner)  # standard errors from the middle of the interval to its ends

    def chance(error: float) -> float:
        """How much more than POWER the chance is that both ends are within the margin."""
        return float(special.ndtr(room / error - ends) + special.ndtr(other / error - ends) - 1 - POWER)

    error = optimize.brentq(chance, room / (ends + 10), other / ends)
    return shown, Route(float(ends * error), 2 * inner)
