"""The jobs of a study: which are left to do, and what a process does for each."""

import contextlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.config import NONE
from pipeline.errors import StoreError
from pipeline.evaluation.stored import protocol_of
from pipeline.executors.jobs import Job, R, Report, Resources
from pipeline.files import file_digest
from pipeline.names import (
    GROUP,
    KIND,
    MEMBERS,
    METHOD,
    NAME,
    OF_TRAINING,
    SEED,
    STUDY,
    TASK,
    TRAINED,
    WEIGHTS_SHA256,
    Kind,
)
from pipeline.policies.ensemble import MOST_MEMBERS, members_digest
from pipeline.policies.states import MAX_NAME
from pipeline.stages.judging import EvaluationSpec, Judged, judge_file, judge_yardstick
from pipeline.stages.unfinished import end_abandoned
from pipeline.studies.groups import Member, member_name
from pipeline.studies.study_plan import Beside
from pipeline.studies.work import (
    judge_again,
    judge_beside,
    log_tradeoff,
    make_acting,
    make_average,
    make_group,
    make_member,
)
from pipeline.tasks.registry import find_task
from pipeline.tracking.begin import Place
from pipeline.tracking.journal import journal_of
from pipeline.tracking.query import RUNNING, StoredRun, group_of, is_acting, is_model, search, search_study
from pipeline.tracking.run import TrackedRun
from pipeline.tracking.store import Store
from pipeline.training.together import stacks_of

JOB_KINDS = (Kind.MODEL, Kind.ACTING, Kind.AVERAGE, Kind.ORIGINAL, Kind.YARDSTICK)  # of the runs that jobs make


@dataclass(frozen=True)
class Runs:
    """The runs of a study under way: its own, and one per group by the group's name."""

    name: str
    task: str  # its name
    study: TrackedRun
    groups: dict[str, TrackedRun]

    def place(self, parent: TrackedRun, kind: Kind, tags: Mapping[str, str], name: str = "") -> Place:
        """Where a run of the study goes: below which run, with which tags beside the study's, as what."""
        return Place(parent.run_id, {STUDY: self.name, TASK: self.task, KIND: kind, **tags}, name)


@dataclass(frozen=True)
class Earlier:
    """What earlier calls have left in the store."""

    runs: Sequence[StoredRun]  # finished ones of the study's jobs
    evaluation: EvaluationSpec

    @cached_property
    def made(self) -> dict[str, list[StoredRun]]:
        """Those of members, by their name, the newest last."""
        found: dict[str, list[StoredRun]] = {}
        for run in self.runs:
            if is_model(run) or is_acting(run):
                found.setdefault(job_name(run), []).append(run)
        return found

    def model(self, name: str) -> StoredRun | None:
        """The newest model of a member's name."""
        found = [run for run in self.made.get(name, ()) if is_model(run)]
        return found[-1] if found else None

    def member(self, name: str, weights: str = "") -> StoredRun | None:
        """The newest run of a member's name, trained or acting with weights of another: with these, if they are named.

        A model counts in both cases: an earlier call may have had other groups.
        """
        found = [run for run in self.made.get(name, ()) if weights in ("", run.tags[WEIGHTS_SHA256])]
        return found[-1] if found else None

    def is_judged(self, run: StoredRun) -> bool:
        """Whether a run is evaluated by the study's protocol."""
        return protocol_of(run.tags) == self.evaluation.protocol

    def has(self, kind: Kind, name: str, tags: Mapping[str, str]) -> bool:
        """Whether a run of this kind and name, with these tags, is evaluated by the study's protocol."""
        return any(
            (run.tags[KIND], run.name) == (kind, name) and tags.items() <= run.tags.items() and self.is_judged(run)
            for run in self.runs
        )


def find_earlier(store: Store, study: str, experiment: str, spec: EvaluationSpec) -> Earlier:
    """The finished runs of a study's jobs."""
    found = search_study(store, study, experiment)
    return Earlier([run for run in found if run.status == "FINISHED" and run.tags.get(KIND) in JOB_KINDS], spec)


def job_name(run: StoredRun) -> str:
    """The name of the job that makes, or made, a run of a study."""
    is_member = run.tags.get(KIND) in (Kind.MODEL, Kind.ACTING)
    return member_name(group_of(run), run.tags.get(SEED, "")) if is_member else run.name


def missing_jobs(
    members: Sequence[Member],
    beside: Beside,
    runs: Runs,
    earlier: Earlier,
    measured: str,
    together: Collection[str],
    needs: Mapping[str, Resources],
) -> tuple[list[Job[str]], int]:
    """The jobs that are left to do before `acting_jobs` and `average_jobs`, and how many models need none.

    Members of the groups `together` are one job of a group, which trains them, or several; `judging_jobs` follow.
    `needs` tells what a training of each group needs. `measured` is the digest of the pairs whose trade-off FAST was
    measured on by an earlier call.
    """
    spec = earlier.evaluation
    jobs: list[Job[str]] = []

    def judge(kind: Kind, name: str, work: Callable[[Report], Judged], tags: Mapping[str, str]) -> None:
        if not earlier.has(kind, name, tags):
            place = runs.place(runs.study, kind, tags)
            jobs.append(Job(name, kind, partial(judge_beside, work, place, spec.protocol)))

    if beside.tokenizer is not None and measured != (digest := file_digest(spec.pairs)):
        work = partial(log_tradeoff, runs.study.run_id, spec.pairs, digest, beside.tokenizer.summary)
        jobs.append(Job("FAST trade-off", "tokenizer", work))
    for path, tokenizer in beside.originals:
        weights = {WEIGHTS_SHA256: weights_of(path, tokenizer)}
        judge(Kind.ORIGINAL, f"original {path.stem}", partial(judge_file, path, tokenizer, spec), weights)
    reused = 0
    at_once: dict[str, list[tuple[Member, Place]]] = {}
    for member in members:
        if member.trained != member.group:
            continue
        made = earlier.member(member.name)
        if made is not None and earlier.is_judged(made):
            reused += 1
            continue
        place = runs.place(runs.groups[member.group], Kind.MODEL, member.tags, member.name)
        if made is None and member.group in together:
            at_once.setdefault(member.group, []).append((member, place))
            continue
        work = (
            partial(judge_again, made.run_id, spec)
            if made
            else partial(make_member, member, place, spec, runs.study.experiment_id)
        )
        jobs.append(Job(member.name, member.group, work, needs=Resources() if made else needs[member.group]))
    trained: list[Job[str]] = []
    for group, whole in at_once.items():
        for stack in (stacks := stacks_of(whole)):
            kind, work = f"{group} together", partial(make_group, stack, runs.study.experiment_id)
            names = tuple(member.name for member, _ in stack)
            name = kind if len(stacks) == 1 else f"{kind}, {len(stack)} from seed {stack[0][0].settings.seed}"
            trained.append(Job(name, kind, work, needs=needs[group], makes=names))
    for name in find_task(spec.task).yardsticks:
        judge(Kind.YARDSTICK, name, partial(judge_yardstick, name, spec), {})
    return [*trained, *jobs], reused


def weights_of(path: Path, tokenizer: str) -> str:
    """What tells the reference system's weights from others: the digests of their file and of their tokenizer's."""
    files = [path] if tokenizer == NONE else [path, Path(tokenizer)]
    return " ".join(map(file_digest, files))


def with_files(jobs: Sequence[Job[R]], files: tuple[Path, ...], left: Mapping[str, Sequence[Path]]) -> list[Job[R]]:
    """The jobs with the files that they read, and what is left of what they make: for workers elsewhere."""
    return [
        replace(job, files=files, left=tuple(path for name in job.names for path in left.get(name, ()))) for job in jobs
    ]


def what_was_left(store: Store, study: str, experiment: str) -> dict[str, list[Path]]:
    """The journals of unfinished runs, by `job_name`: workers on other machines go on from these."""
    found: dict[str, list[Path]] = {}
    for run in search_study(store, study, experiment):
        if run.status != "FINISHED" and run.tags.get(KIND) in JOB_KINDS:
            files = filter(Path.is_file, journal_of(run.run_id).folder.rglob("*"))
            found.setdefault(job_name(run), []).extend(Path(os.path.relpath(path)) for path in files)
    return found


def judging_jobs(members: Sequence[Member], earlier: Earlier) -> list[Job[str]]:
    """The jobs that evaluate models which were trained together."""
    made = [(member, earlier.model(member.name)) for member in members if member.trained == member.group]
    return [
        Job(member.name, member.group, partial(judge_again, run.run_id, earlier.evaluation))
        for member, run in made
        if run is not None and not earlier.is_judged(run)
    ]


def acting_jobs(members: Sequence[Member], runs: Runs, earlier: Earlier) -> list[Job[str]]:
    """The jobs of members that act with the weights of another group's, once these are trained."""
    jobs: list[Job[str]] = []
    spec = earlier.evaluation
    for member in members:
        model = earlier.model(member.model) if member.trained != member.group else None
        if model is None:
            continue
        made = earlier.member(member.name, model.tags[WEIGHTS_SHA256])
        if made is not None and earlier.is_judged(made):
            continue
        training = {tag: model.tags[tag] for tag in OF_TRAINING if tag in model.tags}
        tags = member.tags | {TRAINED: model.run_id} | training
        place = runs.place(runs.groups[member.group], Kind.ACTING, tags, member.name)
        work = partial(judge_again, made.run_id, spec) if made else partial(make_acting, member, model, place, spec)
        jobs.append(Job(member.name, member.group, work))
    return jobs


def average_jobs(runs: Runs, earlier: Earlier) -> list[Job[str]]:
    """The jobs that make one policy of all finished models of each group, where there is none yet, and evaluate it.

    It plans the mean of their chunks. Other models, as after a study has grown, are another average: a run of its own.
    """
    jobs: list[Job[str]] = []
    spec = earlier.evaluation
    for group, parent in runs.groups.items():
        found = {run.params[SEED]: run for run in earlier.runs if is_model(run) and group_of(run) == group}
        members = sorted(found.values(), key=lambda run: int(run.params[SEED]))
        if not 1 < len(members) <= MOST_MEMBERS:
            continue
        digest = members_digest([run.tags[WEIGHTS_SHA256] for run in members])
        made = [run for run in earlier.runs if run.tags.get(MEMBERS) == digest and group_of(run) == group]
        if any(map(earlier.is_judged, made)):
            continue
        name = averaged_name(group, len(members))
        tags = {GROUP: group, METHOD: members[0].tags[METHOD], MEMBERS: digest}
        place = runs.place(parent, Kind.AVERAGE, tags)
        work = (
            partial(judge_again, made[-1].run_id, spec) if made else partial(make_average, name, members, place, spec)
        )
        jobs.append(Job(name, Kind.AVERAGE, work))
    return jobs


def averaged_name(group: str, count: int) -> str:
    """The name of the average of `count` members; of a group with many settings its end is left out, with a digest."""
    suffix = f" average of {count}"
    if len(group) + len(suffix) > MAX_NAME:
        suffix = f"... {sha256(group.encode()).hexdigest()[:8]}{suffix}"
    return group[: MAX_NAME - len(suffix)] + suffix


def end_failed(store: Store, study: str, experiment: str, job: Job[Any], reason: str) -> None:
    """End what a job that has failed left running, if the store can be reached; else the next call or doctor does."""
    with contextlib.suppress(StoreError):
        end_orphans(store, study, experiment, reason, job.names)


def end_orphans(store: Store, study: str, experiment: str, reason: str, names: Collection[str] | None = None) -> None:
    """End runs of a study's jobs, or those of some names, whose process is gone."""
    for run in search(store, {STUDY: study}, experiment, RUNNING):
        ours = names is None or job_name(run) in names
        if run.tags.get(KIND) in JOB_KINDS and ours:
            end_abandoned(TrackedRun(store, run.run_id), run.tags.get(NAME, run.name), reason)
