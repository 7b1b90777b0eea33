"""Compare two policies on paired episodes until it is decided, or methods by the results that another system made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config import AUTO
from pipeline.errors import SettingsError
from pipeline.report.comparison_tables import where_text
from pipeline.report.contest import Contest, Watch, judge
from pipeline.report.statistics import Floats
from pipeline.stages.contenders import AS_TRAINED, Contender, open_contender, play_blocks
from pipeline.stages.eval_info import ENDING, read_eval_infos
from pipeline.stages.say import Say, silent
from pipeline.stages.settings import CompareSettings
from pipeline.tasks.registry import find_task
from pipeline.tasks.score import SUCCESS, shares_of
from pipeline.tasks.task import Columns, Task

PURPOSE = "comparison"  # of episodes that are drawn for it alone


@dataclass(frozen=True)
class Compared:
    """Two policies, A and B, and how they were judged."""

    names: tuple[str, str]
    score: str
    label: str  # of the score
    conditions: tuple[str, ...]
    contest: Contest
    faults: tuple[Mapping[str, int], Mapping[str, int]] = ({}, {})  # answers of A and B without a plan, by kind


def compare(settings: CompareSettings, watch: Watch, say: Say = silent) -> Compared:
    """Compare two policies, or what lerobot recorded of two; raises `UserError` kinds before any episode."""
    a, b = settings.policy
    recorded = [place.endswith(ENDING) for place in settings.policy]
    if any(recorded):
        if settings.act:
            raise SettingsError("act: expected policies that can act, found recorded episodes.")
        if not all(recorded) or settings.score not in (AUTO, SUCCESS):
            raise SettingsError(
                f"policy: expected two eval_info{ENDING}, compared by success, found '{a}' and '{b}', by "
                f"{settings.score}. See --help."
            )
        conditions, first, second = read_eval_infos(Path(a), Path(b))
        contest = judge([(first, second)], settings.margin, True, watch)
        return Compared((a, b), SUCCESS, "success of recorded episodes", conditions, contest)
    task = find_task(settings.task)
    if task.world is None:
        raise task.unsimulated("two policies cannot meet on new episodes")
    score = bounded_score(task, settings.score)
    contenders = [
        open_contender(task, place, settings, settings.tokenizer, say, act)
        for place, act in zip(settings.policy, (AS_TRAINED, settings.acting), strict=True)
    ]
    contest = meet(task, contenders, score, settings, watch)
    names = _place_and_name(a, contenders[0]), _place_and_name(b, contenders[1])
    faults = contenders[0].faults, contenders[1].faults
    return Compared(names, score, str(task.scores[score]), condition_names(task), contest, faults)


def _place_and_name(place: str, contender: Contender) -> str:
    return place if place == contender.name else f"{place}, {contender.name}"


def condition_names(task: Task) -> tuple[str, ...]:
    """The conditions of a task as headings: noise and replan interval."""
    return tuple(where_text((condition.action_noise, condition.replan), task) for condition in task.conditions)


def bounded_score(task: Task, name: str) -> str:
    """The score that two policies are compared by; raises `SettingsError` for one that does not lie in [0, 1]."""
    score, bounded = task.primary if name == AUTO else name, shares_of(task.scores)
    if score not in bounded:
        raise SettingsError(
            f"score: expected one of {', '.join(bounded)}, which lie in [0, 1], found '{name}'. See --help."
        )
    return score


def most_blocks(settings: CompareSettings) -> int | None:
    """How many blocks are played at most; None if what was recorded is compared. Raises `SettingsError`."""
    if any(place.endswith(ENDING) for place in settings.policy):
        return None
    return blocks_of(find_task(settings.task), settings.max_episodes)


def blocks_of(task: Task, episodes: int) -> int:
    """How many blocks of one episode in every condition there are in so many episodes.

    Raises `SettingsError` if there is none.
    """
    if episodes < len(task.conditions):
        raise SettingsError(
            f"max_episodes: expected {len(task.conditions)} or more, one in every condition of '{task.name}', found "
            f"{episodes}."
        )
    return episodes // len(task.conditions)


def meet(task: Task, contenders: Sequence[Contender], score: str, settings: CompareSettings, watch: Watch) -> Contest:
    """Let A and B play until it is decided, or all episodes are played; raises `RunError` if one of them fails."""

    def pair(columns: list[Columns]) -> tuple[Floats, Floats]:
        a, b = (each[score].astype(np.float64) for each in columns)
        return a, b

    played = play_blocks(task, contenders, blocks_of(task, settings.max_episodes), settings.seed, PURPOSE)
    return judge(map(pair, played), settings.margin, task.scores[score].binary, watch)
