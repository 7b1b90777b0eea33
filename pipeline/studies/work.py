"""What a process does for each job of a study: it trains and evaluates models, makes averages, measures FAST."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.config import NONE
from pipeline.data.pairs import load_action_pairs
from pipeline.data.split import split_pairs
from pipeline.errors import RunError, one_line
from pipeline.evaluation.expert import evenly_spaced
from pipeline.evaluation.protocol import Protocol
from pipeline.evaluation.stored import FOLDER
from pipeline.executors.jobs import Report
from pipeline.methods.registry import METHODS
from pipeline.names import CHUNK, KIND, METHOD, NAME, SEED, STUDY, Kind
from pipeline.policies.checkpoint import load_checkpoint, save_checkpoint
from pipeline.policies.ensemble import save_ensemble
from pipeline.results.figures import TRADEOFF_FILE, TRADEOFF_TAG
from pipeline.stages.judging import EvaluationSpec, Judged, judge_file, judge_run, log_judged
from pipeline.stages.say import silent
from pipeline.stages.train import train
from pipeline.stages.train_together import train_together
from pipeline.stages.unfinished import can_resume
from pipeline.studies.groups import Member, member_name
from pipeline.tokenizer.tradeoff import SCALES, measure_tradeoff
from pipeline.tracking.begin import Place, start_run
from pipeline.tracking.owner import owner_elsewhere
from pipeline.tracking.query import StoredRun, group_of, is_model, model_artifact, search
from pipeline.tracking.run import TrackedRun, status_of
from pipeline.tracking.store import open_store

NOT_IN_FILES, MOST_LETTERS = re.compile(r"[^\w.=-]+"), 100  # of the names of files
TRAINING_SHARE = 0.9  # of a member's time; the rest is its evaluation
TRADEOFF_CHUNKS = 10_000  # of each part of the split: enough for two digits


def make_member(member: Member, place: Place, spec: EvaluationSpec, experiment_id: str, report: Report) -> str:
    """Train a member and evaluate it; returns the run's id.

    A run of the study that has trained it already counts, and one that was interrupted is resumed. Raises `RunError` if
    another machine is training it.
    """
    earlier = _earlier_runs([member], place, experiment_id, {SEED: place.tags[SEED]})[member.name]
    finished = _finished(earlier)
    run_id = finished[-1] if finished else _train_member(member, place, earlier, report)
    judge_run(run_id, spec, lambda share: report(TRAINING_SHARE + (1 - TRAINING_SHARE) * share))
    return run_id


def make_group(members: Sequence[tuple[Member, Place]], experiment_id: str, report: Report) -> str:
    """Train members at once, see `make_together`; returns the first one's group. Raises `RunError` if some failed."""
    require_none(make_together(members, experiment_id, report))
    return members[0][0].group


def make_together(members: Sequence[tuple[Member, Place]], experiment_id: str, report: Report) -> dict[str, Exception]:
    """Train members of one method at once, as one stack; returns the errors of those that failed, by their names.

    Those that a run of the study has trained already count, and interrupted ones are resumed. Raises `RunError` if
    another machine is training one.
    """
    first, place_of_first = members[0]
    earlier = _earlier_runs([member for member, _ in members], place_of_first, experiment_id, {})
    names, asked = [], []
    for member, place in members:
        runs = earlier[member.name]
        if not _finished(runs):
            resumable = [run.run_id for run in runs if can_resume(run.run_id, member.settings, together=True)]
            resume = resumable[-1] if resumable else NONE
            names.append(member.name)
            asked.append((member.settings.model_copy(update={"resume": resume}), place))
    if not asked:
        return {}
    errors = train_together(METHODS[first.method], asked, silent, report)
    return {names[number]: errors[number] for number in sorted(errors)}


def require_none(errors: Mapping[str, Exception]) -> None:
    """Raise `RunError` that tells the errors of members, by their names, if there are any."""
    if errors:
        raise RunError("; ".join(f"{name}: {one_line(error)}" for name, error in errors.items()))


def _earlier_runs(
    members: Sequence[Member], place: Place, experiment_id: str, tags: Mapping[str, str]
) -> dict[str, list[StoredRun]]:
    """The runs of the study of a `place` that trained members, by their names, by one look at the store.

    `tags` narrow the look down. Raises `RunError` if another machine is at one.
    """
    earlier: dict[str, list[StoredRun]] = {member.name: [] for member in members}
    for run in search(open_store(), {STUDY: place.tags[STUDY], KIND: Kind.MODEL, **tags}):
        name = member_name(group_of(run), run.tags.get(SEED, ""))
        if run.experiment_id != experiment_id or name not in earlier:
            continue
        if (who := owner_elsewhere(run)) is not None:
            raise RunError(f"{name}: expected nobody to train it, found run {run.run_id}: {who}. Wait for it.")
        earlier[name].append(run)
    return earlier


def _finished(runs: Sequence[StoredRun]) -> list[str]:
    return [run.run_id for run in runs if run.status == "FINISHED" and is_model(run)]


def _train_member(member: Member, place: Place, earlier: Sequence[StoredRun], report: Report) -> str:
    resumable = [run.run_id for run in earlier if can_resume(run.run_id, member.settings)]
    made = train(
        METHODS[member.method],
        member.settings.model_copy(update={"resume": resumable[-1] if resumable else NONE}),
        silent,  # the lines are in the run's log
        lambda step: report(TRAINING_SHARE * step.steps_done / step.steps_total),
        place,
    )
    return made.run_id


def make_acting(member: Member, model: StoredRun, place: Place, spec: EvaluationSpec, report: Report) -> str:
    """Write a trained model as one that acts as the member does, evaluate it, and log both; returns the run's id."""
    method = METHODS[member.method]
    with TemporaryDirectory() as folder, model_artifact(open_store(), model) as trained:
        checkpoint = load_checkpoint(trained).acting_by(method.acting(member.settings).model_dump())
        file = Path(folder) / f"{file_name(member.name)}.pth"
        save_checkpoint(file, replace(checkpoint, provenance=checkpoint.provenance | {NAME: file.stem}))
        judge = partial(judge_file, file, NONE, spec)
        params = checkpoint.settings.model_dump(mode="json", exclude={"resume"})
        return judge_beside(judge, place, spec.protocol, report, file, params)


def judge_again(run_id: str, spec: EvaluationSpec, report: Report) -> str:
    """Evaluate the model of a run and log the scores to it; returns the run's id."""
    judge_run(run_id, spec, report)
    return run_id


def make_average(name: str, members: Sequence[StoredRun], place: Place, spec: EvaluationSpec, report: Report) -> str:
    """Write the members' files as one policy, evaluate it, and log both as a run; returns the run's id."""
    store = open_store()
    with ExitStack() as stack:
        file = Path(stack.enter_context(TemporaryDirectory())) / f"{file_name(name)}.pth"
        files = [stack.enter_context(model_artifact(store, run)) for run in members]
        save_ensemble(file, name, files)
        judge = partial(judge_file, file, NONE, spec)
        chunk = {CHUNK: members[0].tags[CHUNK]} if CHUNK in members[0].tags else {}  # older runs have none
        return judge_beside(judge, place, spec.protocol, report, file, tags=chunk)


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
    tags: Mapping[str, str] | None = None,
) -> str:
    """Evaluate what needs no training, and log it as a run of its own, with its `file`; returns the run's id."""
    judged = judge(report)
    run = start_run(open_store(), "", place.name or judged.name, chosen=True, place=place)
    try:
        run.params(params or {})
        run.tags({METHOD: judged.method} | ({NAME: file.stem} if file else {}) | dict(tags or {}))
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
    parts = split.train, split.val
    train_chunks, held_out = (pairs.action_chunk[evenly_spaced(rows, TRADEOFF_CHUNKS)] for rows in parts)
    rows = []
    for number, scale in enumerate(SCALES):
        report(number / len(SCALES))
        rows += [asdict(row) for row in measure_tradeoff(train_chunks, held_out, scale)]
    run = TrackedRun(open_store(), run_id)
    run.json(f"{FOLDER}/{TRADEOFF_FILE}", {"rows": rows, "chosen": chosen})
    run.tags({TRADEOFF_TAG: digest})
    return run_id
