"""An ensemble: train models of each method with their own seeds, evaluate them all, report.

What runs of the same study in the store have done already is not done again.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.config import NONE, EnsembleSettings, TrainSettings
from pipeline.data.pairs import load_action_pairs
from pipeline.data.split import split_pairs
from pipeline.errors import DataError, SettingsError
from pipeline.evaluation.expert import spread
from pipeline.evaluation.yardsticks import YARDSTICKS
from pipeline.executors.pool import Event, Failed, Job, Report, run_jobs
from pipeline.files import file_digest
from pipeline.methods import METHODS
from pipeline.methods.method import Prepared
from pipeline.policies.load import load_policy
from pipeline.tokenizer.tradeoff import measure_tradeoff
from pipeline.tracking.query import StoredRun, fetch, search
from pipeline.tracking.run import Place, TrackedRun, start_run
from pipeline.tracking.store import Store, open_store
from pipeline.tracking.study import open_part, open_study
from pipeline.workflows.evaluate import (
    EVALUATION,
    Judged,
    Protocol,
    judge_file,
    judge_run,
    judge_yardstick,
    log_judged,
)
from pipeline.workflows.make_data import make_missing_data, require_same_data
from pipeline.workflows.report import MIRROR, TRADEOFF_FILE, TRADEOFF_TAG, Reported, report_study
from pipeline.workflows.train import check_sizes, choose_device, end_abandoned, train

TRADEOFF_CHUNKS = 10_000  # of each part of the split: enough for two digits
TRAINING_SHARE = 0.9  # of a member's time; the rest is its evaluation

Say = Callable[[str], None]
Watch = Callable[[Event], None]


@dataclass(frozen=True)
class Study:
    """What a study left."""

    run_id: str
    url: str
    done: int  # jobs of this call
    found: int  # models that earlier calls had finished
    failures: tuple[str, ...]
    seconds: float
    reported: Reported | None  # None where no model was finished


@dataclass(frozen=True)
class Member:
    """One model of a study."""

    method: str
    settings: TrainSettings

    @property
    def name(self) -> str:
        """Its name within the study."""
        return f"{self.method} seed {self.settings.seed}"


def ensemble(settings: EnsembleSettings, say: Say, watch: Watch) -> Study:
    """Do what is missing of the study, on a pool of processes with one torch thread each, and report on all of it.

    Bad input raises a `UserError` before any work. A member that fails is tried once more, then recorded as failed;
    the others go on.
    """
    started = time.monotonic()
    members = plan_members(settings)
    prepared = prepare_data(settings, members, say)
    originals = find_originals(settings)
    with one_at_a_time(settings.study):
        store = open_store()
        for method in settings.method_names:
            require_same_recipe(store, settings, method, recipe(settings, method, prepared[method]))
        study = open_study(store, settings.study, settings.experiment)
        parts = [study]
        try:
            study.params(settings.model_dump(mode="json"))
            study.json("settings.json", settings.model_dump(mode="json"))
            places = {}
            for method in settings.method_names:
                tags = {"study": settings.study, "kind": "method", "study_method": method}
                part = open_part(store, study, f"{settings.study} {method}", tags)
                part.params(recipe(settings, method, prepared[method]))
                parts.append(part)
                places[method] = Place(part.run_id, {"study": settings.study, "kind": "model", "method": method})
            jobs, found = missing_jobs(store, settings, members, places, study, originals)
            jobs = tradeoff_jobs(store, settings, prepared, study) + jobs
            failures = run_all(store, settings, jobs, watch)
            reported = report_study(
                store, settings.study, study, dict(zip(settings.method_names, parts[1:], strict=True))
            )
            study.tags({"failures": "; ".join(failures)[:5000] or NONE})
        except BaseException as error:
            for run in parts:
                run.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        for run in parts:
            run.end("FAILED" if failures else "FINISHED")
    done = len(jobs) - len(failures)
    return Study(study.run_id, study.url, done, found, tuple(failures), time.monotonic() - started, reported)


def plan_members(settings: EnsembleSettings) -> list[Member]:
    """All members, seed by seed, so that a study that is cut short has whole pairs; raises `SettingsError`."""
    unknown = [name for name in settings.method_names if name not in METHODS]
    if unknown:
        raise SettingsError(f"methods: expected some of {', '.join(METHODS)}, found '{unknown[0]}'. See --help.")
    return [
        Member(name, settings.member(name, METHODS[name].settings_type, settings.base_seed + number))
        for number in range(settings.n_models)
        for name in settings.method_names
    ]


def prepare_data(settings: EnsembleSettings, members: list[Member], say: Say) -> dict[str, Prepared]:
    """Make missing default data, and check each method's data before anything is started; raises `UserError` kinds."""
    prepared: dict[str, Prepared] = {}
    for member in members[: len(settings.method_names)]:
        choose_device(member.settings.device)
        make_missing_data(member.settings, say)
        prepared[member.method] = METHODS[member.method].prepare(member.settings)
        check_sizes(prepared[member.method].interface)
        for warning in prepared[member.method].warnings:
            say(f"warning: {warning}")
    load_action_pairs(settings.pairs)  # the expert's chunks, whatever the methods
    if len({one.split.digest for one in prepared.values()}) > 1:
        files = " and ".join(str(one.files["data"]) for one in prepared.values())
        raise DataError(f"{files}: expected the same trajectories, found others: the methods would not compare.")
    for one in prepared.values():
        if one.interface.tokenizer is not None:
            require_same_data(one.files["data"], settings.pairs)
    return prepared


def find_originals(settings: EnsembleSettings) -> list[tuple[Path, str]]:
    """The reference system's weights to evaluate beside ours, each with its tokenizer; raises `UserError` kinds."""
    if settings.originals == NONE:
        return []
    folder = Path(settings.originals)
    tokenizer = next((str(path) for path in sorted(folder.glob("*tokenizer*.json"))), NONE)
    found = [(path, tokenizer) for path in sorted(folder.glob("*.pth"))]
    if not found:
        raise SettingsError(f"originals: expected a folder with .pth files, found none in '{folder}'.")
    for path, _ in found:
        load_policy(path, None if tokenizer == NONE else tokenizer)
    return found


@contextmanager
def one_at_a_time(study: str) -> Iterator[None]:
    """Hold the study's lock in the mirror; raises `SettingsError` if another process has it."""
    MIRROR.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(MIRROR / f".{study}.lock", blocking=False):
            yield
    except Timeout as error:
        raise SettingsError(
            f"study: '{study}' is running already in another process. Wait, or name another."
        ) from error


def recipe(settings: EnsembleSettings, method: str, prepared: Prepared) -> dict[str, str]:
    """What all members of a method share, as text: the settings but for the seed, and the data's digests."""
    shared = settings.member(method, METHODS[method].settings_type, settings.base_seed)
    values = shared.model_dump(mode="json", exclude={"seed", "run_name", "experiment", "device", "threads"})
    digests = {f"{what}_sha256": file_digest(path) for what, path in prepared.files.items()}
    paths = set(prepared.files) | {"pairs"}  # the same file may stand elsewhere: its digest counts
    return {name: str(value) for name, value in values.items() if name not in paths} | digests


def require_same_recipe(store: Store, settings: EnsembleSettings, method: str, ours: dict[str, str]) -> None:
    """Raise `SettingsError` if a study of this name has trained the method otherwise."""
    for run in search(store, study=settings.study, kind="method", study_method=method):
        for name, value in ours.items():
            if run.params.get(name, value) != value:
                raise SettingsError(
                    f"study: '{settings.study}' has {method} models with {name} {run.params[name]}, found {value}. "
                    "Name another study with --study, or use the same settings and data."
                )


def missing_jobs(
    store: Store,
    settings: EnsembleSettings,
    members: list[Member],
    places: dict[str, Place],
    study: TrackedRun,
    originals: list[tuple[Path, str]],
) -> tuple[list[Job[str]], int]:
    """The jobs that are left to do, and how many models need none."""
    protocol = Protocol(settings.episodes, settings.evaluation_seed, settings.pairs)
    runs = search(store, study=settings.study)
    trained: dict[tuple[str, str], StoredRun] = {}
    judged = set()
    for run in runs:
        tags = run.tags
        if tags["kind"] == "model" and run.status == "RUNNING":  # we hold the lock, so its process is gone
            end_abandoned(TrackedRun(store, run.run_id), run.name, "the study's process was gone")
        elif run.status == "FINISHED":
            if tags["kind"] == "model":
                trained[tags["method"], tags["seed"]] = run
            if tags.get("evaluation") == str(protocol):
                judged |= {run.run_id, (tags["kind"], run.name)}

    jobs: list[Job[str]] = []
    for member in members:
        earlier = trained.get((member.method, str(member.settings.seed)))
        if earlier is None or earlier.run_id not in judged:
            run_id = earlier.run_id if earlier else None
            work = partial(make_member, member, places[member.method], run_id, protocol)
            jobs.append(Job(member.name, member.method, work))
    found = len(members) - len(jobs)
    for path, tokenizer in originals:  # first, because they take longest
        judge = partial(judge_file, path, tokenizer, protocol, None)
        if ("original", f"original {path.stem}") not in judged:
            jobs.insert(0, _job_beside(study, settings.study, "original", f"original {path.stem}", judge, protocol))
    for name in YARDSTICKS:
        if ("yardstick", name) not in judged:
            judge = partial(judge_yardstick, name, protocol)
            jobs.append(_job_beside(study, settings.study, "yardstick", name, judge, protocol))
    return jobs, found


def tradeoff_jobs(
    store: Store, settings: EnsembleSettings, prepared: dict[str, Prepared], study: TrackedRun
) -> list[Job[str]]:
    """The job of measuring what FAST trades on these data, if a method has tokens and it is not done."""
    tokenizers = [one.interface.tokenizer for one in prepared.values() if one.interface.tokenizer is not None]
    digest = file_digest(settings.pairs)
    if not tokenizers or fetch(store, study.run_id).tags.get(TRADEOFF_TAG) == digest:
        return []
    chosen = (tokenizers[0].scale, tokenizers[0].vocabulary)
    return [Job("FAST trade-off", "tokenizer", partial(log_tradeoff, study.run_id, settings.pairs, digest, chosen))]


def log_tradeoff(run_id: str, pairs_file: Path, digest: str, chosen: tuple[float, int], report: Report) -> str:
    """Measure what FAST trades, fitted on the training split, and log it to the study's run; returns the run's id."""
    pairs = load_action_pairs(pairs_file)
    split = split_pairs(pairs.trajectory, len(pairs.state))
    train, held_out = (pairs.action_chunk[spread(rows, TRADEOFF_CHUNKS)] for rows in (split.train, split.val))
    rows = [asdict(row) for row in measure_tradeoff(train, held_out)]
    run = TrackedRun(open_store(), run_id)
    run.json(f"{EVALUATION}/{TRADEOFF_FILE}", {"rows": rows, "chosen": chosen})
    run.tags({TRADEOFF_TAG: digest})
    return run_id


def _job_beside(
    study: TrackedRun, name: str, kind: str, label: str, judge: Callable[[Report], Judged], protocol: Protocol
) -> Job[str]:
    place = Place(study.run_id, {"study": name, "kind": kind})
    return Job(label, kind, partial(judge_beside, judge, place, protocol))


def make_member(member: Member, place: Place, run_id: str | None, protocol: Protocol, report: Report) -> str:
    """Train a member, unless its run `run_id` has done so, and evaluate it; returns the run's id."""
    if run_id is None:
        place = replace(place, tags=place.tags | {"seed": str(member.settings.seed)})
        made = train(
            METHODS[member.method],
            member.settings,
            lambda _line: None,  # the lines are in the run's log
            lambda step: report(TRAINING_SHARE * step.steps_done / step.steps_total),
            place,
        )
        run_id = made.run_id
    judge_run(run_id, protocol, lambda share: report(TRAINING_SHARE + (1 - TRAINING_SHARE) * share))
    return run_id


def judge_beside(judge: Callable[[Report], Judged], place: Place, protocol: Protocol, report: Report) -> str:
    """Evaluate what needs no training, and log it as a run of its own; returns the run's id."""
    judged = judge(report)
    run = start_run(open_store(), "", judged.name, chosen=True, place=place)
    log_judged(run, judged, protocol)
    run.tags({"method": judged.method})
    run.end("FINISHED")
    return run.run_id


def run_all(store: Store, settings: EnsembleSettings, jobs: list[Job[str]], watch: Watch) -> list[str]:
    """Run the jobs, end the runs of those that died, and return the failures, a line each."""
    failures = []
    for event in run_jobs(jobs, settings.workers):
        if isinstance(event, Failed):
            name = jobs[event.number].name
            for run in search(store, study=settings.study, kind="model"):
                if run.status == "RUNNING" and f"{run.tags['method']} seed {run.tags['seed']}" == name:
                    end_abandoned(TrackedRun(store, run.run_id), run.name, event.reason)
            if event.final:
                failures.append(f"{name}: {event.reason}")
        watch(event)
    return failures
