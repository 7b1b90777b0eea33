"""Compare two policies on paired episodes until it is decided, or methods by the results that another system made."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config import AUTO
from pipeline.env.score_table import PRIMARY, SCORES
from pipeline.env.scores import Columns
from pipeline.errors import SettingsError
from pipeline.evaluation.protocol import CONDITIONS
from pipeline.report.contest import Contest, Watch, judge
from pipeline.report.statistics import Floats
from pipeline.stages.contenders import Contender, open_contender, play_blocks
from pipeline.stages.recorded import EVAL_INFO, read_eval_infos
from pipeline.stages.settings import CompareSettings

CONDITION_NAMES = tuple(f"{condition.action_noise:g}, {condition.replan}" for condition in CONDITIONS)
PURPOSE = "comparison"  # of episodes that are drawn for it alone
SUCCESS = "success"
BOUNDED = tuple(name for name, score in SCORES.items() if score.primary or score.binary)
"""The scores that lie in [0, 1], where more is better."""


@dataclass(frozen=True)
class Compared:
    """Two policies, A and B, and how they were judged."""

    names: tuple[str, str]
    score: str
    label: str  # of the score
    conditions: tuple[str, ...]
    contest: Contest


def compare(settings: CompareSettings, watch: Watch) -> Compared:
    """Compare two policies, or what lerobot recorded of two; raises `UserError` kinds before any episode."""
    a, b = settings.policy
    recorded = [place.endswith(EVAL_INFO) for place in settings.policy]
    if any(recorded):
        if not all(recorded) or settings.score not in (AUTO, SUCCESS):
            raise SettingsError(
                f"policy: expected two {EVAL_INFO} files, compared by success, found '{a}' and '{b}', by "
                f"{settings.score}. See --help."
            )
        conditions, first, second = read_eval_infos(Path(a), Path(b))
        contest = judge([(first, second)], settings.margin, True, watch)
        return Compared((a, b), SUCCESS, "success of recorded episodes", conditions, contest)
    score = bounded_score(settings.score)
    contenders = [open_contender(place, settings.tokenizer) for place in settings.policy]
    contest = meet(contenders, score, settings.margin, blocks_of(settings.max_episodes), settings.seed, PURPOSE, watch)
    names = (f"{a}, {contenders[0].name}", f"{b}, {contenders[1].name}")
    return Compared(names, score, str(SCORES[score]), CONDITION_NAMES, contest)


def bounded_score(name: str) -> str:
    """The score that two policies are compared by; raises `SettingsError` for one that does not lie in [0, 1]."""
    score = PRIMARY if name == AUTO else name
    if score not in BOUNDED:
        raise SettingsError(
            f"score: expected one of {', '.join(BOUNDED)}, which lie in [0, 1], found '{name}'. See --help."
        )
    return score


def blocks_of(episodes: int) -> int:
    """How many blocks of one episode in every condition there are in so many episodes."""
    return episodes // len(CONDITIONS)


def meet(
    contenders: Sequence[Contender], score: str, margin: float, blocks: int, seed: int, purpose: str, watch: Watch
) -> Contest:
    """Let A and B play until it is decided, at most so many blocks; raises `RunError` if one of them fails."""

    def pair(columns: list[Columns]) -> tuple[Floats, Floats]:
        a, b = (each[score].astype(np.float64) for each in columns)
        return a, b

    return judge(map(pair, play_blocks(contenders, blocks, seed, purpose)), margin, SCORES[score].binary, watch)
