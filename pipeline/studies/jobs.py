"""The jobs of a study: which are left to do, and what a process does for each."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.config import NONE
from pipeline.data.pairs import load_action_pairs
from pipeline.data.split import split_pairs
from pipeline.errors import RunError
from pipeline.evaluation.expert import spread
from pipeline.evaluation.protocol import Protocol
from pipeline.evaluation.stored import FOLDER, protocol_of
from pipeline.executors.jobs import Job, Report
from pipeline.files import file_digest
from pipeline.methods.registry import METHODS
from pipeline.policies.checkpoint import load_checkpoint, save_checkpoint
from pipeline.policies.ensemble import MOST_MEMBERS, members_digest, save_ensemble
from pipeline.results.figures import TRADEOFF_FILE, TRADEOFF_TAG
from pipeline.stages.evaluate import Judged, Trial, judge_file, judge_run, judge_yardstick, log_judged
from pipeline.stages.train import train
from pipeline.stages.train_together import train_together
from pipeline.stages.unfinished import can_resume
from pipeline.studies.plan import Member, member_name
from pipeline.tasks.registry import find_task
from pipeline.tokenizer.fast import FastTokenizer
from pipeline.tokenizer.tradeoff import SCALES, measure_tradeoff
from pipeline.tracking.names import NAME, TASK, TRAINED, WEIGHTS, Kind
from pipeline.tracking.owner import owner_elsewhere
from pipeline.tracking.query import StoredRun, artifact, group_of, is_acting, is_model, search
from pipeline.tracking.run import Place, TrackedRun, start_run, status_of
from pipeline.tracking.store import open_store

JOB_KINDS = (Kind.MODEL, Kind.ACTING, Kind.AVERAGE, Kind.ORIGINAL, Kind.YARDSTICK)  # of the runs that jobs make
OF_TRAINING = (WEIGHTS, "device", "data_sha256", "tokenizer_sha256", "pairs_sha256", "split_digest")  # tags
NOT_IN_FILES, MOST_LETTERS = re.compile(r"[^\w.=-]+"), 100  # of the names of files
TRAINING_SHARE = 0.9  # of a member's time; the rest is its evaluation
TRADEOFF_CHUNKS = 10_000  # of each part of the split: enough for two digits


@dataclass(frozen=True)
class Beside:
    """What a study evaluates beside its models: the reference system's weights, each with its tokenizer, and FAST."""

    originals: Sequence[tuple[Path, str]]
    tokenizer: FastTokenizer | None  # of a method with tokens


@dataclass(frozen=True)
class Runs:
    """The runs of a study under way: its own, and one per group by the group's name."""

    name: str
    task: str  # its name
    study: TrackedRun
    groups: dict[str, TrackedRun]

    def place(self, parent: TrackedRun, kind: Kind, name: str = "", **tags: str) -> Place:
        """Where a run of the study goes: below which run, with which tags, as what."""
        return Place(parent.run_id, {"study": self.name, TASK: self.task, "kind": kind, **tags}, name)


@dataclass(frozen=True)
class Earlier:
    """What earlier calls have left in the store."""

    runs: Sequence[StoredRun]  # finished ones of the study's jobs
    trial: Trial

    def model(self, name: str) -> StoredRun | None:
        """The newest model of a member's name."""
        found = [run for run in self.runs if is_model(run) and job_name(run) == name]
        return found[-1] if found else None

    def member(self, name: str, weights: str = "") -> StoredRun | None:
        """The newest run of a member's name, trained or acting with weights of another: with these, if they are named.

        A model counts in both cases: an earlier call may have had other groups.
        """
        found = [run for run in self.runs if (is_model(run) or is_acting(run)) and job_name(run) == name]
        found = [run for run in found if weights in ("", run.tags[WEIGHTS])]
        return found[-1] if found else None

    def is_judged(self, run: StoredRun) -> bool:
        """Whether a run is evaluated by the study's protocol."""
        return protocol_of(run.tags) == self.trial.protocol

    def has(self, kind: Kind, name: str) -> bool:
        """Whether a run of this kind and name is evaluated by the study's protocol."""
        return any((run.tags["kind"], run.name) == (kind, name) and self.is_judged(run) for run in self.runs)


def job_name(run: StoredRun) -> str:
    """The name of the job that makes, or made, a run of a study."""
    is_member = run.tags.get("kind") in (Kind.MODEL, Kind.ACTING)
    return member_name(group_of(run), run.tags.get("seed", "")) if is_member else run.name


def missing_jobs(
    members: Sequence[Member],
    beside: Beside,
    runs: Runs,
    earlier: Earlier,
    measured: str,
    together: Collection[str] = (),
) -> tuple[list[Job[str]], int]:
    """The jobs that are left to do before `acting_jobs` and `average_jobs`, and how many models need none.

    Members of the groups `together` are one job of a group, which trains them; `judging_jobs` follow it.
    `measured` is the digest of the pairs whose trade-off FAST was measured on by an earlier call.
    """
    trial = earlier.trial
    jobs: list[Job[str]] = []

    def judge(kind: Kind, name: str, work: Callable[[Report], Judged]) -> None:
        if not earlier.has(kind, name):
            place = runs.place(runs.study, kind)
            jobs.append(Job(name, kind, partial(judge_beside, work, place, trial.protocol)))

    if beside.tokenizer is not None and measured != (digest := file_digest(trial.pairs)):
        work = partial(log_tradeoff, runs.study.run_id, trial.pairs, digest, beside.tokenizer.summary)
        jobs.append(Job("FAST trade-off", "tokenizer", work))
    for path, tokenizer in beside.originals:
        judge(
            Kind.ORIGINAL,
            f"original {path.stem}",
            partial(judge_file, path, tokenizer, trial),
        )
    reused = 0
    at_once: dict[str, list[tuple[Member, Place]]] = {}
    for member in members:
        if member.trained != member.group:
            continue
        made = earlier.member(member.name)
        if made is not None and earlier.is_judged(made):
            reused += 1
            continue
        tags = {"group": member.group, "method": member.method, "seed": str(member.settings.seed)}
        place = runs.place(runs.groups[member.group], Kind.MODEL, member.name, **tags)
        if made is None and member.group in together:
            at_once.setdefault(member.group, []).append((member, place))
            continue
        work = (
            partial(judge_again, made.run_id, trial)
            if made
            else partial(make_member, member, place, trial, runs.study.experiment_id)
        )
        jobs.append(Job(member.name, member.group, work))
    for group, found in at_once.items():
        name = together_name(group)
        jobs.insert(0, Job(name, name, partial(make_together, found, runs.study.experiment_id)))
    for name in find_task(trial.task).yardsticks:
        judge(Kind.YARDSTICK, name, partial(judge_yardstick, name, trial))
    return jobs, reused


def judging_jobs(members: Sequence[Member], earlier: Earlier) -> list[Job[str]]:
    """The jobs that evaluate models which were trained together."""
    made = [(member, earlier.model(member.name)) for member in members if member.trained == member.group]
    return [
        Job(member.name, member.group, partial(judge_again, run.run_id, earlier.trial))
        for member, run in made
        if run is not None and not earlier.is_judged(run)
    ]


def acting_jobs(members: Sequence[Member], runs: Runs, earlier: Earlier) -> list[Job[str]]:
    """The jobs of members that act with the weights of another group's, once these are trained."""
    jobs: list[Job[str]] = []
    trial = earlier.trial
    for member in members:
        model = earlier.model(member.model) if member.trained != member.group else None
        if model is None:
            continue
        made = earlier.member(member.name, model.tags[WEIGHTS])
        if made is not None and earlier.is_judged(made):
            continue
        tags = {"group": member.group, "method": member.method, "seed": str(member.settings.seed)}
        tags |= {TRAINED: model.run_id} | {tag: model.tags[tag] for tag in OF_TRAINING if tag in model.tags}
        place = runs.place(runs.groups[member.group], Kind.ACTING, member.name, **tags)
        work = partial(judge_again, made.run_id, trial) if made else partial(make_acting, member, model, place, trial)
        jobs.append(Job(member.name, member.group, work))
    return jobs


def average_jobs(runs: Runs, earlier: Earlier) -> list[Job[str]]:
    """The jobs that make one policy of all finished models of each group, where there is none yet, and evaluate it.

    It plans the mean of their chunks. Other models, as after a study has grown, are another average: a run of its own.
    """
    jobs: list[Job[str]] = []
    trial = earlier.trial
    for group, parent in runs.groups.items():
        found = {run.params["seed"]: run for run in earlier.runs if is_model(run) and group_of(run) == group}
        members = sorted(found.values(), key=lambda run: int(run.params["seed"]))
        if not 1 < len(members) <= MOST_MEMBERS:
            continue
        digest = members_digest([run.tags["weights_sha256"] for run in members])
        made = [run for run in earlier.runs if run.tags.get("members") == digest and group_of(run) == group]
        if any(map(earlier.is_judged, made)):
            continue
        name = f"{group} average of {len(members)}"
        place = runs.place(parent, Kind.AVERAGE, group=group, method=members[0].tags["method"], members=digest)
        work = (
            partial(judge_again, made[-1].run_id, trial) if made else partial(make_average, name, members, place, trial)
        )
        jobs.append(Job(name, Kind.AVERAGE, work))
    return jobs


def make_member(member: Member, place: Place, trial: Trial, experiment_id: str, report: Report) -> str:
    """Train a member and evaluate it; returns the run's id.

    A run of the study that has trained it already counts, and one that was interrupted is resumed. Raises `RunError` if
    another machine is training it.
    """
    earlier = _earlier_runs(member, place, experiment_id)
    finished = _finished(earlier)
    run_id = finished[-1] if finished else _train_member(member, place, earlier, report)
    judge_run(run_id, trial, lambda share: report(TRAINING_SHARE + (1 - TRAINING_SHARE) * share))
    return run_id


def make_together(members: Sequence[tuple[Member, Place]], experiment_id: str, report: Report) -> str:
    """Train the members of a group at once; returns the group's name.

    Those that a run of the study has trained already count, and interrupted ones are resumed. Raises `RunError` if
    another machine is training one, and in the end if some have failed.
    """
    asked = []
    for member, place in members:
        earlier = _earlier_runs(member, place, experiment_id)
        if not _finished(earlier):
            resumable = [run.run_id for run in earlier if can_resume(run.run_id, member.settings, together=True)]
            resume = resumable[-1] if resumable else NONE
            asked.append((member.settings.model_copy(update={"resume": resume}), place))
    first, _ = members[0]
    if asked and (failures := train_together(METHODS[first.method], asked, lambda _line: None, report)):
        raise RunError("; ".join(f"{first.group} {failure}" for failure in failures))
    return first.group


def together_name(group: str) -> str:
    """The name of the job that trains all members of a group at once."""
    return f"{group} together"


def _earlier_runs(member: Member, place: Place, experiment_id: str) -> list[StoredRun]:
    """The runs of the study that trained a member; raises `RunError` if another machine is at it."""
    tags = {"study": place.tags["study"], "kind": Kind.MODEL, "seed": place.tags["seed"]}
    found = [run for run in search(open_store(), **tags) if run.experiment_id == experiment_id]
    earlier = [run for run in found if group_of(run) == member.group]
    for run in earlier:
        if (who := owner_elsewhere(run)) is not None:
            raise RunError(f"{member.name}: expected nobody to train it, found run {run.run_id}: {who}. Wait for it.")
    return earlier


def _finished(runs: Sequence[StoredRun]) -> list[str]:
    return [run.run_id for run in runs if run.status == "FINISHED" and is_model(run)]


def _train_member(member: Member, place: Place, earlier: Sequence[StoredRun], report: Report) -> str:
    resumable = [run.run_id for run in earlier if can_resume(run.run_id, member.settings)]
    made = train(
        METHODS[member.method],
        member.settings.model_copy(update={"resume": resumable[-1] if resumable else NONE}),
        lambda _line: None,  # the lines are in the run's log
        lambda step: report(TRAINING_SHARE * step.steps_done / step.steps_total),
        place,
    )
    return made.run_id


def make_acting(member: Member, model: StoredRun, place: Place, trial: Trial, report: Report) -> str:
    """Write a trained model as one that acts as the member does, evaluate it, and log both; returns the run's id."""
    method = METHODS[member.method]
    with TemporaryDirectory() as folder, artifact(open_store(), model.run_id, f"{model.tags[NAME]}.pth") as trained:
        checkpoint = load_checkpoint(trained).acting_by(method.acting(member.settings).model_dump())
        file = Path(folder) / f"{file_name(member.name)}.pth"
        save_checkpoint(file, replace(checkpoint, provenance=checkpoint.provenance | {NAME: file.stem}))
        judge = partial(judge_file, file, NONE, trial)
        params = checkpoint.settings.model_dump(mode="json", exclude={"resume"})
        return judge_beside(judge, place, trial.protocol, report, file, params)


def judge_again(run_id: str, trial: Trial, report: Report) -> str:
    """Evaluate the model of a run and log the scores to it; returns the run's id."""
    judge_run(run_id, trial, report)
    return run_id


def make_average(name: str, members: Sequence[StoredRun], place: Place, trial: Trial, report: Report) -> str:
    """Write the members' files as one policy, evaluate it, and log both as a run; returns the run's id."""
    store = open_store()
    with ExitStack() as stack:
        file = Path(stack.enter_context(TemporaryDirectory())) / f"{file_name(name)}.pth"
        files = [stack.enter_context(artifact(store, run.run_id, f"{run.tags['name']}.pth")) for run in members]
        save_ensemble(file, name, files)
        judge = partial(judge_file, file, NONE, trial)
        return judge_beside(judge, place, trial.protocol, report, file)


def file_name(name: str) -> str:
    """A name of a study as that of a file, without an ending."""
    return NOT_IN_FILES.sub("_", name)[:MOST_LETTERS]


def judge_beside(
    judge: Callable[[Report], Judged],
    place: Place,
    protocol: Protocol,
    report: Report,
    file: Path | None = None,
    params: Mapping[str, Any] | None = None,
) -> str:
    """Evaluate what needs no training, and log it as a run of its own, with its `file`; returns the run's id."""
    judged = judge(report)
    run = start_run(open_store(), "", place.name or judged.name, chosen=True, place=place)
    try:
        run.params(params or {})
        run.tags({"method": judged.method} | ({"name": file.stem} if file else {}))
        if file is not None:
            run.file(file)
        log_judged(run, judged, protocol)
    except BaseException as error:
        run.end(status_of(error))
        raise
    run.end("FINISHED")
    return run.run_id


def log_tradeoff(run_id: str, pairs_file: Path, digest: str, chosen: str, report: Report) -> str:
    """Measure what FAST trades, fitted on the training split, and log it to the study's run; returns the run's id."""
    pairs = load_action_pairs(pairs_file)
    split = split_pairs(pairs.trajectory, len(pairs.state))
    train_chunks, held_out = (pairs.action_chunk[spread(rows, TRADEOFF_CHUNKS)] for rows in (split.train, split.val))
    rows = []
    for number, scale in enumerate(SCALES):
        report(number / len(SCALES))
        rows += [asdict(row) for row in measure_tradeoff(train_chunks, held_out, scale)]
    run = TrackedRun(open_store(), run_id)
    run.json(f"{FOLDER}/{TRADEOFF_FILE}", {"rows": rows, "chosen": chosen})
    run.tags({TRADEOFF_TAG: digest})
    return run_id
