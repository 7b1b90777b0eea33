"""What a comparison will need, before anyone trains: models and episodes, from variances that are known or assumed."""

from dataclasses import dataclass
from math import comb

from pipeline.config import AUTO, NONE
from pipeline.errors import SettingsError
from pipeline.names import TRAIN_SECONDS
from pipeline.report.comparison import Comparison, Group, over_starts, same_weights
from pipeline.report.planning import EPISODES, Route, Spread, needed, spread_of
from pipeline.report.statistics import ALPHA, Components
from pipeline.report.tables import Table
from pipeline.results.gather import gather
from pipeline.results.settings import PlanSettings
from pipeline.tasks.project import DEFAULT
from pipeline.tasks.registry import find_task
from pipeline.tracking.store import open_store


@dataclass(frozen=True)
class Assumed:
    """Two methods as a plan takes them."""

    source: str
    primary: str  # the score that is planned for
    spread: Spread
    seconds: float | None  # to train one model of each, on one core
    pairs: int = 1  # that are judged together: each has its share of 5%
    looks: int = 1  # at each pair, likewise


def make_plan(settings: PlanSettings) -> Table:
    """Return the table of what is needed; raises `SettingsError` if neither a study nor variances are there."""
    if settings.study == NONE:
        return plan_table(given(settings), settings.half_width)
    comparison = gather(open_store(), settings.study, settings.experiment, settings.task).comparison
    return plan_table(of_study(comparison, settings.study), settings.half_width)


def plan_table(assumed: Assumed, half_width: float) -> Table:
    """The models and episodes that give an interval of this half-width, a row for each choice."""
    alpha = ALPHA / assumed.pairs / assumed.looks
    found = needed(assumed.spread, [Route(half_width, alpha)])
    rows = [
        (
            str(need.models),
            f"{need.episodes:,}",
            f"{assumed.spread.half_width(need.models, need.episodes, alpha):.4f}",
            "-" if assumed.seconds is None else f"{need.models * assumed.seconds / 60:.0f}",
        )
        for need in found
    ]
    stds = " and ".join(
        f"({each.models**0.5:.4f}, {each.episodes**0.5:.4f}, {each.rest**0.5:.4f})" for each in assumed.spread.groups
    )
    note = f"From {assumed.source}: standard deviations of models, episodes and the rest {stds}."
    if not rows:
        note = f"No number of models and of episodes up to {EPISODES[1]:,} is enough. {note}"
    if assumed.pairs * assumed.looks > 1:
        judged = f"{assumed.pairs} pairs together" if assumed.pairs > 1 else "one pair"
        looks = f" at {assumed.looks} looks" if assumed.looks > 1 else ""
        note += (
            f" A study of these groups judges {judged}{looks}: the interval is of {100 * (1 - alpha):.3g}% by itself."
        )
    columns = ("models per group", "episodes per condition", "half-width", "training, core minutes")
    title = f"For a 95% interval of ±{half_width:g} of a difference in {assumed.primary}"
    return Table(title, columns, rows, note)


def given(settings: PlanSettings) -> Assumed:
    """The variances that the settings name, for both methods."""
    one = Components(settings.std_models**2, settings.std_episodes**2, settings.std_rest**2)
    primary = find_task(DEFAULT if settings.task == AUTO else settings.task).primary
    return Assumed("assumptions", primary, Spread((one, one)), None)


def of_study(comparison: Comparison, study: str) -> Assumed:
    """The variances of the first two groups of a study with at least two evaluated models each.

    All its groups of models that were evaluated are judged together.
    """
    primary = comparison.design.primary
    groups = [
        (group, y)
        for group in comparison.of_kind("model")
        if (y := over_starts(group, primary)) is not None and len(y) > 1
    ]
    if len(groups) < 2:
        raise SettingsError(
            f"study: expected two groups of at least two evaluated models in '{study}', found {len(groups)}. "
            "Name another study, or assume variances by --study none --std-models and --std-rest."
        )
    (first, a), (second, b) = groups[:2]
    if (spread := spread_of(a, b, same_weights(first.models, second.models))) is None:
        raise SettingsError(f"study: expected two episodes per condition or more in '{study}', found one.")
    judged = [group for group in comparison.of_kind("model") if over_starts(group, primary) is not None]
    source = f"{first.name} and {second.name} of study {study}"
    return Assumed(
        source=source,
        primary=primary,
        spread=spread,
        seconds=_seconds(first, second),
        pairs=comb(len(judged), 2),
        looks=max(1, len(comparison.design.planned)),
    )


def _seconds(*groups: Group) -> float | None:
    times = [group.costs[TRAIN_SECONDS].mean for group in groups if TRAIN_SECONDS in group.costs]
    return sum(times) if len(times) == len(groups) else None
