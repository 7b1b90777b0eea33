"""Promotion: the alias `champion` of a registered model moves only to a model that is shown to be better.

Better means: more episodes that end upright and have converged, on average over the nine conditions. Both models meet
the same starts and the same noise, and the 95% interval of the difference (`report.statistics.stratified_interval`)
must lie above zero. With two single models the unit is the episode: what is shown is that this model is better than
that one, not that its recipe is.

The episodes are drawn for these two models alone, by a stream named after their files: they are others than those of
any evaluation, of the first look that chooses a study's best, and of other promotions. The same command meets the same
ones, so that trying again is no second chance.
"""

from collections.abc import Callable
from dataclasses import dataclass
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
from pipeline.report.statistics import Interval, stratified_interval
from pipeline.report.tables import Table
from pipeline.stages.evaluate import load_for_pendulum, require_finished
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
DECISION = "promotion"  # tag of a version: what was decided about it last


@dataclass(frozen=True)
class Contest:
    """Candidate and champion on the same episodes: shares `(conditions,)` that end upright and have converged."""

    candidate: NDArray[np.float64]
    champion: NDArray[np.float64]
    difference: float  # mean over the conditions
    interval: Interval
    episodes: int  # a condition


@dataclass(frozen=True)
class Promotion:
    """What was decided, and why."""

    promoted: bool  # or would be, in a dry run
    sentence: str
    candidate: str
    contest: Contest | None  # None where there was nobody to meet


@dataclass(frozen=True)
class Candidate:
    """The run whose model is to be champion, and its version if it is registered."""

    run: StoredRun
    version: Version | None

    def __str__(self) -> str:
        return f"{self.version or self.run.tags['method'] + ' (not registered yet)'}, {self.run.name}"


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
    contest = None
    if champion is None:
        promoted, why = True, f"{settings.model} has no champion yet"
    elif candidate.version == champion:
        return Promotion(False, f"Nothing to do: {champion} is the champion already.", str(candidate), None)
    else:
        contest = compare(store, candidate.run, champion, settings.episodes, watch)
        promoted = contest.interval.low > 0
        between = f"{contest.difference:+.4f} [{contest.interval.low:.4f}, {contest.interval.high:.4f}]"
        why = f"its difference to {champion}, {between}, is {'' if promoted else 'not '}shown to be above zero"
    if settings.dry_run:
        sentence = f"Would {'' if promoted else 'not '}be promoted: {why}. Nothing was changed."
        return Promotion(promoted, sentence, str(candidate), contest)
    version = candidate.version or register_runs(store, [candidate.run], say)[0].version
    sentence = f"{'Promoted' if promoted else 'Not promoted'}: {why}."
    if promoted:
        now = champion_of(store, settings.model)
        if (now and now.number) != (champion and champion.number):
            raise RunError(f"{settings.model}: its champion has changed in the meantime. Run the command again.")
        set_alias(store, CHAMPION, version)
    tag_version(store, version, {DECISION: sentence})
    return Promotion(promoted, sentence, str(Candidate(candidate.run, version)), contest)


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
            if is_average(run) and run.tags["method"] == name
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
    if run.tags["method"] != name:
        raise SettingsError(
            f"candidate: expected a model of {name}, found one of {run.tags['method']}. Name it with --model too."
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


def compare(store: Store, candidate: StoredRun, champion: Version, episodes: int, watch: Watch) -> Contest:
    """Let both control the same episodes, on a process each."""
    with (
        artifact(store, candidate.run_id, f"{candidate.tags['name']}.pth") as ours,
        model_file(store, champion) as theirs,
    ):
        stream = "-".join(sorted((file_digest(ours), file_digest(theirs))))
        jobs = [
            Job(path.stem, str(number), partial(outcomes, path, stream, episodes))
            for number, path in enumerate((ours, theirs))
        ]
        outcome = run_all(jobs, watch)
    if outcome.failures:
        raise RunError(f"promotion: expected the episodes of both models, found: {'; '.join(outcome.failures)}")
    found = outcome.results
    differences = found[0] - found[1]
    return Contest(
        found[0].mean(1),
        found[1].mean(1),
        float(differences.mean()),
        stratified_interval(differences, stream),
        episodes,
    )


def outcomes(path: Path, stream: str, episodes: int, report: Report) -> NDArray[np.float64]:
    """`(conditions, episodes)`: 1 for an episode that ends upright and has converged, else 0. On one thread."""
    torch.set_num_threads(1)
    drawn = draw_episodes(CONDITIONS, episodes, 0, PURPOSE, stream)
    planner = policy_planner(load_for_pendulum(path, NONE), drawn, 0, PURPOSE, stream)
    scored = evaluate_planner(planner, drawn, 1, report)
    good = scored.columns["success"] & scored.columns["converged"]
    return np.asarray(good.reshape(len(CONDITIONS), episodes), dtype=np.float64)


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
        f"Share of episodes that end upright and have converged; {contest.episodes} paired episodes a condition",
        ("noise, replan", "candidate", "champion", "difference", "95% interval"),
        rows,
        "The interval is over episodes: it compares these two models, not their recipes.",
    )
