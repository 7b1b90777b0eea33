"""The demonstrator of avoiding: a gap of each row by chance, a smooth course through them, followed from the state."""

import numpy as np

from pipeline.tasks.avoiding.course import GAPS, follow, plan_course
from pipeline.tasks.avoiding.scores import finish_steps, succeeds
from pipeline.tasks.avoiding.world import EPISODE_STEPS
from pipeline.tasks.task import Array, Bools, Demonstrator

SPREAD = 0.005  # m; each gap is passed within +- this of its middle
SPEED = (0.24, 0.26)  # m/s along y, a trajectory's own


def draw_variation(generator: np.random.Generator, count: int) -> Array:
    """Draw the x, m, at which each row is passed, all gaps with equal chances, and the speed, m/s: `(count, 4)`."""
    gaps = np.stack([generator.choice(row, count) for row in GAPS], 1)
    gaps += SPREAD * generator.uniform(-1, 1, gaps.shape)
    return np.concatenate((gaps, generator.uniform(*SPEED, (count, 1))), 1)


def find_faults(states: Array, actions: Array) -> dict[str, Bools]:
    """Find the faults of trajectories `states (B, T, P)`, `actions (B, T, A)`: a boolean array `(B,)` per fault."""
    finite = np.isfinite(states).all((1, 2)) & np.isfinite(actions).all((1, 2))
    within = states[:, :EPISODE_STEPS]
    crosses = finish_steps(within) < EPISODE_STEPS
    return {
        "not finite": np.asarray(~finite),
        "not at the finish": finite & ~crosses,
        "hit a post": finite & crosses & ~succeeds(within),
    }


DEMONSTRATOR = Demonstrator(
    draw_variation=draw_variation,
    controller=lambda variation, starts: follow(plan_course(starts, variation[:, :-1]), variation[:, -1]),
    find_faults=find_faults,
    action_noise=0.1,
)
