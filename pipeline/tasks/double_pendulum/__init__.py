"""The double pendulum: a cart on a rail keeps two poles upright, one on the other, and brings them to rest."""

from pipeline.tasks.double_pendulum.demonstrator import DEMONSTRATOR
from pipeline.tasks.double_pendulum.drawing import scene
from pipeline.tasks.double_pendulum.scores import SCORES, score
from pipeline.tasks.double_pendulum.world import ACTION, CONTROL_SECONDS, EPISODE_STEPS, OBSERVATION, WORLD
from pipeline.tasks.double_pendulum.yardsticks import YARDSTICKS
from pipeline.tasks.task import HORIZON, Condition, Task

DOUBLE_PENDULUM = Task(
    name="double_pendulum",
    description="Keep two poles upright on a cart, one on the other, and bring them to rest.",
    observation=OBSERVATION,
    action=ACTION,
    control_seconds=CONTROL_SECONDS,
    episode_steps=EPISODE_STEPS,
    horizon=20,  # plans are replaced after 5 or 8 steps; longer ones cost precision and time
    conditions=tuple(Condition(noise, replan) for noise in (0.005, 0.01, 0.02) for replan in (5, 8)),
    own_scores=SCORES,
    score=score,
    world=WORLD,
    # dense while the poles still move, and to the end of the episode: 28 of them
    pair_steps=(*range(0, 40, 4), *range(40, 100, 8), *range(100, EPISODE_STEPS, 11)),
    demonstration_steps=EPISODE_STEPS + HORIZON,
    demonstrator=DEMONSTRATOR,
    yardsticks=YARDSTICKS,
    end="fell",
    scene=scene,
)
