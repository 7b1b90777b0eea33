"""The task: Gymnasium's inverted pendulum on a wide rail, in batches on MuJoCo.

Shapes: B episodes side by side, T control steps, S = 4 state, A = 1 action.
State: cart position m, pole angle rad, cart velocity m/s, pole rate rad/s. Action: [-3, 3], one unit is 100 N.
A control step is 0.04 s: two RK4 steps of 0.02 s, as in Gymnasium's InvertedPendulum-v5.
"""

from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray

from pipeline.env.channels import CHANNELS

XML_FILE = Path(__file__).with_name("inverted_pendulum.xml")
FRAME_SKIP = 2
CONTROL_SECONDS = 0.04  # of a control step
STATE_DIM = len(CHANNELS)
ACTION_DIM = 1
ACTION_LIMIT = 3.0
ANGLE_LIMIT = np.pi / 4  # rad; beyond it the pole has fallen
POLE_LENGTH = 0.6  # m
CART = (0.4, 0.2)  # m, width and height; its middle is on the rail and carries the pole
REST_ANGLE = -0.00166666  # rad; the tilt of the pole's geometry
START_RANGE = 0.5  # every state dimension starts uniformly within +- this
EPISODE_STEPS = 100
LABELS = ("cart, m", "pole, rad", "cart, m/s", "pole, rad/s", "action, 100 N")

Array = NDArray[np.float64]
Controller = Callable[[int, Array], Array]
"""`controller(step, states (B, S)) -> actions (B, A)`, called once per control step."""


def fallen(states: Array) -> NDArray[np.bool_]:
    """Tell for states `(..., S)` whether the pole is beyond the limit angle or a number is not finite: `(...)`."""
    return ~np.isfinite(states).all(-1) | (np.abs(states[..., 1]) > ANGLE_LIMIT)


def applied(actions: Array, noise: Array) -> Array:
    """Return the motor's actions: `actions (..., A)` plus `noise (..., A)`, clipped."""
    return (actions + noise).clip(-ACTION_LIMIT, ACTION_LIMIT)


def draw_starts(generator: np.random.Generator, count: int) -> Array:
    """Draw `count` initial states `(count, S)`, each dimension uniform within +-START_RANGE."""
    return generator.uniform(-START_RANGE, START_RANGE, (count, STATE_DIM))


def simulate(controller: Controller, starts: Array, noise: Array, threads: int = 0) -> tuple[Array, Array]:
    """Run B closed-loop episodes at once on MuJoCo and return `states (B, T+1, S)` and `actions (B, T, A)`.

    `starts (B, S)` are the initial states. `noise (B, T, A)` is added to the controller's actions before they reach
    the motor (which clips at +-ACTION_LIMIT); it is not part of the returned actions. The simulation continues after a
    fall; `fallen` tells where it happened. `threads` 0 means all cores; the result does not depend on it.
    """
    batch_size, steps, _ = noise.shape
    model = mujoco.MjModel.from_xml_path(str(XML_FILE))
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT  # nothing can touch; not looking saves 7% of the time
    batch = Batch(model, batch_size, threads)
    position, velocity, control = batch.bind("qpos"), batch.bind("qvel"), batch.bind("ctrl")
    position[:], velocity[:] = starts[:, :2], starts[:, 2:]

    states = np.empty((batch_size, steps + 1, STATE_DIM))
    actions = np.empty((batch_size, steps, ACTION_DIM))
    states[:, 0] = starts
    for step in range(steps):
        actions[:, step] = controller(step, states[:, step])
        control[:] = actions[:, step] + noise[:, step]
        batch.step(nstep=FRAME_SKIP)
        states[:, step + 1, :2], states[:, step + 1, 2:] = position, velocity
    return states, actions
