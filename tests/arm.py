"""A small data set without a simulator: a state of six named numbers, two actions, episodes of unequal length."""

from pathlib import Path

import numpy as np

from pipeline.data.pairs import ActionPairs, save_action_pairs
from pipeline.tasks.dataset import DataSet, task_of_data, write_dataset
from pipeline.tasks.facts import KEY, facts_of
from pipeline.tasks.task import Channel

EPISODES, HORIZON, EVERY = 40, 10, 2
ARM = DataSet(
    name="arm",
    task="arm",
    observation=tuple(Channel(f"joint.{number}", f"joint {number}", "rad") for number in range(6)),
    action=(Channel("shoulder $t$", "shoulder $torque$", "N m", 2.0), Channel("grip", "grip", "mm")),
    control_seconds=0.1,
    horizon=HORIZON,
    episodes=EPISODES,
    frames=0,
    format="npz",
    source="a test",
    source_sha256="0" * 64,
)


def make_arm(episodes: int = EPISODES, dataset: DataSet = ARM) -> DataSet:
    """Write the data set to `data/arm` of the current folder: a damped arm that is driven to rest, with noise."""
    folder = Path("data", dataset.name)
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    drive = generator.normal(size=(2, 6)) * np.array([[0.5], [20.0]])
    states, chunks, trajectory, step = [], [], [], []
    frames = 0
    for episode in range(episodes):
        length = int(generator.integers(HORIZON + 4, 60))
        observed, actions = np.zeros((length, 6)), np.zeros((length, 2))
        state = generator.normal(size=6)
        for time in range(length):
            observed[time], actions[time] = state, drive @ state
            state = 0.9 * state + 0.05 * generator.normal(size=6)
        frames += length
        for first in range(0, length - HORIZON + 1, EVERY):
            states.append(observed[first])
            chunks.append(actions[first : first + HORIZON])
            trajectory.append(episode)
            step.append(first)
    arrays = (np.array(states, np.float32), np.array(chunks, np.float32), np.array(trajectory), np.array(step))
    metadata = {KEY: facts_of(task_of_data(dataset)).values()}
    save_action_pairs(folder / "training_pairs_original.npz", ActionPairs(*arrays, metadata))
    made = DataSet(**{**vars(dataset), "frames": frames, "episodes": episodes})
    write_dataset(made)
    return made
