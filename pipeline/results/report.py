"""The report: what MLflow knows of evaluated models, as a comparison, tables and figures."""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.config import ALL, ReportSettings
from pipeline.errors import SettingsError
from pipeline.evaluation.control import Condition
from pipeline.files import whole_file
from pipeline.methods import METHODS
from pipeline.report.comparison import Comparison, Group, Model, Where, compare_models
from pipeline.report.figures import save
from pipeline.report.overview import as_markdown, as_rows, as_values
from pipeline.report.scores import COSTS, SCORES
from pipeline.results.figures import draw_figures
from pipeline.results.page import make_page
from pipeline.stages.evaluate import MEAN, UNFINISHED, parse_protocol
from pipeline.tracking.query import StoredRun, is_ensemble, is_model, search
from pipeline.tracking.run import TrackedRun
from pipeline.tracking.store import Store, open_store

MIRROR, FOLDER = Path("train/reports"), "report"
CONDITION = re.compile(r"noise([\d.e-]+)_replan(\d+)")
BESIDE = ("ensemble", "original", "yardstick")  # kinds of runs that stand beside models
DIGESTS = ("data_sha256", "tokenizer_sha256")
NOT_A_DIFFERENCE = {"seed", "run_name", "experiment", "device", "threads", "pairs", "tokenizer"}  # of training


def gather(store: Store, study: str) -> Comparison:
    """Query the store and compare what is there; `study` "all" means every finished model, by hand or of a study.

    Raises `SettingsError` if there is nothing to compare.
    """
    found = search(store) if study == ALL else search(store, study=study)
    found = [run for run in found if run.status == "FINISHED"]
    models = [run for run in found if is_model(run)]
    beside = newest_ensembles([run for run in found if run.tags.get("kind") in BESIDE and "method" in run.tags])
    if not models:
        what = "a store with finished models" if study == ALL else f"a study '{study}' with finished models"
        raise SettingsError(f"report: expected {what}, found none. Train some, e.g. with 'mlflow run . -e ensemble'.")
    notes = []
    protocols = Counter(name for run in models if (name := evaluation_of(run)))
    protocol = protocols.most_common(1)[0][0] if protocols else "none yet"
    unjudged = [run for run in models if not evaluation_of(run)]
    if unjudged:
        notes.append(
            f"{len(unjudged)} of {len(models)} models have not been evaluated and count for losses and costs only: "
            f"{evaluate_command(protocol, unjudged)}"
        )
    others = [run for run in models + beside if evaluation_of(run) not in (None, protocol)]
    if others:
        again = [run for run in others if is_model(run) or is_ensemble(run)]
        notes.append(
            f"{len(others)} runs were evaluated otherwise than by {protocol}: their scores are left out. "
            f"To have them in: {evaluate_command(protocol, again)}"
        )

    groups = group_names(models)
    chosen: dict[tuple[str, str], Model] = {}
    # Of runs that repeat a group and seed, an evaluated one stands for the others, then the newest.
    for run in sorted(models, key=lambda run: (evaluation_of(run) == protocol, run.started)):
        chosen[groups[run.run_id], run.params["seed"]] = to_model(run, groups[run.run_id], protocol)
    if len(chosen) < len(models):
        repeated = len(models) - len(chosen)
        notes.append(
            f"{repeated} runs repeat the settings and seed of another, evaluated or newer, which stands for them."
        )
    for run in beside:
        if evaluation_of(run) == protocol:
            group = f"original {run.tags['method']}" if run.tags["kind"] == "original" else run.name
            if is_ensemble(run) and len({each.tags.get("study") for each in beside if each.name == run.name}) > 1:
                group = f"{run.name} ({run.tags.get('study')})"
            chosen[group, run.name] = to_model(run, group, protocol)
    order = [*METHODS, *sorted({run.tags["method"] for run in models} - METHODS.keys())]
    rank = {run.run_id: order.index(run.tags["method"]) for run in models + beside if run.tags["method"] in order}
    kept = sorted(chosen.values(), key=lambda model: (rank.get(model.run_id, len(order)), model.group))
    broken = sum(not math.isfinite(value) for model in models for value in model.metrics.values())
    if broken:
        notes.append(f"{broken} numbers of models are not finite and are left out.")
    return compare_models("all runs" if study == ALL else f"study {study}", protocol, kept, notes)


def newest_ensembles(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The runs without ensembles that a newer one of the same study and method, of more models, stands for."""
    newest = {(run.tags.get("study"), run.tags["method"]): run for run in runs if is_ensemble(run)}
    return [run for run in runs if not is_ensemble(run) or run in newest.values()]


def evaluate_command(protocol: str, runs: Sequence[StoredRun]) -> str:
    """The command that evaluates runs by a protocol, the first three of them named."""
    found = parse_protocol(protocol)
    options = f" --episodes {found.episodes} --seed {found.seed}" if found else ""
    ids = " ".join(run.run_id for run in runs[:3])
    return f"python -m pipeline evaluate{options} --run {ids}{' ...' if len(runs) > 3 else ''}"


def evaluation_of(run: StoredRun) -> str | None:
    """By what protocol a run was evaluated; None if it was not, or not to the end."""
    found = run.tags.get("evaluation")
    return None if found == UNFINISHED else found


def group_names(models: Sequence[StoredRun]) -> dict[str, str]:
    """A name for each model's group, by run id: its method, and what differs between models of the method."""
    names = {}
    for method in {run.tags["method"] for run in models}:
        same = [run for run in models if run.tags["method"] == method]
        recipes = {run.run_id: _recipe(run) for run in same}
        keys = sorted({key for found in recipes.values() for key in found})
        differing = [key for key in keys if len({found.get(key, "-") for found in recipes.values()}) > 1]
        for run in same:
            parts = [f"{key.removesuffix('_sha256')}={recipes[run.run_id].get(key, '-')}" for key in differing]
            names[run.run_id] = " ".join([method, *parts])
    return names


def _recipe(run: StoredRun) -> dict[str, str]:
    method = METHODS.get(run.tags["method"])
    fields = method.settings_type.model_fields if method else {}
    params = {name: str(info.default) for name, info in fields.items()} | run.params  # early runs know fewer settings
    settings = {name: _number(value) for name, value in params.items() if name not in NOT_A_DIFFERENCE}
    return settings | {name: run.tags[name][:12] for name in DIGESTS if name in run.tags}


def _number(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def to_model(run: StoredRun, group: str, protocol: str) -> Model:
    """Read a run's finite metrics, in an order that no store decides; its scores only if they are of this protocol."""
    kind = run.tags.get("kind", "model")
    metrics = {name: run.metrics[name] for name in sorted(run.metrics) if math.isfinite(run.metrics[name])}
    scores: dict[str, dict[Where, float]] = {}
    if evaluation_of(run) == protocol:
        for name, value in metrics.items():
            score, _, where = name.partition("/")
            if score in SCORES and (found := CONDITION.fullmatch(where)):
                scores.setdefault(score, {})[float(found[1]), int(found[2])] = value
    return Model(
        group=group,
        kind=kind,  # type: ignore[arg-type]
        loss_unit=" ".join([run.tags["method"], *(run.tags.get(name, "") for name in DIGESTS)]),
        seed=int(run.params["seed"]) if kind == "model" else None,
        name=run.name,
        run_id=run.run_id,
        scores=scores,
        costs={name: metrics[name] for name in COSTS if name in metrics},
    )


@dataclass(frozen=True)
class Reported:
    """A comparison, the files that show it, and what could not be drawn."""

    comparison: Comparison
    files: tuple[Path, ...]
    missing: tuple[str, ...] = ()


def report(settings: ReportSettings) -> Reported:
    """Query and compare; for people (format "text", or a page) also draw, mirror, and log to a study's run."""
    store = open_store()
    comparison = gather(store, settings.study)
    if settings.format != "text" and not settings.html:
        return Reported(comparison, ())
    runs = search(store, study=settings.study, kind="study")
    study = TrackedRun(store, runs[-1].run_id) if runs else None
    return write_files(store, comparison, settings.study, study, settings.html)


def report_study(store: Store, study: str, run: TrackedRun, methods: dict[str, TrackedRun]) -> Reported | None:
    """Report on a study to its run, and log each method's means and deviations to the method's; None without models."""
    try:
        comparison = gather(store, study)
    except SettingsError:
        return None
    reported = write_files(store, comparison, study, run)
    for group in comparison.of_kind("model"):
        if group.name in methods:
            methods[group.name].metrics(method_metrics(group))
            methods[group.name].flush()
    return reported


def method_metrics(group: Group) -> dict[str, float]:
    """Means and deviations over a group's models, as metrics `SCORE_mean/CONDITION` and `SCORE_std/CONDITION`."""
    metrics: dict[str, float] = {}
    named = {
        f"{name}{{}}/{Condition(*where) if where else MEAN}": summary
        for name, by in group.scores.items()
        for where, summary in by.items()
    } | {f"{name}{{}}": summary for name, summary in group.costs.items()}
    for name, summary in named.items():
        metrics[name.format("_mean")] = summary.mean
        if summary.std is not None:
            metrics[name.format("_std")] = summary.std
    return metrics


def write_files(
    store: Store, comparison: Comparison, name: str, study: TrackedRun | None, html: bool = False
) -> Reported:
    """Write tables, figures and, if asked for, the page into the mirror under `name`; log them to the study's run."""
    folder = MIRROR / name
    texts = {
        "report.md": as_markdown(comparison),
        "report.json": json.dumps(as_values(comparison), indent=1, allow_nan=False) + "\n",
        "report.csv": as_csv(comparison),
    }
    drawn, missing = draw_figures(store, comparison, study)
    for figure_name, figure in drawn.items():
        save(figure, folder / f"{figure_name}.png")
    if html:
        texts["report.html"] = make_page(store, comparison, study.run_id if study else None, drawn, missing)
    for file, text in texts.items():
        with whole_file(folder / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    files = (*(folder / file for file in texts), *(folder / f"{figure_name}.png" for figure_name in drawn))
    for path in files:
        if study is not None:
            study.file(path, FOLDER)
    return Reported(comparison, files, tuple(missing))


def as_csv(comparison: Comparison) -> str:
    """Summaries and differences as one long table."""
    return pd.DataFrame(as_rows(comparison)).to_csv(index=False)
