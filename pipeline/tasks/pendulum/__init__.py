"""The pendulum: a cart on a rail keeps a pole upright and brings it to rest."""

from pipeline.tasks.pendulum.demonstrator import DEMONSTRATOR
from pipeline.tasks.pendulum.drawing import scene
from pipeline.tasks.pendulum.scores import SCORES, score
from pipeline.tasks.pendulum.world import ACTION, CONTROL_SECONDS, EPISODE_STEPS, OBSERVATION, WORLD
from pipeline.tasks.pendulum.yardsticks import YARDSTICKS
from pipeline.tasks.task import Condition, Task

PENDULUM = Task(
    name="pendulum",
    description="Keep a pole upright on a cart, and bring it to rest.",
    observation=OBSERVATION,
    action=ACTION,
    control_seconds=CONTROL_SECONDS,
    episode_steps=EPISODE_STEPS,
    conditions=tuple(Condition(noise, replan) for noise in (0.01, 0.03, 0.05) for replan in (10, 13, 15)),
    own_scores=SCORES,
    score=score,
    world=WORLD,
    # dense while the pendulum still moves: 25 of them, as in the reference system
    pair_steps=(*range(9), *range(10, 25, 2), *range(27, 49, 3)),
    demonstration_steps=EPISODE_STEPS,
    demonstrator=DEMONSTRATOR,
    yardsticks=YARDSTICKS,
    end="fell",
    scene=scene,
)
