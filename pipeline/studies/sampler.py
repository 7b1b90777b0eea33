"""What a search tries next: Optuna's samplers, asked so that an answer depends on nothing but what is named.

A suggestion is a function of the seed, of the trial's number, of the trials of the rounds before it and of the settings
that are tried beside it: a new sampler and a study in memory each time, made from what MLflow's runs tell. So there is
no second database, and a search that was killed goes on as if it had not been.

TPE: Bergstra et al. 2011, "Algorithms for hyper-parameter optimization". Importance: fANOVA, Hutter et al. 2014, "An
efficient approach for assessing hyperparameter importance". Both are Optuna's.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipeline.report.search import COMPLETE, FAILED, PRUNED, Tried
from pipeline.streams import derive
from pipeline.studies.settings import Sampler
from pipeline.studies.space import Params, Range, Space

optuna.logging.set_verbosity(optuna.logging.WARNING)

RANDOM_TRIALS = 8  # of TPE, before it has anything to go by
MEDIAN_OF = 4  # first scores at least, before any trial is given up
ENOUGH_TRIALS = 4  # for importance
WORST = 0.0  # of a primary score, for a trial that failed
OPTUNA_SEED = 2**32


def suggest(
    space: Space, sampler: Sampler, seed: int, number: int, finished: Sequence[Tried], beside: Sequence[Params]
) -> Params:
    """Return the settings of the trial `number`, `finished` being those of the rounds before its own.

    `beside` are the settings of the trials with smaller numbers in its round.
    """
    study = optuna.create_study(direction="maximize", sampler=SAMPLERS[sampler](space, seed, number))
    known = _distributions(space)
    study.add_trials([_frozen(each, known) for each in finished])
    study.add_trials([create_trial(state=TrialState.RUNNING, params=each, distributions=known) for each in beside])
    found = study.ask(known).params
    return {name: _rounded(space, name, found[name]) for name in space}


def _tpe(_space: Space, seed: int, number: int) -> BaseSampler:
    return TPESampler(
        n_startup_trials=RANDOM_TRIALS, constant_liar=True, seed=derive(seed, "search", number) % OPTUNA_SEED
    )


def _random(_space: Space, seed: int, number: int) -> BaseSampler:
    return RandomSampler(seed=derive(seed, "search", number) % OPTUNA_SEED)


def _grid(space: Space, seed: int, _number: int) -> BaseSampler:
    points = {name: list(entry.grid()) for name, entry in space.items()}
    return GridSampler(points, seed=derive(seed, "search", "grid") % OPTUNA_SEED)


SAMPLERS: dict[Sampler, Callable[[Space, int, int], BaseSampler]] = {"tpe": _tpe, "random": _random, "grid": _grid}


def is_hopeless(first: float, earlier: Sequence[float]) -> bool:
    """Whether a trial is given up after its first seed: that is worse than the median of `earlier` first seeds."""
    return len(earlier) >= MEDIAN_OF and first < median(earlier)


def importances(space: Space, tried: Sequence[Tried]) -> dict[str, float]:
    """Return the share of the score's variance that each setting explains, by fANOVA; empty for too few trials.

    A trial that was given up counts by its first seed. Trials that failed are left out.
    """
    known = _distributions(space)
    usable = [each for each in tried if each.state != FAILED]
    if len(usable) < ENOUGH_TRIALS or len({each.value for each in usable}) == 1:
        return {}
    study = optuna.create_study(direction="maximize")
    study.add_trials([create_trial(params=dict(each.params), distributions=known, value=each.value) for each in usable])
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found: Mapping[str, Any] = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(found.get(name, 0.0)) for name in space}


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    return {name: _distribution(entry) for name, entry in space.items()}


def _distribution(entry: Any) -> BaseDistribution:
    if not isinstance(entry, Range):
        return CategoricalDistribution(entry.values)
    if entry.whole:
        return IntDistribution(int(entry.low), int(entry.high), log=entry.log)
    return FloatDistribution(entry.low, entry.high, log=entry.log)


def _rounded(space: Space, name: str, value: Any) -> Any:
    entry = space[name]
    return entry.rounded(value) if isinstance(entry, Range) else value


def _frozen(each: Tried, known: dict[str, BaseDistribution]) -> FrozenTrial:
    """Return a trial as Optuna knows it: one that failed is as bad as can be, or its sampler would try it again."""
    params = dict(each.params)
    if each.state == PRUNED:
        first = {0: each.scores[0]}
        return create_trial(
            state=TrialState.PRUNED, params=params, distributions=known, value=first[0], intermediate_values=first
        )
    value = each.value if each.state == COMPLETE else WORST
    return create_trial(params=params, distributions=known, value=value)
