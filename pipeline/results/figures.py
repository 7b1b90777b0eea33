"""The figures of a report, from the runs in the store."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError, one_line
from pipeline.evaluation.stored import FOLDER, MOST_PATHS, PATHS_FILE, PLANS_FILE, clearest
from pipeline.names import BEST_VAL_LOSS, CHUNK_MAE, CHUNK_MSE
from pipeline.report.comparison import Comparison, Group, Model
from pipeline.report.comparison_tables import mean_text
from pipeline.report.group_styles import styles_in
from pipeline.report.loss_curves import draw_losses
from pipeline.report.path_figures import Beneath, draw_paths
from pipeline.report.plan_figures import Plans, draw_errors, draw_plans
from pipeline.report.plotting import Figure
from pipeline.report.score_figures import draw_scores, draw_steps, draw_verdicts
from pipeline.report.scores import COSTS
from pipeline.report.tokenizer_figures import draw_tokenizer_tradeoff
from pipeline.streams import numpy_stream
from pipeline.tasks.scene import Scene
from pipeline.tasks.task import Condition, Task
from pipeline.tracking.query import artifact, fetch, history
from pipeline.tracking.store import Store

TRADEOFF_FILE, TRADEOFF_TAG = "fast_tradeoff.json", "fast_tradeoff"
PLANS = ("planned", "mae_by_step", "mae_by", "rebuilt_mae_by")  # arrays of a model's plans; old ones have the first two
MOST_PANELS = 12  # action dimensions whose errors are drawn
T = TypeVar("T")


def draw_figures(store: Store, comparison: Comparison, study_run: str | None) -> tuple[dict[str, Figure], list[str]]:
    """Draw all figures that have data; return the pictures by name, and what was missing for the others."""
    drawn = draw_scored(comparison)
    comparison = literal(comparison)
    title, task = comparison.title, comparison.task
    missing: list[str] = []
    groups, styles = comparison.of_kind("model"), styles_in(comparison)

    def read(model: Model, name: str, reader: Callable[[Path], T]) -> T | None:
        try:
            with artifact(store, model.run_id, f"{FOLDER}/{name}") as stored:
                return reader(stored)
        except (StoreError, OSError, ValueError, KeyError) as error:
            missing.append(one_line(error))
            return None

    parts = ("train", "val", "test")
    curves = {
        group.name: {part: [history(store, m.run_id, f"{part}_loss") for m in group.models] for part in parts}
        for group in groups
        if any(BEST_VAL_LOSS in model.costs for model in group.models)  # or they were trained in another group
    }
    if curves:
        drawn["losses"] = draw_losses(title, curves, styles)

    paths: dict[str, NDArray[np.float64]] = {}
    plans: dict[str, Plans] = {}
    load = partial(load_paths, condition=clearest(task.conditions))
    for group in comparison.of_kind("model", "original"):
        judged = [model for model in group.models if model.episodes]
        with_paths = judged if task.ways else []
        ways = [way for model in with_paths if (way := read(model, PATHS_FILE, load)) is not None]
        if ways:
            paths[group.name] = np.concatenate(ways)
        with_plans = [model for model in judged if (CHUNK_MAE in model.costs or model.errors) and group.kind == "model"]
        found_plans = [found for model in with_plans if (found := read(model, PLANS_FILE, load_plans)) is not None]
        if found_plans:
            expert = next(iter(plans.values())).expert if plans else found_plans[0]["expert"]
            same = [found for found in found_plans if np.array_equal(found["expert"], expert)]
            if same:
                names = [name for name in PLANS if all(name in found for found in same)]
                stacked = {name: np.stack([found[name] for found in same]) for name in names}
                plans[group.name] = Plans(expert, **stacked)
    if paths:
        notes = {group.name: _ways(comparison, group) for group in comparison.groups}
        drawn["paths"] = draw_paths(f"{title}, {condition_text(task)}", paths, notes, styles, beneath(task))
    if plans:
        pooled = [group for group in groups if group.name in plans and CHUNK_MAE in group.costs]
        errors_of = {group.name: _errors(group) for group in pooled}
        labels = tuple(dollars(str(channel)) for channel in task.action)
        if task.world is None:
            drawn["errors"] = draw_errors(title, plans, task.action[:MOST_PANELS], task.control_seconds, styles)
        drawn["plans"] = draw_plans(title, plans, errors_of, labels, task.control_seconds, styles)
    if study_run is not None and TRADEOFF_TAG in fetch(store, study_run).tags:
        with artifact(store, study_run, f"{FOLDER}/{TRADEOFF_FILE}") as stored:
            found = json.loads(stored.read_text())
        drawn["fast_tradeoff"] = draw_tokenizer_tradeoff(found["rows"], dollars(found["chosen"] or ""))
    return drawn, missing


def draw_scored(comparison: Comparison) -> dict[str, Figure]:
    """Draw the figures for which a comparison and its episodes are enough, by name."""
    comparison = literal(comparison)
    task, styles = comparison.task, styles_in(comparison)
    drawn: dict[str, Figure] = {}
    if any(contrast.verdict for contrast in comparison.contrasts):
        drawn["verdicts"] = draw_verdicts(comparison)
    if comparison.conditions:
        drawn["scores"] = draw_scores(comparison)
    conditions = [(each.action_noise, each.replan) for each in task.conditions]
    events = {name: score.event for name, score in task.scores.items() if score.event}
    for name, event in events.items():
        judged = {
            group.name: [model.episodes[name] for model in group.models if model.episodes]
            for group in comparison.of_kind("model", "original")
        }
        by_group = {group: np.stack(episodes) for group, episodes in judged.items() if episodes}  # (models, C, S)
        if by_group:
            drawn[f"{name}s"] = draw_steps(comparison.title, event, conditions, by_group, task.episode_steps, styles)
    return drawn


def literal(comparison: Comparison) -> Comparison:
    """Return the comparison with escaped names: matplotlib would read text between two dollars as a formula."""
    groups = tuple(replace(group, name=dollars(group.name)) for group in comparison.groups)
    return replace(comparison, title=dollars(comparison.title), groups=groups)


def dollars(name: str) -> str:
    """Escape the dollars of a name for matplotlib."""
    return name.replace("$", r"\$")


def load_plans(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read the arrays of a model's plans and the expert's chunks."""
    with np.load(path) as arrays:
        return {name: arrays[name] for name in ("expert", *PLANS) if name in arrays or name in PLANS[:2]}


def load_paths(path: Path, condition: Condition) -> NDArray[np.float64]:
    """Read the paths of a model's episodes `(N, T+1, 2)`; raises `ValueError` if they are of another condition."""
    with np.load(path) as arrays:
        if "condition" not in arrays or arrays["condition"].tolist() != [condition.action_noise, condition.replan]:
            raise ValueError(f"{path.name}: its paths are of another condition. Evaluate again to have them drawn.")
        found: NDArray[np.float64] = arrays["paths"].astype(np.float64)
    if found.ndim != 3 or found.shape[2] != 2 or not len(found):
        raise ValueError(f"{path.name}: expected paths of the shape (N, T+1, 2), found {found.shape}.")
    return found


def beneath(task: Task) -> Beneath:
    """Return what paths of a task are drawn over."""
    axes = task.ways.axes if task.ways else None
    return Beneath(demonstrated_paths(task), None if axes else backdrop(task), axes)


def demonstrated_paths(task: Task) -> NDArray[np.float64] | None:
    """Return paths of demonstrators of a task with several ways, `(N, T+1, 2)`; None if it has none."""
    if task.ways is None or task.demonstrator is None:
        return None
    variation = task.demonstrator.draw_variation(numpy_stream(0, "paths", "gains"), MOST_PATHS)
    starts = task.simulator.draw_starts(numpy_stream(0, "paths", "starts"), MOST_PATHS)
    blocks = []
    for rows in task.simulator.blocks(MOST_PATHS):
        controller = task.demonstrator.controller(variation[rows], starts[rows])
        noise = np.zeros((len(starts[rows]), task.episode_steps, task.action_dim))
        blocks.append(task.simulator.simulate(controller, starts[rows], noise, 1)[0])
    states = np.concatenate(blocks)
    over = np.logical_or.accumulate(task.simulator.ended(states), axis=1)
    paths: NDArray[np.float64] = np.where(over[..., None], np.nan, task.ways.path(states))
    return paths


def backdrop(task: Task) -> Scene | None:
    """Return a scene of the task for what never moves in it; None if it has no scene."""
    if task.scene is None:
        return None
    actions = np.zeros((1, 2, task.action_dim))
    starts = task.simulator.draw_starts(numpy_stream(0, "paths", "starts"), 1)
    states, _ = task.simulator.simulate(lambda step, _states: actions[:, step], starts, actions, 1)
    return task.scene(states[0], actions[0])


def condition_text(task: Task) -> str:
    """Say in which condition paths are drawn."""
    condition = clearest(task.conditions)
    return f"noise ±{condition.action_noise:g}, replan {condition.replan}"


def _ways(comparison: Comparison, group: Group) -> str:
    """Say how a group chooses among the ways, in the condition that is drawn."""
    drawn = clearest(comparison.task.conditions)
    found = group.scores.get("ways", {}).get((drawn.action_noise, drawn.replan))
    return f"entropy {comparison.scores['ways'].text(found.mean)} of the demonstrators'" if found else ""


def _errors(group: Group) -> str:
    return ", ".join(
        f"{COSTS[name].short.removeprefix('plan ')} {mean_text(group.costs[name], COSTS[name])}"
        for name in (CHUNK_MAE, CHUNK_MSE)
    )
