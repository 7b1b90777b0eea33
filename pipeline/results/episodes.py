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
from pipeline.results.gather import Gathered
from pipeline.stages.evaluate import load_for
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.pendulum.scores import score
from pipeline.tasks.pendulum.world import EPISODE_STEPS, fallen
from pipeline.tasks.task import Condition
from pipeline.tracking.query import artifact, fetch
from pipeline.tracking.store import Store

MOST_GROUPS = 6  # a page of more would be long
CHOICE = (
    "All are from the hardest condition, action noise ±{noise:g} and a plan every {replan} steps. The bad episode is "
    "the one, over all models of a group, that falls first; if none falls, one that does not converge and leans most; "
    "if all converge, the last to do so. The good episode is of the same model: of those that converge, the one with "
    "the median converge step. They were replayed for this page, with the weights and the noise of the evaluation."
)


@dataclass(frozen=True)
class Scored:
    """A stored episode of an evaluation."""

    model: Model
    number: int  # within its condition
    scores: Mapping[str, float]

    @property
    def badness(self) -> tuple[float, float]:
        """The sort key, worst first: falls, the earliest first; then no convergence; then the latest convergence."""
        if not self.scores["success"]:
            return 0, self.scores["return"]
        return (1, -self.scores["angle"]) if not self.scores["converge"] else (2, -self.scores["converge_step"])


def show_episodes(store: Store, gathered: Gathered) -> tuple[list[Drawing], str, list[str]]:
    """Choose and replay; return the drawings, the rule of the choice, and what could not be shown."""
    comparison, protocol = gathered.comparison, gathered.protocol
    known = {(condition.action_noise, condition.replan): condition for condition in PENDULUM.conditions}
    judged = [group for group in comparison.of_kind("model") if any(model.episodes for model in group.models)]
    if not judged or not protocol or comparison.conditions[-1] not in known:
        return [], "There is no evaluation whose episodes could be replayed.", []
    condition = known[comparison.conditions[-1]]
    shown: list[Drawing] = []
    missing = [f"Episodes of {group.name} are not shown." for group in judged[MOST_GROUPS:]]
    for group in judged[:MOST_GROUPS]:
        try:
            shown += [draw_episode(episode, EPISODE_STEPS) for episode in play_group(store, group, condition, protocol)]
        except (RunError, OSError, ValueError, KeyError) as error:
            missing.append(f"Episodes of {group.name} cannot be shown: {one_line(error)}")
    choice = CHOICE.format(noise=condition.action_noise, replan=condition.replan)
    return shown, choice if shown else "No episode can be shown, for the reasons given below.", missing


def play_group(store: Store, group: Group, condition: Condition, protocol: Protocol) -> list[Episode]:
    """Replay a group's chosen episodes. Raises errors of the store and of model files."""
    chosen = choose([scored for model in group.models for scored in episodes_of(model, condition)])
    run = fetch(store, chosen[0][1].model.run_id)
    with artifact(store, run.run_id, f"{run.tags['name']}.pth") as path:
        policy = load_for(PENDULUM, path, NONE)
    torch.set_num_threads(1)
    first = PENDULUM.conditions.index(condition) * protocol.episodes
    episodes = draw_episodes(PENDULUM, PENDULUM.conditions, protocol.episodes, protocol.seed)
    numbers = [first + scored.number for _, scored in chosen]
    records = record_planner(policy_planner(policy, episodes, protocol.seed), episodes, numbers, threads=1)
    return [to_episode(group, *each, record) for each, record in zip(chosen, records, strict=True)]


def episodes_of(model: Model, condition: Condition) -> list[Scored]:
    """Return all episodes of a model in a condition."""
    here = {name: scores[PENDULUM.conditions.index(condition)] for name, scores in model.episodes.items()}
    rows = zip(*(values.tolist() for values in here.values()), strict=True)
    return [Scored(model, number, dict(zip(here, row, strict=True))) for number, row in enumerate(rows)]


def choose(scored: Sequence[Scored]) -> list[tuple[Kind, Scored]]:
    """Return the good and the bad episode by the rule `CHOICE`, the first of equals; good is left out if none is."""
    bad = min(scored, key=lambda each: each.badness)
    converged = [
        each for each in scored if each.model.run_id == bad.model.run_id and each.scores["converge"] and each != bad
    ]
    converged.sort(key=lambda each: each.scores["converge_step"])
    good: list[tuple[Kind, Scored]] = [("good", converged[(len(converged) - 1) // 2])] if converged else []
    return [*good, ("bad", bad)]


def to_episode(group: Group, kind: Kind, stored: Scored, record: Record) -> Episode:
    """Return the record up to a fall, with a description, which tells if it differs from the scored episode."""
    scores = {name: column.item() for name, column in score(record.states[None], record.actions[None]).items()}
    fell = not scores["success"]
    last = int(np.argmax(fallen(record.states))) if fell else len(record.actions)
    if fell:
        outcome = f"It falls in step {last}."
    else:
        ends = f"converges at step {scores['converge_step']}" if scores["converge"] else "does not converge"
        outcome = f"It stays up and {ends}."
    if not all(np.isclose(stored.scores[name], value, rtol=1e-9, atol=0) for name, value in scores.items()):
        outcome += " In the evaluation the result differed: code, versions or processor have changed."
    executed, with_noise = (
        PENDULUM.applied(record.actions, noise)[:last, 0] for noise in (0 * record.noise, record.noise)
    )
    plans = [
        Plan(int(step), chunk[:, 0].astype(np.float64))
        for step, chunk in zip(record.taken, record.chunks, strict=True)
        if step < last
    ]
    about = f"{stored.model.label.capitalize()}, episode {stored.number}."
    return Episode(group.name, kind, about, outcome, record.states[: last + 1], executed, with_noise, tuple(plans))
