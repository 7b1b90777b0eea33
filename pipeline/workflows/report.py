"""The report: what MLflow knows of evaluated models, as a comparison, tables and figures."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.config import ALL, ReportSettings
from pipeline.env.pendulum import CONTROL_SECONDS, EPISODE_STEPS
from pipeline.errors import SettingsError
from pipeline.evaluation.control import Condition
from pipeline.files import whole_file
from pipeline.report import figures
from pipeline.report.comparison import Comparison, Group, Model, Where, compare_models
from pipeline.report.overview import as_markdown, as_rows, as_values
from pipeline.report.scores import COSTS, SCORES
from pipeline.tracking.query import StoredRun, artifact, fetch, history, search
from pipeline.tracking.run import TrackedRun
from pipeline.tracking.store import Store, open_store
from pipeline.workflows.evaluate import EPISODES_FILE, EVALUATION, MEAN, PLANS_FILE

MIRROR, FOLDER = Path("train/reports"), "report"
TRADEOFF_FILE, TRADEOFF_TAG = "fast_tradeoff.json", "fast_tradeoff"
CONDITION = re.compile(r"noise([\d.e-]+)_replan(\d+)")
KINDS = ("model", "original", "yardstick")
NOT_A_DIFFERENCE = {"seed", "run_name", "experiment", "device", "threads", "pairs", "tokenizer"}  # of training


def gather(store: Store, study: str) -> Comparison:
    """Query the store and compare what is there; `study` "all" means every finished model, by hand or of a study.

    Raises `SettingsError` if there is nothing to compare.
    """
    runs = search(store) if study == ALL else search(store, study=study)
    runs = [run for run in runs if run.status == "FINISHED" and kind_of(run) in KINDS]
    models = [run for run in runs if kind_of(run) == "model"]
    if not models:
        what = "a store with finished models" if study == ALL else f"a study '{study}' with finished models"
        raise SettingsError(f"report: expected {what}, found none. Train some, e.g. with 'mlflow run . -e ensemble'.")
    notes = []
    protocols = Counter(run.tags["evaluation"] for run in models if "evaluation" in run.tags)
    protocol = protocols.most_common(1)[0][0] if protocols else "none yet"
    unjudged = [run for run in models if "evaluation" not in run.tags]
    if unjudged:
        notes.append(
            f"{len(unjudged)} of {len(models)} models have not been evaluated and count for losses and costs only: "
            f"python -m pipeline evaluate --run {' '.join(run.run_id for run in unjudged[:3])}"
            f"{' ...' if len(unjudged) > 3 else ''}"
        )
    others = sum(count for name, count in protocols.items() if name != protocol)
    if others:
        notes.append(f"{others} models were evaluated otherwise than by {protocol}: their scores are left out.")

    groups = group_names(models)
    latest: dict[tuple[str, str], Model] = {}
    for run in runs:  # the oldest first, so the newest stays
        model = to_model(run, groups.get(run.run_id), protocol)
        latest[model.group, str(model.seed) if model.kind == "model" else model.name] = model
    repeated = len(runs) - len(latest)
    if repeated:
        notes.append(f"{repeated} runs repeat the settings and seed of a newer one, which stands for them.")
    kept = [model for model in latest.values() if model.scores or model.kind == "model"]
    return compare_models("all runs" if study == ALL else f"study {study}", protocol, kept, notes)


def kind_of(run: StoredRun) -> str:
    """The kind of a run; models of early versions do not say it, but have weights."""
    return run.tags.get("kind") or ("model" if "weights_sha256" in run.tags else "")


def group_names(models: Sequence[StoredRun]) -> dict[str, str]:
    """A name for each model's group, by run id: its method, and what differs between models of the method."""
    names = {}
    for method in {run.tags["method"] for run in models}:
        same = [run for run in models if run.tags["method"] == method]
        recipes = {run.run_id: _recipe(run) for run in same}
        keys = sorted({key for found in recipes.values() for key in found})
        differing = [key for key in keys if len({found.get(key, "-") for found in recipes.values()}) > 1]
        for run in same:
            parts = [f"{key.removesuffix('_sha256')}={recipes[run.run_id].get(key, '-')[:12]}" for key in differing]
            names[run.run_id] = " ".join([method, *parts])
    return names


def _recipe(run: StoredRun) -> dict[str, str]:
    settings = {name: _number(value) for name, value in run.params.items() if name not in NOT_A_DIFFERENCE}
    return settings | {name: run.tags[name] for name in ("data_sha256", "tokenizer_sha256") if name in run.tags}


def _number(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def to_model(run: StoredRun, group: str | None, protocol: str) -> Model:
    """Read a run's metrics; its scores only if they are of this protocol."""
    kind = kind_of(run)
    scores: dict[str, dict[Where, float]] = {}
    if run.tags.get("evaluation") == protocol:
        for name, value in run.metrics.items():
            score, _, where = name.partition("/")
            if score in SCORES and (found := CONDITION.fullmatch(where)):
                scores.setdefault(score, {})[float(found[1]), int(found[2])] = value
    return Model(
        group=group or (f"original {run.tags['method']}" if kind == "original" else run.name),
        kind=kind,  # type: ignore[arg-type]
        method=run.tags["method"],
        seed=int(run.params["seed"]) if kind == "model" else None,
        name=run.name,
        run_id=run.run_id,
        scores=scores,
        costs={name: run.metrics[name] for name in COSTS if name in run.metrics},
    )


@dataclass(frozen=True)
class Reported:
    """A comparison and the files that show it."""

    comparison: Comparison
    files: tuple[Path, ...]


def report(settings: ReportSettings) -> Reported:
    """Query and compare; for people (format "text") also draw, mirror, and log to the study's run if it is a study."""
    store = open_store()
    comparison = gather(store, settings.study)
    if settings.format != "text":
        return Reported(comparison, ())
    runs = search(store, study=settings.study, kind="study")
    study = TrackedRun(store, runs[-1].run_id) if runs else None
    return Reported(comparison, write_files(store, comparison, settings.study, study))


def report_study(store: Store, study: str, run: TrackedRun, methods: dict[str, TrackedRun]) -> Reported | None:
    """Report on a study to its run, and log each method's means and deviations to the method's; None without models."""
    try:
        comparison = gather(store, study)
    except SettingsError:
        return None
    files = write_files(store, comparison, study, run)
    for group in comparison.of_kind("model"):
        if group.name in methods:
            methods[group.name].metrics(method_metrics(group))
            methods[group.name].flush()
    return Reported(comparison, files)


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


def write_files(store: Store, comparison: Comparison, name: str, study: TrackedRun | None) -> tuple[Path, ...]:
    """Write tables and figures into the mirror under `name`, and log them to the study's run if there is one."""
    folder = MIRROR / name
    texts = {
        "report.md": as_markdown(comparison),
        "report.json": json.dumps(as_values(comparison), indent=1) + "\n",
        "report.csv": as_csv(comparison),
    }
    for file, text in texts.items():
        with whole_file(folder / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    files = (*(folder / file for file in texts), *draw_figures(store, comparison, folder, study))
    for path in files:
        if study is not None:
            study.file(path, FOLDER)
    return files


def as_csv(comparison: Comparison) -> str:
    """Summaries and differences as one long table."""
    return pd.DataFrame(as_rows(comparison)).to_csv(index=False)


def draw_figures(store: Store, comparison: Comparison, folder: Path, study: TrackedRun | None) -> list[Path]:
    """Draw what there is data for."""
    title, drawn = comparison.title, []
    groups = comparison.of_kind("model")

    def path(name: str) -> Path:
        drawn.append(folder / f"{name}.png")
        return drawn[-1]

    if comparison.conditions:
        figures.draw_scores(path("scores"), comparison)
    parts = ("train", "val", "test")
    curves = {
        group.name: {part: [history(store, m.run_id, f"{part}_loss") for m in group.models] for part in parts}
        for group in groups
    }
    figures.draw_losses(path("losses"), title, curves)
    judged = {group.name: [model for model in group.models if model.scores] for group in comparison.groups}
    steps = {
        group.name: converge_steps(store, judged[group.name])
        for group in comparison.of_kind("model", "original")
        if judged[group.name]
    }
    if steps:
        figures.draw_converge_steps(path("converge_steps"), title, steps, EPISODE_STEPS)
    plans = {group.name: found for group in groups if (found := read_plans(store, judged[group.name]))}
    if plans:
        errors = {group.name: _errors(group) for group in groups if group.name in plans}
        figures.draw_plans(path("plans"), title, plans, errors, CONTROL_SECONDS)
    if study is not None and TRADEOFF_TAG in fetch(store, study.run_id).tags:
        with artifact(store, study.run_id, f"{EVALUATION}/{TRADEOFF_FILE}") as stored:
            found = json.loads(stored.read_text())
        figures.draw_tokenizer_tradeoff(path("fast_tradeoff"), found["rows"], found["chosen"])
    return drawn


def converge_steps(store: Store, models: Sequence[Model]) -> dict[tuple[float, int], list[NDArray[np.int64]]]:
    """Each model's converge steps by condition; -1 where an episode did not converge, or fell."""
    found: dict[tuple[float, int], list[NDArray[np.int64]]] = {}
    for model in models:
        with artifact(store, model.run_id, f"{EVALUATION}/{EPISODES_FILE}") as path:
            table = pd.read_csv(path)
        table["converge_step"] = table["converge_step"].where(table["success"], -1)
        for where in (where for where in model.scores["success"] if where):
            part = table[(table["action_noise"] == where[0]) & (table["replan"] == where[1])]
            found.setdefault(where, []).append(part["converge_step"].to_numpy())
    return found


def read_plans(store: Store, models: Sequence[Model]) -> figures.Plans | None:
    """What the models planned beside the expert, if all of them have it."""
    if not models or any("chunk_mae" not in model.costs for model in models):
        return None
    expert, planned, errors = [], [], []
    for model in models:
        with artifact(store, model.run_id, f"{EVALUATION}/{PLANS_FILE}") as path, np.load(path) as arrays:
            expert.append(arrays["expert"])
            planned.append(arrays["planned"])
            errors.append(arrays["mae_by_step"])
    return figures.Plans(expert[0], np.stack(planned), np.stack(errors))


def _errors(group: Group) -> str:
    parts = []
    for name in ("chunk_mae", "chunk_mse"):
        summary = group.costs[name]
        spread = "" if summary.std is None else f" ± {COSTS[name].text(summary.std)}"
        parts.append(f"{COSTS[name].short.removeprefix('plan ')} {COSTS[name].text(summary.mean)}{spread}")
    return ", ".join(parts)
