"""Policies of others: a server's address, or a function of the user's. They plan beside ours in the same episodes.

What is no answer of the policy ends the evaluation: a server that is away or refuses, a function that raises. An answer
without a usable plan is counted, and the episode that asked for it is given up.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from pipeline.errors import PolicyError, RunError, one_line
from pipeline.evaluation.control import Ints, draw_episodes
from pipeline.methods.method import Plans
from pipeline.policies.answers import Fault, require_chunks
from pipeline.policies.function import FunctionPolicy, find_function
from pipeline.policies.remote import LARGEST, RemotePolicy, connect
from pipeline.policies.states import Floats, checked_states
from pipeline.stages.settings import AsksPolicies
from pipeline.tasks.facts import require_length
from pipeline.tasks.registry import find_task
from pipeline.tasks.task import Array, Task

ADDRESS = "://"  # in every address, and in no reference to a function
NUMBER_BYTES = 32  # of an action in JSON, at most
MOST_OPEN = 32  # policies that are kept open


@dataclass(frozen=True)
class Foreign:
    """Somebody else's policy that has answered once."""

    name: str
    task: Task
    policy: RemotePolicy | FunctionPolicy
    horizon: int
    batch: int  # states of a request, at most
    faults: Counter[str] = field(default_factory=Counter)  # answers without a plan so far, by kind

    def plan(self, states: Array, _episodes: Ints, _step: int) -> Plans:
        """Plan for `states (B, P)`, some at a time, as a `Planner`; raises `RunError` where there is no answer."""
        observed = checked_states(self.name, self.task.state_dim, self.task.simulator.observe(states))
        parts = np.array_split(observed, -(-len(observed) // self.batch))
        try:
            chunks = [chunk for part in parts for chunk in self.policy.chunks(part, self.horizon)]
        except PolicyError as error:
            raise RunError(f"in the middle of its episodes: {one_line(error)}") from error
        self.faults.update(chunk.kind for chunk in chunks if isinstance(chunk, Fault))
        none = np.zeros((self.horizon, self.task.action_dim), np.float32)
        actions = np.stack([none if isinstance(chunk, Fault) else chunk for chunk in chunks])
        return Plans(actions, missing=np.array([isinstance(chunk, Fault) for chunk in chunks]))


def open_foreign(task: Task, place: str, settings: AsksPolicies) -> Foreign:
    """Ask the policy at `place`, a server's address or a reference to a function, for its first plans.

    Raises `SettingsError` or `PolicyError` if there is no such policy, its answer holds no plans for the task, or the
    plans are too short for the task's conditions.
    """
    policy: RemotePolicy | FunctionPolicy
    if ADDRESS in place:
        policy = connect(place, task.state_dim, task.action_dim, settings.timeout)
    else:
        policy = find_function(place, task.action_dim, settings.timeout)
    states = first_states(task, min(2, settings.batch))
    try:
        horizon = require_chunks(policy.name, policy.chunks(states)).shape[1]
    except PolicyError as error:
        if len(states) > 1 and _answers(policy, states[:1]):
            raise PolicyError(f"{one_line(error)} It answers one state at a time: name --batch 1.") from error
        raise
    require_length(policy.name, horizon, task, PolicyError)
    most = settings.batch
    if isinstance(policy, RemotePolicy):
        most = min(most, max(1, LARGEST // (NUMBER_BYTES * horizon * task.action_dim)))
    return Foreign(policy.name, task, policy, horizon, most)


@lru_cache(maxsize=MOST_OPEN)
def opened(task: str, place: str, settings: AsksPolicies, _call: str) -> Foreign:
    """`open_foreign` for a task by its reference, once in a process for each call of a command.

    A call has a word of its own: another one may find another policy at the same place.
    """
    return open_foreign(find_task(task), place, settings)


def _answers(policy: RemotePolicy | FunctionPolicy, states: Floats) -> bool:
    try:
        require_chunks(policy.name, policy.chunks(states))
    except PolicyError:
        return False
    return True


def first_states(task: Task, count: int) -> Floats:
    """Return observations `(count, S)` at starts of the task: an ordinary question, which is in no evaluation."""
    episodes = draw_episodes(task, task.conditions[:1], count, 0, "first")
    states, _ = task.simulator.simulate(
        lambda _step, states: np.zeros((len(states), task.action_dim)), episodes.starts, episodes.noise[:, :1], 1
    )
    return checked_states(task.name, task.state_dim, task.simulator.observe(states[:, 0]))


def faults_text(faults: Mapping[str, int]) -> str:
    """Say how many answers held no plan, and why; empty if all did."""
    total = sum(faults.values())
    why = ", ".join(f"{count:,} {kind}" for kind, count in sorted(faults.items()))
    return f"{total:,} episode{'s' * (total > 1)} given up for want of a plan: {why}." if total else ""
