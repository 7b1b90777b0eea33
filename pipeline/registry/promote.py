"""Promotion: the alias `champion` of a registered model moves only to a model that is good, and shown to be better.

Good means: at least half of its episodes end upright, on average over the nine conditions. Better means: more episodes
that end upright and have converged, on the same average. Both models meet the same starts and the same noise, and the
95% interval of the difference (`report.bootstraps.stratified_interval`) must lie above zero. With two single models the
unit is the episode: what is shown is that this model is better than that one, not that its recipe is.

The episodes are drawn for these two models alone, by a stream named after their files: they are others than those of
any evaluation, of the first look that chooses a study's best, and of other promotions. There is one decision for each
candidate and champion: it is kept in a tag of the candidate's version, and trying again, with more episodes or fewer,
is no second chance.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from filelock import Timeout
from numpy.typing import NDArray

from pipeline.config import AVERAGE, BEST, NONE
from pipeline.errors import RunError, SettingsError
from pipeline.evaluation.control import draw_episodes, evaluate_planner, policy_planner
from pipeline.evaluation.protocol import CONDITIONS
from pipeline.executors.jobs import Job, Report
from pipeline.executors.run import Watch, run_all
from pipeline.files import file_digest
from pipeline.locks import file_lock
from pipeline.methods.registry import METHODS
from pipeline.registry.register import best_of, register_runs
from pipeline.registry.settings import PromoteSettings
from pipeline.report.bootstraps import Interval, stratified_interval
from pipeline.report.tables import Table
from pipeline.stages.evaluate import load_for_pendulum, require_finished
from pipeline.tracking.names import METHOD, NAME
from pipeline.tracking.query import StoredRun, artifact, fetch, is_average, search_study
from pipeline.tracking.registry import (
    CHAMPION,
    Version,
    champion_of,
    model_file,
    set_alias,
    tag_version,
    version_of_run,
    versions_of,
)
from pipeline.tracking.store import Store, home, open_store

Say = Callable[[str], None]
PURPOSE = "promotion"  # of episodes that are drawn for it alone
DECISION = "promotion"  # tag of a version: what was decided about it last; `promotion.DIGEST`: against this champion
MINIMUM_SUCCESS = 0.5  # share of a champion's episodes that end upright


@dataclass(frozen=True)
class Outcomes:
    """Of a model's episodes, `(conditions, episodes)`: 1 for those of the name, else 0."""

    upright: NDArray[np.float64]  # end upright
    good: NDArray[np.float64]  # and have converged


@dataclass(frozen=True)
class Contest:
    """Candidate and champion on the same episodes: shares `(conditions,)` that end upright and have converged."""

    candidate: NDArray[np.float64]
    champion: NDArray[np.float64]
    difference: float  # mean over the conditions
    interval: Interval
    episodes: int  # a condition


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
    version: Version | None

    def __str__(self) -> str:
        return f"{self.version or self.run.tags[METHOD] + ' (not registered yet)'}, {self.run.name}"


def promote(settings: PromoteSettings, say: Say, watch: Watch) -> Promotion:
    """Decide, and move the alias unless it is a dry run; raises `UserError` kinds before any work."""
    if settings.model not in METHODS:
        raise SettingsError(f"model: expected one of {', '.join(METHODS)}, found '{settings.model}'. See --help.")
    store = open_store()
    home().mkdir(parents=True, exist_ok=True)
    try:
        with file_lock(home() / f".promote-{settings.model}.lock", blocking=False):
            return _promote(store, settings, say, watch)
    except Timeout as error:
        raise SettingsError(f"model: '{settings.model}' is being promoted by another process. Wait for it.") from error


def _promote(store: Store, settings: PromoteSettings, say: Say, watch: Watch) -> Promotion:
    candidate, champion = find_candidate(store, settings), champion_of(store, settings.model)
    if champion and candidate.version == champion:
        return Promotion(False, f"Nothing to do: {champion} is the champion already.", str(candidate), None)
    contest = None
    with (
        artifact(store, candidate.run.run_id, f"{candidate.run.tags[NAME]}.pth") as ours,
        model_file(store, champion) if champion else nullcontext() as theirs,
    ):
        tag = f"{DECISION}.{file_digest(theirs)[:16] if theirs else NONE}"
        known = candidate.version.tags.get(tag) if candidate.version else None
        if known:
            decision = Decision(**json.loads(known))
        else:
            decision, contest = decide(settings, champion, ours, theirs, watch)
    if settings.dry_run:
        sentence = f"Would {'' if decision.promoted else 'not '}be promoted: {decision.why}. Nothing was changed."
        return Promotion(decision.promoted, sentence, str(candidate), contest)
    version = candidate.version or register_runs(store, [candidate.run], say)[0].version
    sentence = f"{'Promoted' if decision.promoted else 'Not promoted'}: {decision.why}."
    tag_version(store, version, {tag: json.dumps(asdict(decision)), DECISION: sentence})
    if known:
        sentence += f" So it was decided before, by {decision.episodes} episodes per condition: nothing was played."
    if decision.promoted:
        now = champion_of(store, settings.model)
        if (now and now.number) != (champion and champion.number):
            raise RunError(f"{settings.model}: its champion has changed in the meantime. Run the command again.")
        set_alias(store, CHAMPION, version)
    return Promotion(decision.promoted, sentence, str(Candidate(candidate.run, version)), contest)


def decide(
    settings: PromoteSettings, champion: Version | None, ours: Path, theirs: Path | None, watch: Watch
) -> tuple[Decision, Contest | None]:
    """Let the candidate's file play, against the champion's if there is one; the contest, if there was one."""
    found, stream = play([ours, theirs] if theirs else [ours], settings.episodes, watch)
    success, contest = float(found[0].upright.mean()), None
    upright = f"{success:.3f} of its episodes end upright"
    if theirs:
        contest = contest_of(found[0].good, found[1].good, stream)
    if success < MINIMUM_SUCCESS:
        promoted, why = False, f"{upright}, and a champion needs {MINIMUM_SUCCESS:g}"
    elif contest is None:
        promoted, why = True, f"{settings.model} has no champion yet, and {upright}"
    else:
        promoted = contest.interval.low > 0
        between = f"{contest.difference:+.4f} [{contest.interval.low:.4f}, {contest.interval.high:.4f}]"
        why = f"its difference to {champion}, {between}, is {'' if promoted else 'not '}shown to be above zero"
    return Decision(promoted, why, settings.episodes), contest


def find_candidate(store: Store, settings: PromoteSettings) -> Candidate:
    """What `settings.candidate` names; raises `SettingsError` if there is no such model of the method."""
    name, wanted = settings.model, settings.candidate
    version = version_numbered(store, name, int(wanted)) if wanted.isdecimal() and len(wanted) < 10 else None
    if version:
        run = fetch(store, version.run_id)
    elif wanted == BEST:
        best = best_of(store, settings.study, name, settings.experiment)
        if best is None:
            raise SettingsError(
                f"study: expected one with finished {name} models, found none called '{settings.study}'. "
                "Name another with --study, or a model with --candidate."
            )
        run = best
    elif wanted == AVERAGE:
        found = [
            run
            for run in search_study(store, settings.study, settings.experiment)
            if is_average(run) and run.tags[METHOD] == name
        ]
        finished = [run for run in found if run.status == "FINISHED"]
        if not finished:
            raise SettingsError(
                f"study: expected one with an averaged ensemble of {name}, found none called '{settings.study}'. "
                "Name another with --study: one of two models a method at least."
            )
        run = finished[-1]
    else:
        run = fetch(store, wanted)
    require_finished(run)
    if run.tags[METHOD] != name:
        raise SettingsError(
            f"candidate: expected a model of {name}, found one of {run.tags[METHOD]}. Name it with --model too."
        )
    return Candidate(run, version or version_of_run(store, name, run.run_id))


def version_numbered(store: Store, name: str, number: int) -> Version:
    """The version with this number; raises `SettingsError` if there is none, or no run has left it."""
    version = next((each for each in versions_of(store, name) if each.number == number), None)
    if version is None:
        raise SettingsError(f"candidate: expected a version of {name}, found none with the number {number}.")
    if not version.run_id:
        raise SettingsError(f"candidate: expected a version that a run has left, found {version} without one.")
    return version


def play(files: Sequence[Path], episodes: int, watch: Watch) -> tuple[list[Outcomes], str]:
    """Let each model control the same episodes, on a process each; also the name of the stream that these are from."""
    stream = "-".join(sorted(map(file_digest, files)))
    jobs = [Job(path.stem, str(number), partial(outcomes, path, stream, episodes)) for number, path in enumerate(files)]
    outcome = run_all(jobs, watch)
    if outcome.failures:
        raise RunError(f"promotion: expected the episodes of all models, found: {'; '.join(outcome.failures)}")
    return outcome.results, stream


def contest_of(candidate: NDArray[np.float64], champion: NDArray[np.float64], stream: str) -> Contest:
    """Compare what `(conditions, episodes)` are good."""
    differences = candidate - champion
    interval = stratified_interval(differences, stream)
    return Contest(
        candidate.mean(1), champion.mean(1), float(differences.mean()), interval, episodes=differences.shape[1]
    )


def outcomes(path: Path, stream: str, episodes: int, report: Report) -> Outcomes:
    """How a model's episodes end. On one thread."""
    torch.set_num_threads(1)
    drawn = draw_episodes(CONDITIONS, episodes, 0, PURPOSE, stream)
    planner = policy_planner(load_for_pendulum(path, NONE), drawn, 0, PURPOSE, stream)
    columns = evaluate_planner(planner, drawn, 1, report).columns
    shape = len(CONDITIONS), episodes
    upright, good = columns["success"], columns["converge"]
    return Outcomes(upright.reshape(shape).astype(np.float64), good.reshape(shape).astype(np.float64))


def contest_table(contest: Contest) -> Table:
    """Both models' shares and their difference, a row a condition; the interval is of the mean."""
    rows = [
        (f"{where.action_noise:g}, {where.replan}", f"{ours:.4f}", f"{theirs:.4f}", f"{ours - theirs:+.4f}", "")
        for where, ours, theirs in zip(CONDITIONS, contest.candidate, contest.champion, strict=True)
    ]
    interval = f"[{contest.interval.low:.4f}, {contest.interval.high:.4f}]"
    means = contest.candidate.mean(), contest.champion.mean()
    rows.append(("mean", f"{means[0]:.4f}", f"{means[1]:.4f}", f"{contest.difference:+.4f}", interval))
    return Table(
        f"Share of episodes that end upright and have converged; {contest.episodes} paired episodes per condition",
        ("noise, replan", "candidate", "champion", "difference", "95% interval"),
        rows,
        "The interval is over episodes: it compares these two models, not their recipes.",
    )
