"""An ensemble: train models of each method with their own seeds, evaluate them all, report.

What runs of the same study in the store have done already is not done again.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.config import NONE, EnsembleSettings
from pipeline.data.pairs import load_action_pairs
from pipeline.errors import DataError, RunError, SettingsError, StoreError, one_line
from pipeline.executors.pool import Event, Failed, Job, run_jobs
from pipeline.methods import METHODS
from pipeline.methods.method import Prepared
from pipeline.policies.load import load_policy
from pipeline.registry.register import register_members
from pipeline.results.report import Reported, report_study
from pipeline.stages.make_data import make_missing_data, require_same_data
from pipeline.stages.train import check_sizes, choose_device
from pipeline.stages.unfinished import end_abandoned
from pipeline.studies.jobs import JOB_KINDS, Member, Parts, average_jobs, job_name, missing_jobs
from pipeline.tracking.query import search
from pipeline.tracking.run import TrackedRun, status_of
from pipeline.tracking.store import Store, home, open_store
from pipeline.tracking.study import open_method, open_study

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


def ensemble(settings: EnsembleSettings, say: Say, watch: Watch) -> Study:
    """Do what is missing of the study, on a pool of processes with one torch thread each, and report on all of it.

    Bad input raises a `UserError` before any work. A member that fails is tried once more, then recorded as failed;
    the others go on.
    """
    started = time.monotonic()
    members = plan_members(settings)
    originals = find_originals(settings)
    prepared = prepare_data(settings, members, say)
    store = open_store()
    with one_at_a_time(settings.study):
        recipes = {method: recipe(settings, method, prepared[method]) for method in settings.method_names}
        for method, values in recipes.items():
            require_same_recipe(store, settings.study, method, values)
        study = open_study(store, settings.study, settings.experiment)
        runs = [study]
        try:
            study.params(settings.model_dump(mode="json"))
            study.json("settings.json", settings.model_dump(mode="json"))
            methods = {method: open_method(store, study, settings.study, method) for method in recipes}
            runs += methods.values()
            for method, values in recipes.items():
                methods[method].params(values)
            tokenizers = [one.interface.tokenizer for one in prepared.values() if one.interface.tokenizer is not None]
            parts = Parts(study, methods, originals, tokenizers[0] if tokenizers else None)
            jobs, found = missing_jobs(store, settings, members, parts)
            failures = run_all(store, settings, jobs, watch)
            averages = average_jobs(store, settings, parts)
            failures += run_all(store, settings, averages, watch)
            study.tags({"failures": "; ".join(failures)[:5000] or NONE})
            say("writing tables and figures")
            reported = report_study(store, settings.study, study, methods)
            register_members(store, settings.study, say)
        except BaseException as error:
            for run in runs:
                with contextlib.suppress(Exception):  # what cannot be told now, doctor or the next call tells
                    run.end(status_of(error))
            if isinstance(error, StoreError):
                raise RunError(f"study '{settings.study}': {one_line(error)} The same command goes on.") from error
            raise
        for run in runs:
            run.end("FAILED" if failures else "FINISHED")
    done = len(jobs) + len(averages) - len(failures)
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
    """Hold the study's lock; raises `SettingsError` if another process has it.

    It stands beside an sqlite store. For a tracking server it stands in this folder, and keeps no other machine away.
    """
    home().mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(home() / f".study-{study}.lock", blocking=False):
            yield
    except Timeout as error:
        raise SettingsError(
            f"study: '{study}' is running already in another process. Wait, or name another."
        ) from error


def recipe(settings: EnsembleSettings, method: str, prepared: Prepared) -> dict[str, str]:
    """What all members of a method share, as text: the settings but for the seed, and the data's digests."""
    shared = settings.member(method, METHODS[method].settings_type, settings.base_seed)
    values = shared.model_dump(mode="json", exclude={"seed", "run_name", "resume", "experiment", "device", "threads"})
    digests = {f"{what}_sha256": digest for what, digest in prepared.digests.items()}
    paths = set(prepared.files) | {"pairs"}  # the same file may stand elsewhere: its digest counts
    return {name: str(value) for name, value in values.items() if name not in paths} | digests


def require_same_recipe(store: Store, study: str, method: str, ours: dict[str, str]) -> None:
    """Raise `SettingsError` if a study of this name has trained the method otherwise."""
    models = [run for run in search(store, study=study, kind="model", method=method) if run.status == "FINISHED"]
    for run in search(store, study=study, kind="method", study_method=method) + models:
        known = run.tags | run.params
        for name, value in ours.items():
            if known.get(name, value) != value:
                raise SettingsError(
                    f"study: '{study}' has {method} models with {name} {known[name]}, and {value} is asked for. "
                    "Name another study with --study, or use the same settings and data."
                )


def run_all(store: Store, settings: EnsembleSettings, jobs: list[Job[str]], watch: Watch) -> list[str]:
    """Run the jobs, end the runs of processes that died, and return the failures, a line each."""
    failures = []
    with closing(run_jobs(jobs, settings.workers)) as events:
        for event in events:
            if isinstance(event, Failed):
                name = jobs[event.number].name
                with contextlib.suppress(StoreError):  # it is away: the next call, or doctor, ends the run
                    for run in search(store, study=settings.study):
                        if run.status == "RUNNING" and run.tags.get("kind") in JOB_KINDS and job_name(run) == name:
                            end_abandoned(TrackedRun(store, run.run_id), run.name, event.reason)
                if event.final:
                    failures.append(f"{name}: {event.reason}")
            watch(event)
    return failures
