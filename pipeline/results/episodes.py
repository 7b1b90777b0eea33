"""A good and a bad episode of each group: chosen by rule from stored scores, replayed with stored weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.config import NONE
from pipeline.errors import RunError, one_line
from pipeline.evaluation.control import draw_episodes, policy_planner
from pipeline.evaluation.protocol import Protocol
from pipeline.evaluation.record import Record, record_planner
from pipeline.report.comparison import Group, Model
from pipeline.report.episodes import Drawing, Episode, Kind, Plan, draw_episode
from pipeline.report.scores import went_well
from pipeline.report.words import as_sentence
from pipeline.results.gather import Gathered
from pipeline.stages.models import load_for
from pipeline.tasks.score import SUCCESS
from pipeline.tasks.task import Task
from pipeline.tracking.query import model_artifact
from pipeline.tracking.store import Store

MOST_GROUPS = 6  # a page of more would be long
CHOICE = (
    "All are from the hardest condition, action noise ±{noise:g} and a plan every {replan} steps. The bad episode is "
    "the worst one over all models of a group: by {primary}, and of equals by the next score of the task. The good "
    "episode is of the same model: {those} the median one in the same order. They were replayed for this page, with "
    "the weights and the noise of the evaluation."
)
NO_SCENE = "The task '{task}' has no scene, so no episodes are drawn."


@dataclass(frozen=True)
class Scored:
    """A stored episode of an evaluation."""

    model: Model
    number: int  # within its condition
    scores: Mapping[str, float]


def show_episodes(store: Store, gathered: Gathered) -> tuple[list[Drawing], str, list[str]]:
    """Choose and replay; return the drawings, the rule of the choice, and what could not be shown."""
    comparison, protocol = gathered.comparison, gathered.protocol
    task, hardest = comparison.task, comparison.task.conditions[-1]
    if task.scene is None:
        return [], NO_SCENE.format(task=task.name), []
    judged = [group for group in comparison.of_kind("model") if any(model.episodes for model in group.models)]
    if not judged or not protocol:
        return [], "There is no evaluation whose episodes could be replayed.", []
    shown: list[Drawing] = []
    missing = [f"Episodes of {group.name} are not shown." for group in judged[MOST_GROUPS:]]
    for group in judged[:MOST_GROUPS]:
        try:
            shown += [draw_episode(task, episode) for episode in play_group(store, gathered, group, protocol)]
        except (RunError, OSError, ValueError, KeyError) as error:
            missing.append(f"Episodes of {group.name} cannot be shown: {one_line(error)}")
    choice = CHOICE.format(
        noise=hardest.action_noise,
        replan=hardest.replan,
        primary=task.primary,
        those="of those with success," if SUCCESS in task.scores else "of all",
    )
    return shown, choice if shown else "No episode can be shown, for the reasons given below.", missing


def play_group(store: Store, gathered: Gathered, group: Group, protocol: Protocol) -> list[Episode]:
    """Replay a group's chosen episodes, of the hardest condition. Raises errors of the store and of model files."""
    task = gathered.comparison.task
    chosen = choose(task, [scored for model in group.models for scored in episodes_of(model)])
    with model_artifact(store, gathered.runs[chosen[0][1].model.run_id]) as path:
        policy = load_for(task, path, NONE)
    torch.set_num_threads(1)
    first = (len(task.conditions) - 1) * protocol.episodes
    episodes = draw_episodes(task, task.conditions, protocol.episodes, protocol.seed)
    numbers = [first + scored.number for _, scored in chosen]
    records = record_planner(policy_planner(policy, episodes, protocol.seed), episodes, numbers, threads=1)
    return [to_episode(task, group, *each, record) for each, record in zip(chosen, records, strict=True)]


def episodes_of(model: Model) -> list[Scored]:
    """Return all episodes of a model in the last condition, the hardest."""
    here = {name: scores[-1] for name, scores in model.episodes.items()}
    rows = zip(*(values.tolist() for values in here.values()), strict=True)
    return [Scored(model, number, dict(zip(here, row, strict=True))) for number, row in enumerate(rows)]


def choose(task: Task, scored: Sequence[Scored]) -> list[tuple[Kind, Scored]]:
    """Return the good and the bad episode by the rule `CHOICE`, the first of equals; good is left out if none is."""
    directed = {name: score.better for name, score in task.own_scores.items() if score.better}
    order = sorted(directed, key=lambda name: name != task.primary)  # the primary score first

    def goodness(each: Scored) -> list[float]:
        return [directed[name] * each.scores[name] for name in order]

    bad = min(scored, key=goodness)
    others = [each for each in scored if each.model.run_id == bad.model.run_id and each is not bad]
    well = [each for each in others if each.scores.get(SUCCESS, True)]
    well.sort(key=goodness)
    good: list[tuple[Kind, Scored]] = [("good", well[(len(well) - 1) // 2])] if well else []
    return [*good, ("bad", bad)]


def to_episode(task: Task, group: Group, kind: Kind, stored: Scored, record: Record) -> Episode:
    """Return the record up to its end, with a description, which tells if it differs from the scored episode."""
    columns = task.score(record.states[None], record.actions[None])
    scores = {name: column.item() for name, column in columns.items()}
    over = np.flatnonzero(task.simulator.ended(record.states))
    last = int(over[0]) if len(over) else len(record.actions)
    outcome = f"It {task.end} in step {last}: " if len(over) else "It ran to its end: "
    if len(over) and went_well(scores):
        outcome = "It succeeded: "  # what comes after a success is not told
    outcome += f"{task.scores[task.primary].short} {task.scores[task.primary].text(scores[task.primary])}."
    if not all(np.isclose(stored.scores[name], value, rtol=1e-9, atol=0) for name, value in scores.items()):
        outcome += " In the evaluation the result differed: code, versions or processor have changed."
    executed, with_noise = (task.applied(record.actions, noise)[:last] for noise in (0 * record.noise, record.noise))
    plans = [
        Plan(int(step), chunk.astype(np.float64))
        for step, chunk in zip(record.taken, record.chunks, strict=True)
        if step < last
    ]
    about = f"{as_sentence(stored.model.label)}, episode {stored.number}."
    return Episode(group.name, kind, about, outcome, record.states[: last + 1], executed, with_noise, tuple(plans))
