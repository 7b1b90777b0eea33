"""Avoiding: a puck passes three rows of posts, by one of 24 ways, and crosses the finish."""

from pipeline.tasks.avoiding.demonstrator import DEMONSTRATOR
from pipeline.tasks.avoiding.drawing import scene
from pipeline.tasks.avoiding.scores import SCORES, WAYS, score
from pipeline.tasks.avoiding.world import ACTION, CONTROL_SECONDS, EPISODE_STEPS, OBSERVATION, WORLD
from pipeline.tasks.avoiding.yardsticks import YARDSTICKS
from pipeline.tasks.task import HORIZON, Condition, Task

PAIR_STEPS = tuple(range(0, EPISODE_STEPS, 6))

AVOIDING = Task(
    name="avoiding",
    description="Push a puck through three rows of posts, by one of 24 ways, without touching one.",
    observation=OBSERVATION,
    action=ACTION,
    control_seconds=CONTROL_SECONDS,
    episode_steps=EPISODE_STEPS,
    conditions=tuple(Condition(noise, replan) for noise in (0.05, 0.2, 0.4) for replan in (10, 20)),
    own_scores=SCORES,
    score=score,
    world=WORLD,
    pair_steps=PAIR_STEPS,
    demonstration_steps=PAIR_STEPS[-1] + HORIZON,
    demonstrator=DEMONSTRATOR,
    ways=WAYS,
    yardsticks=YARDSTICKS,
    end="hit a post",
    scene=scene,
)
