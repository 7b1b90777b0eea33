"""Play one episode in real time with a policy from a file or a server, and draw it as a GIF."""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.config import NONE
from pipeline.errors import SettingsError
from pipeline.evaluation import realtime
from pipeline.evaluation.control import draw_episodes
from pipeline.evaluation.realtime import Act, Played, ThreadAsking, Watch
from pipeline.evaluation.record import Record
from pipeline.files import check_file
from pipeline.policies.exported import ExportedPolicy
from pipeline.policies.open import open_policy as open_file
from pipeline.policies.remote import connect
from pipeline.report.animation import animate_episode
from pipeline.report.scores import went_well
from pipeline.stages.models import require_model_of
from pipeline.stages.settings import PlaySettings
from pipeline.streams import torch_stream
from pipeline.tasks.registry import find_task
from pipeline.tasks.score import shares_of
from pipeline.tasks.task import Condition, Task

STAGES = logging.getLogger(__name__)

PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "max": 100}


@dataclass(frozen=True)
class Shown:
    """The played episode."""

    name: str
    about: str  # the condition and the episode
    verdict: str
    played: Played
    latencies: dict[str, float]  # s, percentiles over all answers after the first; empty if there were none
    seconds: float  # of the episode, up to its end
    step_ms: float
    path: Path | None


def play(settings: PlaySettings, watch: Watch) -> Shown:
    """Play an episode; raises `UserError` kinds before the clock starts, and `RunError` for later failures."""
    path = None if settings.out == NONE else Path(settings.out)
    task = find_task(settings.task)
    if task.world is None:
        raise task.unsimulated("no episode can be played")
    if path:
        check_out(path)
    name, act = open_policy(task, settings)
    STAGES.debug("policy %s opened", name)
    condition = condition_of(task, settings)
    episodes = draw_episodes(task, [condition], 1, settings.seed, first=settings.episode)
    start, noise = episodes.starts[-1], episodes.noise[-1]
    played = realtime.play(task, ThreadAsking(act), start, noise, condition.replan, settings.lockstep, watch)

    STAGES.debug("episode played: plans requested at steps %s", played.record.asked.tolist())
    record = played.record
    verdict, seconds = judge(task, record)
    about = (
        f"action noise ±{condition.action_noise:g}, a plan every {condition.replan} steps, "
        f"episode {settings.episode} of seed {settings.seed}"
    )
    if path:
        late = f"; {played.late} answer{'s' * (played.late > 1)} late" if played.late else ""
        animate_episode(path, task, name, about + late, record)
    STAGES.debug("GIF written" if path else "no GIF requested")
    latencies = {
        name: float(np.percentile(played.latencies, percent))
        for name, percent in PERCENTILES.items()
        if len(played.latencies)
    }
    return Shown(name, about, verdict, played, latencies, seconds, 1000 * task.control_seconds, path)


def judge(task: Task, record: Record) -> tuple[str, float]:
    """Return how an episode went, in words, and its seconds up to its end."""
    scores = {name: column[0] for name, column in task.score(record.states[None], record.actions[None]).items()}
    over = np.flatnonzero(task.simulator.ended(record.states))
    seconds = (int(over[0]) if len(over) else task.episode_steps) * task.control_seconds
    verdict = f"{task.end} after {seconds:.2f} s" if len(over) else "played to the end"
    if len(over) and went_well(scores):
        verdict = "succeeded"  # what comes after a success is not told
    shares = "".join(f"; {name} {task.scores[name].text(scores[name])}" for name in shares_of(task.scores))
    return verdict + shares, seconds


def condition_of(task: Task, settings: PlaySettings) -> Condition:
    """Return the condition to play in: what the settings leave open is as in the task's middle one."""
    middle = task.middle_condition
    return Condition(
        middle.action_noise if settings.action_noise is None else settings.action_noise,
        middle.replan if settings.replan is None else settings.replan,
    )


def open_policy(task: Task, settings: PlaySettings) -> tuple[str, Act]:
    """Return the policy's name and its `act`; raises `UserError` kinds."""
    if settings.policy != NONE:
        return settings.policy, connect(settings.policy, task.state_dim, task.action_dim).act
    path = Path(settings.checkpoint)
    policy = open_file(path, None if settings.tokenizer == NONE else settings.tokenizer, settings.acting)
    require_model_of(task, path, policy)
    if isinstance(policy, ExportedPolicy):
        return policy.name, policy.act
    import torch

    from pipeline.policies.policy import noise_of

    torch.set_num_threads(1)
    return policy.name, partial(policy.act, noise=noise_of(torch_stream(settings.seed, "play", settings.episode)))


def check_out(path: Path) -> None:
    """Raise `SettingsError` unless the path is valid for a GIF."""
    if path.suffix.lower() != ".gif":
        raise SettingsError(f"out: expected a file name ending in .gif, or none, found '{path}'. See --help.")
    check_file(path)
