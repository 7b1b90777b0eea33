"""An overview of data, runs, studies and models, and the next step. It changes nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path

from pipeline.config import DATA
from pipeline.data.npz import read_shapes
from pipeline.errors import UserError, one_line, reason, shown_uri
from pipeline.evaluation.protocol import VERSION
from pipeline.evaluation.stored import protocol_of
from pipeline.files import file_digest
from pipeline.names import EVALUATION, KIND, METHOD, STUDY, Kind
from pipeline.stages.changed import Digest, changed_data
from pipeline.tracking.journal import journals_folder
from pipeline.tracking.leftover import find_leftovers
from pipeline.tracking.mirror import MIRROR, MODELS
from pipeline.tracking.query import StoredRun, experiments_of, group_of, is_model, registered_models, search
from pipeline.tracking.store import DEFAULT_STORE, database_file, open_store, tracking_uri

Rows = list[tuple[str, str]]
REPORT = "python -m pipeline report"


def info() -> Rows:
    """Return the overview as names and values, in the order of the workflow; the next step is last."""
    runs, rows = stored_runs()
    patterns = [f"{folder}*.{kind}" for folder in ("", "*/", "*/*/") for kind in ("npz", "json")]
    found = [path for pattern in patterns for path in DATA.glob(pattern)]
    files = sorted(path for path in found if path.is_file())
    exported = list((MIRROR / MODELS).glob("*.onnx"))
    digest = cache(file_digest)  # files may be large
    changed = changed_data(filter(is_training, runs), digest)
    return [
        ("data", "\n".join(describe_file(file, digest) for file in files) or f"none in {DATA}/"),
        *rows,
        *([("data changed", "\n".join(changed))] if changed else []),
        ("exported", f"{len(exported)} models in {MIRROR / MODELS}/" if exported else "none"),
        ("disk", ", ".join(f"{place}/ {megabytes(place)}" for place in (DATA, DEFAULT_STORE.parent, MIRROR))),
        ("next", next_step(bool(list(DATA.glob("training_pairs*.npz"))), runs)),
    ]


def describe_file(path: Path, digest: Digest) -> str:
    """Describe a data file: name, date, digest and arrays."""
    content = ""
    if path.suffix == ".npz":
        try:
            content = ", ".join(f"{name} {shape}" for name, shape in read_shapes(path).items())
        except UserError as error:
            content = f"cannot be read: {reason(error)[:200]}"
    date = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
    return f"{path}  {date}  sha256 {digest(path)[:12]}" + (f"\n    {content}" if content else "")


def stored_runs() -> tuple[list[StoredRun], Rows]:
    """Return the store's runs, and rows about the store; a missing store is not created."""
    uri = shown_uri(tracking_uri())
    if (database := database_file()) and not database.exists():
        return [], [("store", f"{uri}, not there yet"), ("runs", "none"), ("studies", "none")]
    try:
        store = open_store()
        runs, registered = search(store), registered_models(store)
        experiments = experiments_of(store, (run for run in runs if run.tags.get(KIND) == Kind.STUDY))
    except UserError as error:
        return [], [("store", f"{uri}, does not answer: {one_line(error)}")]
    waiting = len([folder for folder in journals_folder().glob("[!.]*") if folder.is_dir()])
    rows = [("store", uri), ("runs", describe_runs(runs)), ("studies", describe_studies(experiments, runs))]
    rows += [("registered", describe_registered(registered))]
    return runs, rows + ([("unfinished", f"{waiting} runs with a journal")] if waiting else [])


def describe_runs(runs: Sequence[StoredRun]) -> str:
    """Count the trainings of each method by status."""
    counts = Counter((run.tags[METHOD], run.status.lower()) for run in runs if is_training(run))
    lines = []
    for method in sorted({method for method, _ in counts}):
        found = {status: count for (name, status), count in counts.items() if name == method}
        lines.append(f"{method}: " + ", ".join(f"{count} {status}" for status, count in sorted(found.items())))
    return "\n".join(lines) or "none"


def is_training(run: StoredRun) -> bool:
    """Tell whether a run is the training of a model, in any status."""
    return METHOD in run.tags and run.tags.get(KIND, Kind.MODEL) == Kind.MODEL


def describe_studies(experiments: Mapping[str, str], runs: Sequence[StoredRun]) -> str:
    """Describe each study's progress; of those with one name also its experiment, whose names are given by id."""
    lines = []
    studies = dict.fromkeys((run.experiment_id, run.tags[STUDY]) for run in runs if run.tags.get(KIND) == Kind.STUDY)
    trainings: dict[tuple[str, str], list[StoredRun]] = {study: [] for study in studies}
    for run in runs:
        place = run.experiment_id, run.tags.get(STUDY, "")
        if place in trainings and is_training(run):
            trainings[place].append(run)
    twice = Counter(name for _, name in studies)
    for (experiment, name), members in trainings.items():
        study = f"{name} of {experiments[experiment]}" if twice[name] > 1 else name
        done = [run for run in members if run.status == "FINISHED" and is_model(run)]
        evaluated = sum((found := protocol_of(run.tags)) is not None and found.version == VERSION for run in done)
        groups = Counter(map(group_of, done))
        about = ", ".join(f"{count} {group}" for group, count in groups.items())
        others = f"; {len(members) - len(done)} not finished" if len(members) > len(done) else ""
        lines.append(f"{study}: {about or 'no model yet'}{others}; {evaluated} of {len(done)} evaluated")
    return "\n".join(lines) or "none"


def describe_registered(models: Mapping[str, Mapping[str, str]]) -> str:
    """List the models in MLflow's registry, with their aliases."""
    return "\n".join(
        f"{name}" + "".join(f", {alias} is version {version}" for alias, version in aliases.items())
        for name, aliases in models.items()
    ) or "none"  # fmt: skip


def megabytes(folder: Path) -> str:
    """Return the size of a folder; links are not followed."""
    total = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return f"{total / 1e6:,.1f} MB" if folder.is_dir() else "absent"


def next_step(pairs: bool, runs: Sequence[StoredRun]) -> str:
    """Return the most likely next command."""
    models = [run for run in runs if run.status == "FINISHED" and is_model(run)]
    if any(not left.obstacle for left in find_leftovers(runs)):
        return "python -m pipeline doctor  (the process of a RUNNING run is gone)"
    if not models:
        return "python -m train.train_pi0" if pairs else "python -m pipeline collect"
    if not any(EVALUATION in run.tags for run in models):
        return f"python -m pipeline evaluate --run {models[-1].run_id}"
    return REPORT
