"""The reacher: an arm of two links brings its fingertip to a target and rests there, with the elbow up or down."""

from pipeline.tasks.reacher.demonstrator import DEMONSTRATOR
from pipeline.tasks.reacher.drawing import scene
from pipeline.tasks.reacher.scores import SCORES, WAYS, score
from pipeline.tasks.reacher.world import ACTION, CONTROL_SECONDS, EPISODE_STEPS, OBSERVATION, WORLD
from pipeline.tasks.reacher.yardsticks import YARDSTICKS
from pipeline.tasks.task import HORIZON, Condition, Task

# dense while the arm moves; a plan can be asked for up to the last step, so pairs go on to it
PAIR_STEPS = (*range(0, 72, 4), *range(72, EPISODE_STEPS, 11))

REACHER = Task(
    name="reacher",
    description="Bring the fingertip of an arm of two links to a target, with the elbow up or down.",
    observation=OBSERVATION,
    action=ACTION,
    control_seconds=CONTROL_SECONDS,
    episode_steps=EPISODE_STEPS,
    conditions=tuple(Condition(noise, replan) for noise in (0.01, 0.02, 0.04) for replan in (10, 20)),
    own_scores=SCORES,
    score=score,
    world=WORLD,
    pair_steps=PAIR_STEPS,
    demonstration_steps=PAIR_STEPS[-1] + HORIZON,
    demonstrator=DEMONSTRATOR,
    ways=WAYS,
    yardsticks=YARDSTICKS,
    scene=scene,
)
