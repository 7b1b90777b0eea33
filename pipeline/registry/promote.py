"""Promotion: the alias `champion` of a registered model moves only to a model that is good, and shown to be better.

Good means: its `success`, or in a task without it its primary score, is at least one half. Better means: a higher
primary score, as `compare` judges two policies: on the same starts and noise, a start in all conditions at a time,
until it is decided. What is shown is that this model is better than that one, not that its recipe is.

The episodes are drawn for these two models alone, by a stream named after their files: they are others than those of
any evaluation, of the first check that chooses a study's best, and of other promotions. There is one decision for each
candidate and champion: it is kept in a tag of the candidate's version, and trying again is no second chance.
"""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from filelock import Timeout

from pipeline.config import AVERAGE, BEST, NONE
from pipeline.errors import RunError, SettingsError
from pipeline.files import file_digest
from pipeline.locks import file_lock
from pipeline.methods.registry import METHODS
from pipeline.names import METHOD
from pipeline.registry.register import best_of, register_runs, registered_name
from pipeline.registry.settings import PromoteSettings
from pipeline.report.contest import Contest, Watch, judge
from pipeline.report.statistics import Floats
from pipeline.report.words import interval_text
from pipeline.stages.changed import changed_data
from pipeline.stages.compare import blocks_of
from pipeline.stages.contenders import from_file, play_blocks
from pipeline.stages.models import require_finished, require_task
from pipeline.stages.say import Say
from pipeline.tasks.registry import find_task
from pipeline.tasks.score import SUCCESS
from pipeline.tasks.task import Task
from pipeline.tracking.query import StoredRun, fetch, is_average, model_artifact, search_study
from pipeline.tracking.registry import (
    CHAMPION,
    Version,
    champion_of,
    model_file,
    numbered_version,
    set_alias,
    tag_version,
    version_of_run,
)
from pipeline.tracking.store import Store, home, open_store

PURPOSE = "promotion"  # of episodes that are drawn for it alone
DECISION = "promotion"  # tag of a version: what was decided about it last; `promotion.DIGEST`: against this champion
MINIMUM_SUCCESS = 0.5  # of a champion
ALONE = 100  # starts, in all conditions, of a candidate that has no champion to meet
SAID = {
    "better": "it is better than {champion}",
    "worse": "it is worse than {champion}",
    "equivalent": "it is equivalent to {champion} within {margin:g}",
    "undecided": "it is not shown to be better than {champion}",
}


@dataclass(frozen=True)
class Decision:
    """Whether a candidate is to be champion, and why; kept as JSON in a tag of its version."""

    promoted: bool
    why: str
    episodes: int  # a condition


@dataclass(frozen=True)
class Promotion:
    """What was decided, and why."""

    promoted: bool  # or would be, in a dry run
    sentence: str
    candidate: str
    contest: Contest | None  # None where there was nobody to meet, or the decision was made before


@dataclass(frozen=True)
class Candidate:
    """The run whose model is to be champion, and its version if it is registered."""

    run: StoredRun
    name: str  # of the registered model
    version: Version | None

    def __str__(self) -> str:
        return f"{self.version or self.name + ' (not registered yet)'}, {self.run.name}"


def promote(settings: PromoteSettings, say: Say, watch: Watch) -> Promotion:
    """Decide, and move the alias unless it is a dry run; raises `UserError` kinds before any work."""
    if settings.model not in METHODS:
        raise SettingsError(f"model: expected one of {', '.join(METHODS)}, found '{settings.model}'. See --help.")
    task = find_task(settings.task)
    if task.world is None:
        raise task.unsimulated("no champion can be chosen by control. An alias can be set in MLflow")
    name = registered_name(task.name, settings.model)
    store = open_store()
    home().mkdir(parents=True, exist_ok=True)
    try:
        with file_lock(home() / f".promote-{name}.lock", blocking=False):
            return _promote(store, task, name, settings, say, watch)
    except Timeout as error:
        raise SettingsError(f"model: '{name}' is being promoted by another process. Wait for it.") from error


def _promote(store: Store, task: Task, name: str, settings: PromoteSettings, say: Say, watch: Watch) -> Promotion:
    candidate, champion = find_candidate(store, task, name, settings), champion_of(store, name)
    if champion and candidate.version == champion:
        return Promotion(False, f"Nothing to do: {champion} is the champion already.", str(candidate), None)
    for line in changed_data([candidate.run]):
        say(f"warning: {line}")
    contest = None
    with (
        model_artifact(store, candidate.run) as ours,
        model_file(store, champion) if champion else nullcontext() as theirs,
    ):
        tag = f"{DECISION}.{file_digest(theirs)[:16] if theirs else NONE}"
        known = candidate.version.tags.get(tag) if candidate.version else None
        if known:
            decision = Decision(**json.loads(known))
        else:
            decision, contest = decide(task, settings, champion, ours, theirs, watch)
    if settings.dry_run:
        sentence = f"Would {'' if decision.promoted else 'not '}be promoted: {decision.why}. Nothing was changed."
        return Promotion(decision.promoted, sentence, str(candidate), contest)
    version = candidate.version or register_runs(store, [candidate.run], say, settings.task)[0].version
    sentence = f"{'Promoted' if decision.promoted else 'Not promoted'}: {decision.why}."
    tag_version(store, version, {tag: json.dumps(asdict(decision)), DECISION: sentence})
    if known:
        sentence += f" So it was decided before, by {decision.episodes} episodes per condition: nothing was played."
    if decision.promoted:
        now = champion_of(store, name)
        if (now and now.number) != (champion and champion.number):
            raise RunError(f"{name}: its champion has changed in the meantime. Run the command again.")
        set_alias(store, CHAMPION, version)
    return Promotion(decision.promoted, sentence, str(replace(candidate, version=version)), contest)


def decide(
    task: Task, settings: PromoteSettings, champion: Version | None, ours: Path, theirs: Path | None, watch: Watch
) -> tuple[Decision, Contest | None]:
    """Let the candidate's file play, against the champion's if there is one; the contest, if there was one."""
    contenders = [from_file(task, path) for path in (ours, theirs) if path]
    blocks = blocks_of(task, settings.max_episodes)
    blocks = blocks if theirs else min(ALONE, blocks)
    primary, good = task.primary, SUCCESS if SUCCESS in task.scores else task.primary
    reached: list[Floats] = []  # by the candidate

    def pairs() -> Iterator[tuple[Floats, Floats]]:
        for columns in play_blocks(task, contenders, blocks, 0, PURPOSE):
            reached.append(columns[0][good].astype(np.float64))
            yield columns[0][primary].astype(np.float64), columns[-1][primary].astype(np.float64)

    if champion is None:
        contest, blocks = None, sum(a.shape[1] for a, _ in pairs())
    else:
        contest = judge(pairs(), settings.margin, task.scores[primary].binary, watch)
        blocks = contest.a.shape[1]
    success = float(np.concatenate(reached, axis=1).mean())
    shown = f"its {good} is {success:.3f}"
    if success < MINIMUM_SUCCESS:
        promoted, why = False, f"{shown}, and a champion needs {MINIMUM_SUCCESS:g}"
    elif contest is None:
        promoted, why = True, f"{registered_name(task.name, settings.model)} has no champion yet, and {shown}"
    else:
        promoted = contest.verdict == "better"
        between = f"{contest.difference:+.4f} {interval_text(contest.interval, 4)}"
        said = SAID[contest.verdict].format(champion=champion, margin=settings.margin)
        why = f"{said}: the difference of {primary} is {between}"
    return Decision(promoted, why, blocks), contest


def find_candidate(store: Store, task: Task, name: str, settings: PromoteSettings) -> Candidate:
    """What `settings.candidate` names; raises `SettingsError` if there is no such model of the method and the task."""
    method, wanted = settings.model, settings.candidate
    version = version_to_promote(store, name, int(wanted)) if wanted.isdecimal() and len(wanted) < 10 else None
    if version:
        run = fetch(store, version.run_id)
    elif wanted == BEST:
        best = best_of(store, task, settings.study, method, settings.experiment)
        if best is None:
            raise SettingsError(
                f"study: expected one with finished {method} models of the task {task.name}, "
                f"found none called '{settings.study}'. "
                "Name another with --study, or a model with --candidate."
            )
        run = best
    elif wanted == AVERAGE:
        found = [
            run
            for run in search_study(store, settings.study, settings.experiment)
            if is_average(run) and run.tags[METHOD] == method
        ]
        finished = [run for run in found if run.status == "FINISHED"]
        if not finished:
            raise SettingsError(
                f"study: expected one with an average of {method} models, found none called '{settings.study}'. "
                "Name another with --study: one with at least two models per group."
            )
        run = finished[-1]
    else:
        run = fetch(store, wanted)
    require_finished(run)
    require_task(run, task)
    if run.tags[METHOD] != method:
        raise SettingsError(
            f"candidate: expected a model of {method}, found one of {run.tags[METHOD]}. Name it with --model too."
        )
    return Candidate(run, name, version or version_of_run(store, name, run.run_id))


def version_to_promote(store: Store, name: str, number: int) -> Version:
    """The version with this number; raises `SettingsError` if there is none, or no run has left it."""
    version = numbered_version(store, name, number)
    if version is None:
        raise SettingsError(f"candidate: expected a version of {name}, found none with the number {number}.")
    if not version.run_id:
        raise SettingsError(f"candidate: expected a version that a run has left, found {version} without one.")
    return version
