"""The report of a study: to its runs, into the mirror and into the registry."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError, StoreError
from pipeline.names import EVALUATION, LOOKED, WEIGHTS_SHA256
from pipeline.registry.register import register_members
from pipeline.results.figures import TRADEOFF_TAG
from pipeline.results.gather import Gathered, gather
from pipeline.results.write import write_files
from pipeline.stages.say import Say
from pipeline.studies.jobs import Runs, find_earlier
from pipeline.studies.study_plan import Plan
from pipeline.studies.verdict import group_metrics, study_metrics, verdict_tags
from pipeline.tracking.mirror import MIRROR
from pipeline.tracking.query import StoredRun, artifact, fetch
from pipeline.tracking.store import Store
from pipeline.versions import code_digest

REPORTS = MIRROR / "reports"
FOLDER = "report"  # of the study's artifacts
REPORT = "report.json"  # names its runs
PUBLISHED = "published"  # tag of a study's run: digest of what its report and its registered models were made from


def publish(store: Store, plan: Plan, runs: Runs, say: Say) -> tuple[Gathered | None, tuple[Path, ...]]:
    """Report on the study to its runs, into the mirror and into the registry, unless nothing has changed since."""
    try:
        gathered = gather(store, plan.study, plan.experiment, plan.settings.task)
    except SettingsError:  # no model is finished
        return None, ()
    folder, run_id = REPORTS / plan.study, runs.study.run_id
    tags = fetch(store, run_id).tags
    told = verdict_tags(gathered.comparison, plan.study, tags.get(LOOKED, ""))
    earlier = find_earlier(store, plan.study, plan.experiment, plan.evaluation)
    digest = _digest(earlier.runs, plan, [told[LOOKED], tags.get(TRADEOFF_TAG, "")])
    files = tuple(sorted(folder.glob("[!.]*")))
    if files and tags.get(PUBLISHED) == digest and holds_report_of(store, run_id, folder):
        say("the report and the registered models are up to date")
        return gathered, files
    if told[LOOKED] != tags.get(LOOKED):  # the report notes that the verdict was read at several numbers of models
        runs.study.tags({LOOKED: told[LOOKED]})
        gathered = gather(store, plan.study, plan.experiment, plan.settings.task)
        told = verdict_tags(gathered.comparison, plan.study, told[LOOKED])
    say("writing tables and figures")
    written, _missing = write_files(store, gathered, folder)
    for path in written:
        runs.study.file(path, FOLDER)
    for group in gathered.comparison.of_kind("model"):
        if group.name in runs.groups:
            runs.groups[group.name].metrics(group_metrics(group))
            runs.groups[group.name].flush()
    runs.study.metrics(study_metrics(gathered.comparison))
    runs.study.flush()
    registered = register_members(store, plan.study, plan.experiment, say, plan.settings.task)
    runs.study.tags(told | ({PUBLISHED: digest} if registered else {}))
    return gathered, tuple(written)


def holds_report_of(store: Store, run_id: str, folder: Path) -> bool:
    """Whether a folder has a study's report, and not that of a study of the same name in another experiment."""
    try:
        with artifact(store, run_id, f"{FOLDER}/{REPORT}") as ours:
            return ours.read_bytes() == (folder / REPORT).read_bytes()
    except (StoreError, OSError):
        return False


def _digest(runs: Sequence[StoredRun], plan: Plan, of_study: Sequence[str]) -> str:
    """sha256 over all that a report is made from: the runs with their weights and evaluations, tags of the study's run,
    and our code.
    """
    parts: list[Any] = sorted(
        (run.run_id, run.tags.get(WEIGHTS_SHA256, ""), run.tags.get(EVALUATION, "")) for run in runs
    )
    return sha256(repr([parts, plan.study, plan.design, *of_study, code_digest()]).encode()).hexdigest()
