"""The pendulum as one Gymnasium environment: import this module, then `gymnasium.make(ENV_ID)`.

Its physics equals the batched `WORLD.simulate` bit for bit. It is for tools that use the Gymnasium interface.
"""

from typing import Any

import numpy as np
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv
from gymnasium.envs.registration import register
from numpy.typing import NDArray

from pipeline.tasks.pendulum.world import EPISODE_STEPS, FRAME_SKIP, START_RANGE, XML_FILE, fallen
from pipeline.tasks.task import Array

ENV_ID = "tinypi/WideInvertedPendulum-v0"


class WideInvertedPendulum(InvertedPendulumEnv):
    """InvertedPendulum-v5 with a 20 m rail, starts within +-START_RANGE, and termination when the pole falls."""

    def __init__(self, **options: Any) -> None:
        super().__init__(xml_file=str(XML_FILE), frame_skip=FRAME_SKIP, reset_noise_scale=START_RANGE, **options)

    def step(self, action: NDArray[np.float32]) -> tuple[Array, np.float64, bool, bool, dict[str, np.float64]]:
        observation, _, _, truncated, info = super().step(action)  # type: ignore[no-untyped-call]
        terminated = bool(fallen(observation))
        reward = np.float64(not terminated)
        return observation, reward, terminated, truncated, info | {"reward_survive": reward}


register(id=ENV_ID, entry_point=WideInvertedPendulum, max_episode_steps=EPISODE_STEPS)
