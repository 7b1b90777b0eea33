"""MuJoCo in batches: the world of a task that is made from a model's XML.

Shapes: B episodes side by side, T control steps, P state (positions, then velocities), A action.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import SettingsError
from pipeline.tasks.task import Array, Bools, Controller, World


def mujoco_world(
    xml: Path | str,
    *,
    frame_skip: int,
    draw_starts: Callable[[np.random.Generator, int], Array],
    ended: Callable[[Array], Bools],
    observe: Callable[[Array], Array] = lambda states: states,
    contacts: bool = True,
) -> World:
    """Make the world of a model, which is an XML file or its text.

    A state is `qpos (nq,)` and `qvel (nv,)`, a control step `frame_skip` steps of MuJoCo. Actions reach the model as
    `ctrl`, which its `ctrlrange` clips. Without `contacts` nothing is looked for that could touch, which saves time:
    bodies go through one another.

    `simulate` raises `SettingsError` for a model with more state than these, such as actuators with an activation or a
    delay: a state could then not be a start.
    """

    def simulate(controller: Controller, starts: Array, noise: Array, threads: int = 0) -> tuple[Array, Array]:
        import mujoco  # it is slow to import, and reports and policies need none
        from mujoco.batch import Batch

        batch_size, steps, action_dim = noise.shape
        load = mujoco.MjModel.from_xml_string if isinstance(xml, str) else mujoco.MjModel.from_xml_path
        model: Any = load(str(xml))
        held = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_PHYSICS)
        if held != model.nq + model.nv:
            raise SettingsError(
                f"xml: expected a model whose state is its {model.nq + model.nv} positions and velocities, found "
                f"{held} numbers. Use actuators without activation, delay or plugin."
            )
        if not contacts:
            model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
        batch = Batch(model, batch_size, threads)
        position, velocity, control = batch.bind("qpos"), batch.bind("qvel"), batch.bind("ctrl")
        position[:], velocity[:] = starts[:, : model.nq], starts[:, model.nq :]

        states = np.empty((batch_size, steps + 1, model.nq + model.nv))
        actions = np.empty((batch_size, steps, action_dim))
        states[:, 0] = starts
        for step in range(steps):
            actions[:, step] = controller(step, states[:, step])
            control[:] = actions[:, step] + noise[:, step]
            batch.step(nstep=frame_skip)
            states[:, step + 1, : model.nq], states[:, step + 1, model.nq :] = position, velocity
        return states, actions

    return World(
        draw_starts=draw_starts,
        simulate=simulate,
        observe=observe,
        ended=ended,
        source=xml.encode() if isinstance(xml, str) else xml.read_bytes(),
    )
