"""Swing up: a cart on a rail raises a hanging pole by pumping, catches it, and brings it to rest."""

from pipeline.tasks.swing_up.demonstrator import DEMONSTRATOR
from pipeline.tasks.swing_up.drawing import scene
from pipeline.tasks.swing_up.scores import SCORES, score
from pipeline.tasks.swing_up.ways import WAYS
from pipeline.tasks.swing_up.world import ACTION, CONTROL_SECONDS, EPISODE_STEPS, OBSERVATION, WORLD
from pipeline.tasks.swing_up.yardsticks import YARDSTICKS
from pipeline.tasks.task import HORIZON, Condition, Task

SWING_UP = Task(
    name="swing_up",
    description="Swing a hanging pole up on a cart, catch it, and bring it to rest.",
    observation=OBSERVATION,
    action=ACTION,
    control_seconds=CONTROL_SECONDS,
    episode_steps=EPISODE_STEPS,
    conditions=tuple(Condition(noise, replan) for noise in (0.02, 0.05, 0.1) for replan in (5, 10)),
    own_scores=SCORES,
    score=score,
    world=WORLD,
    # dense while the pole swings, and to the end of the episode: 28 of them
    pair_steps=(*range(0, 60, 4), *range(60, EPISODE_STEPS, 9)),
    demonstration_steps=EPISODE_STEPS + HORIZON,
    demonstrator=DEMONSTRATOR,
    ways=WAYS,
    yardsticks=YARDSTICKS,
    scene=scene,
)
