"""The jobs of a study: which are left to do, and what a process does for each."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.config import NONE, EnsembleSettings, TrainSettings
from pipeline.data.pairs import load_action_pairs
from pipeline.data.split import split_pairs
from pipeline.evaluation.expert import spread
from pipeline.evaluation.yardsticks import YARDSTICKS
from pipeline.executors.pool import Job, Report
from pipeline.files import file_digest
from pipeline.methods import METHODS
from pipeline.policies.ensemble import MOST_MEMBERS, members_digest, save_ensemble
from pipeline.results.figures import TRADEOFF_FILE, TRADEOFF_TAG
from pipeline.stages.evaluate import EVALUATION, Judged, Protocol, judge_file, judge_run, judge_yardstick, log_judged
from pipeline.stages.train import train
from pipeline.stages.unfinished import can_resume, end_abandoned
from pipeline.tokenizer.fast import FastTokenizer
from pipeline.tokenizer.tradeoff import SCALES, measure_tradeoff
from pipeline.tracking.query import StoredRun, artifact, fetch, is_model, search
from pipeline.tracking.run import Place, TrackedRun, start_run, status_of
from pipeline.tracking.store import Store, open_store

JOB_KINDS = ("model", "ensemble", "original", "yardstick")  # of the runs that jobs make
TRAINING_SHARE = 0.9  # of a member's time; the rest is its evaluation
TRADEOFF_CHUNKS = 10_000  # of each part of the split: enough for two digits


@dataclass(frozen=True)
class Member:
    """One model of a study, and the place of its run."""

    method: str
    settings: TrainSettings

    @property
    def name(self) -> str:
        """Its name within the study."""
        return f"{self.method} seed {self.settings.seed}"

    def place(self, study: str, parent: str) -> Place:
        """Where its run goes: below its method's run `parent`."""
        tags = {"study": study, "kind": "model", "method": self.method, "seed": str(self.settings.seed)}
        return Place(parent, tags)


@dataclass(frozen=True)
class Parts:
    """What a study is made of: its own run, its methods' runs, and what is to be evaluated beside the models."""

    study: TrackedRun
    methods: dict[str, TrackedRun]
    originals: Sequence[tuple[Path, str]]  # files and their tokenizers
    tokenizer: FastTokenizer | None  # of a method with tokens


def missing_jobs(
    store: Store, settings: EnsembleSettings, members: Sequence[Member], parts: Parts
) -> tuple[list[Job[str]], int]:
    """The jobs that are left to do, and how many models need none."""
    protocol = Protocol(settings.episodes, settings.evaluation_seed, settings.pairs)
    trained, judged = find_done(store, settings.study, protocol)
    place = Place(parts.study.run_id, {"study": settings.study})

    def beside(kind: str, name: str, judge: Callable[[Report], Judged]) -> list[Job[str]]:
        if (kind, name) in judged:
            return []
        below = replace(place, tags=place.tags | {"kind": kind})
        return [Job(name, kind, partial(judge_beside, judge, below, protocol))]

    jobs: list[Job[str]] = []
    if parts.tokenizer is not None:
        digest = file_digest(settings.pairs)
        if fetch(store, parts.study.run_id).tags.get(TRADEOFF_TAG) != digest:
            chosen = parts.tokenizer.summary
            work = partial(log_tradeoff, parts.study.run_id, settings.pairs, digest, chosen)
            jobs.append(Job("FAST trade-off", "tokenizer", work))
    for path, tokenizer in parts.originals:
        jobs += beside("original", f"original {path.stem}", partial(judge_file, path, tokenizer, protocol))
    found = 0
    for member in members:
        earlier = trained.get(member.name)
        if earlier is not None and earlier.run_id in judged:
            found += 1
            continue
        below = member.place(settings.study, parts.methods[member.method].run_id)
        work = partial(make_member, member, below, protocol)
        jobs.append(Job(member.name, member.method, work))
    for name in YARDSTICKS:
        jobs += beside("yardstick", name, partial(judge_yardstick, name, protocol))
    return jobs, found


def find_done(store: Store, study: str, protocol: Protocol) -> tuple[dict[str, StoredRun], set[str | tuple[str, str]]]:
    """The finished models by member name, and all that is evaluated by this protocol: run ids, and kinds with names.

    Runs that a study before us left running are ended: we hold the study's lock, so their process is gone.
    """
    trained: dict[str, StoredRun] = {}
    judged: set[str | tuple[str, str]] = set()
    for run in search(store, study=study):
        kind = run.tags.get("kind")
        if kind in JOB_KINDS and run.status == "RUNNING":
            end_abandoned(TrackedRun(store, run.run_id), run.name, "the study's process was gone")
        elif run.status == "FINISHED":
            if is_model(run):
                trained[job_name(run)] = run
            if kind in JOB_KINDS and run.tags.get("evaluation") == str(protocol):
                judged |= {run.run_id, (kind, run.name)}
    return trained, judged


def job_name(run: StoredRun) -> str:
    """The name of the job that makes, or made, a run of a study."""
    return f"{run.tags.get('method')} seed {run.tags.get('seed')}" if run.tags.get("kind") == "model" else run.name


def make_member(member: Member, place: Place, protocol: Protocol, report: Report) -> str:
    """Train a member and evaluate it; returns the run's id.

    A run of the study that has trained it already counts, and one that broke off goes on.
    """
    earlier = search(open_store(), **place.tags)
    finished = [run for run in earlier if run.status == "FINISHED" and is_model(run)]
    if finished:
        run_id = finished[-1].run_id
    else:
        resumable = [run.run_id for run in earlier if can_resume(run.run_id, member.settings)]
        made = train(
            METHODS[member.method],
            member.settings.model_copy(update={"resume": resumable[-1] if resumable else NONE}),
            lambda _line: None,  # the lines are in the run's log
            lambda step: report(TRAINING_SHARE * step.steps_done / step.steps_total),
            place,
        )
        run_id = made.run_id
    judge_run(run_id, protocol, lambda share: report(TRAINING_SHARE + (1 - TRAINING_SHARE) * share))
    return run_id


def average_jobs(store: Store, settings: EnsembleSettings, parts: Parts) -> list[Job[str]]:
    """The jobs that make one policy of all finished models of each method, where these have none yet, and evaluate it.

    It plans the mean of their chunks. Other models, as after a study has grown, are another ensemble: a run of its own.
    """
    protocol = Protocol(settings.episodes, settings.evaluation_seed, settings.pairs)
    runs = search(store, study=settings.study)
    trained, judged = find_done(store, settings.study, protocol)
    jobs: list[Job[str]] = []
    for method, parent in parts.methods.items():
        members = [run for run in trained.values() if run.tags["method"] == method]
        members.sort(key=lambda run: int(run.params["seed"]))
        if not 1 < len(members) <= MOST_MEMBERS:
            continue
        digest = members_digest([run.tags["weights_sha256"] for run in members])
        tags = {"study": settings.study, "kind": "ensemble", "method": method, "members": digest}
        earlier = [run for run in runs if run.status == "FINISHED" and tags.items() <= run.tags.items()]
        if any(run.run_id in judged for run in earlier):
            continue
        name = f"{method} ensemble of {len(members)}"
        work = (
            partial(log_run_judged, earlier[-1].run_id, protocol)
            if earlier
            else partial(make_average, name, members, Place(parent.run_id, tags), protocol)
        )
        jobs.append(Job(name, "ensemble", work))
    return jobs


def log_run_judged(run_id: str, protocol: Protocol, report: Report) -> str:
    """Evaluate the model of a run and log the scores to it; returns the run's id."""
    judge_run(run_id, protocol, report)
    return run_id


def make_average(name: str, members: Sequence[StoredRun], place: Place, protocol: Protocol, report: Report) -> str:
    """Write the members' files as one policy, evaluate it, and log both as a run; returns the run's id."""
    store = open_store()
    with ExitStack() as stack:
        file = Path(stack.enter_context(TemporaryDirectory())) / f"{name.replace(' ', '_')}.pth"
        files = [stack.enter_context(artifact(store, run.run_id, f"{run.tags['name']}.pth")) for run in members]
        save_ensemble(file, name, files)
        return judge_beside(partial(judge_file, file, NONE, protocol), place, protocol, report, file)


def judge_beside(
    judge: Callable[[Report], Judged], place: Place, protocol: Protocol, report: Report, file: Path | None = None
) -> str:
    """Evaluate what needs no training, and log it as a run of its own, with its `file`; returns the run's id."""
    judged = judge(report)
    run = start_run(open_store(), "", judged.name, chosen=True, place=place)
    try:
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
    run.json(f"{EVALUATION}/{TRADEOFF_FILE}", {"rows": rows, "chosen": chosen})
    run.tags({TRADEOFF_TAG: digest})
    return run_id
