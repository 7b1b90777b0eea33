"""The demonstrator of the pendulum, with its own gains a trajectory, and what a demonstration must not be."""

import numpy as np

from pipeline.tasks.pendulum.pid import NestedPID, draw_gains
from pipeline.tasks.pendulum.scores import converge_steps
from pipeline.tasks.pendulum.world import fallen
from pipeline.tasks.task import Array, Bools, Demonstrator


def find_faults(states: Array, actions: Array) -> dict[str, Bools]:
    """Find the faults of trajectories `states (N, T, S)`, `actions (N, T, A)`: a boolean array `(N,)` per fault."""
    steps = states.shape[1]
    fell, converged = np.asarray(fallen(states).any(1)), converge_steps(states, steps) < steps
    finite = np.isfinite(states).all((1, 2)) & np.isfinite(actions).all((1, 2))
    return {
        "not finite": np.asarray(~finite),
        "fallen": finite & fell,
        "not converged": finite & ~fell & ~converged,
    }


DEMONSTRATOR = Demonstrator(
    draw_variation=draw_gains,
    controller=lambda gains, _starts: NestedPID(gains),
    find_faults=find_faults,
    action_noise=0.05,
)
