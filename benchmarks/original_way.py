"""The original system's way of training, deciding and simulating: what `against_original` measures ours against.

Built from a description of that system, with none of its code. Where it leaves a choice or would cost more, the cheaper
is taken: one time a chunk instead of one an action, the tokenizer kept in memory, not a process for each trajectory.
Shapes: B batch, H = 50 horizon, L = 25 tokens with BOS and padding, S = 4 state, A = 1 action, T control steps.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pipeline.data.pairs import ActionPairs, TokenPairs
from pipeline.methods.pi0 import clipped
from pipeline.models.original import MAX_TOKENS, OriginalFlowTransformer, OriginalTokenTransformer
from pipeline.streams import global_torch_stream, torch_stream
from pipeline.tasks.pendulum.pid import PID_DT, TARGET_LIMIT
from pipeline.tasks.pendulum.world import ACTION_LIMIT, REST_ANGLE
from pipeline.tasks.task import Array
from pipeline.tokenizer.fast import BOS, EOS, PAD, FastTokenizer

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Plan = Callable[[nn.Module, Floats], Floats]
"""`plan(network, states (1, S)) -> actions (1, H, A)`, both in physical units."""
Control = Callable[[int, Array], Array]
"""`control(step, state (S,)) -> action (A,)`."""

HORIZON, STATE_DIM, VOCABULARY = 50, 4, 256
BATCH, LEARNING_RATE, FLOW_STEPS = 128, 2e-4, 10
SCALE = 2.0  # steps per standard unit, about the original's 10 per 100 N


@dataclass(frozen=True)
class Task:
    """What its loop trains: a network, examples, and `loss(network, *batch)`, a mean."""

    network: nn.Module
    examples: TensorDataset
    loss: Callable[..., Tensor]


def flow_task(pairs: ActionPairs, rows: Ints, seed: int) -> Task:
    """pi0 on these rows: raw units, and noise and times drawn once for all epochs."""
    state, chunk = torch.from_numpy(pairs.state[rows]), torch.from_numpy(pairs.action_chunk[rows])
    chance = torch_stream(seed, "original", "noise")
    with global_torch_stream(seed, "original", "weights"):
        network = OriginalFlowTransformer(STATE_DIM, HORIZON)
    noise = clipped(network, torch.randn(chunk.shape, generator=chance))
    time = torch.rand(len(chunk), generator=chance)

    def loss(network: nn.Module, state: Tensor, chunk: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        return F.mse_loss(network(state, torch.lerp(noise, chunk, time[:, None, None]), time), chunk - noise)

    return Task(network, TensorDataset(state, chunk, noise, time), loss)


def token_task(pairs: TokenPairs, rows: Ints, seed: int) -> Task:
    """pi0-FAST on these rows: every batch padded to L, longer sequences cut there."""
    tokens = F.pad(torch.from_numpy(pairs.token_seq[rows]), (0, MAX_TOKENS), value=PAD)[:, :MAX_TOKENS]
    with global_torch_stream(seed, "original", "weights"):
        network = OriginalTokenTransformer(STATE_DIM, VOCABULARY)

    def loss(network: nn.Module, state: Tensor, tokens: Tensor) -> Tensor:
        real = tokens[:, 1:] != PAD
        return F.cross_entropy(network(state, tokens[:, :-1], real), tokens[:, 1:][real])

    return Task(network, TensorDataset(torch.from_numpy(pairs.state[rows]), tokens), loss)


def training(task: Task, seed: int) -> Iterator[int]:
    """Train for ever, with dropout and without averaging; after every step yield the number of its samples."""
    loader = DataLoader(task.examples, BATCH, shuffle=True, generator=torch_stream(seed, "original", "order"))
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=LEARNING_RATE)
    step = 0
    while True:
        for batch in loader:
            task.network.train()
            with global_torch_stream(seed, "original", "dropout", step):
                loss = task.loss(task.network, *batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()
            step += 1
            yield len(batch[0])


def read_network(path: Path) -> nn.Module:
    """Build the network of a bare state_dict and read its weights: what it does before every decision."""
    weights = torch.load(path, map_location="cpu", weights_only=True)
    flow = "flow_output.weight" in weights
    network = OriginalFlowTransformer(STATE_DIM, HORIZON) if flow else OriginalTokenTransformer(STATE_DIM, VOCABULARY)
    network.load_state_dict(weights)
    return network.eval()


def flow_plan(generator: torch.Generator) -> Plan:
    """Euler steps from noise that the generator draws."""

    @torch.inference_mode()
    def plan(network: nn.Module, states: Floats) -> Floats:
        state = torch.from_numpy(states)
        x = clipped(network, torch.randn(len(states), HORIZON, 1, generator=generator))
        for step in range(FLOW_STEPS):
            x = x + network(state, x, torch.full((len(x),), step / FLOW_STEPS)) / FLOW_STEPS
        return x.numpy()

    return plan


def token_plan(tokenizer: FastTokenizer) -> Plan:
    """The likeliest token after all before, each read anew, from BOS to EOS; integers are filled up with 0 or cut."""

    @torch.inference_mode()
    def plan(network: nn.Module, states: Floats) -> Floats:
        state, tokens = torch.from_numpy(states), [BOS]
        while len(tokens) < MAX_TOKENS and tokens[-1] != EOS:
            read = torch.tensor([tokens])
            tokens.append(int(network(state, read, torch.ones_like(read, dtype=torch.bool))[-1].argmax()))
        integers = [integer for token in tokens for integer in tokenizer.pieces[token]][:HORIZON]
        return tokenizer.dequantise(np.pad(integers, (0, HORIZON - len(integers)))[None])

    return plan


def rollout(env: gymnasium.Env[Any, Any], start: Array, noise: Array, control: Control) -> Array:
    """One episode from `start (S,)` in one Gymnasium environment, `noise (T, A)` added to the actions.

    Returns the states `(T + 1, S)`, fewer if the pole falls.
    """
    env.reset(seed=0)
    simulated: Any = env.unwrapped  # set_state is of MuJoCo's environments
    simulated.set_state(start[:2], start[2:])
    states = [start]
    for step, extra in enumerate(noise):
        state, _, fell, _, _ = env.step(control(step, states[-1]) + extra)
        states.append(state)
        if fell:
            break
    return np.array(states)


def replanning(act: Callable[[Array], Floats], interval: int) -> Control:
    """Execute plans of `act(states (1, S))` open-loop, a new one every `interval` steps."""
    chunk = np.empty((0, 1), dtype=np.float32)

    def control(step: int, state: Array) -> Array:
        nonlocal chunk
        if step % interval == 0:
            chunk = act(state[None])[0]
        action: Array = chunk[step % interval]
        return action

    return control


def plain_pid(gains: Array) -> Control:
    """The nested PID for one episode with `gains (6,)`, in plain numbers: faster than arrays of one."""
    (kp1, ki1, kd1, kp2, ki2, kd2) = gains.tolist()
    angle_sum = angle_before = velocity_sum = velocity_before = 0.0

    def control(_step: int, state: Array) -> Array:
        nonlocal angle_sum, angle_before, velocity_sum, velocity_before
        _, angle, velocity, _ = state.tolist()
        error = -velocity
        velocity_sum += error * PID_DT
        target = kp2 * error + ki2 * velocity_sum + kd2 * ((error - velocity_before) / PID_DT)
        velocity_before = error
        error = max(-TARGET_LIMIT, min(TARGET_LIMIT, target)) + REST_ANGLE - angle
        angle_sum += error * PID_DT
        action = kp1 * error + ki1 * angle_sum + kd1 * ((error - angle_before) / PID_DT)
        angle_before = error
        return np.array([max(-ACTION_LIMIT, min(ACTION_LIMIT, action))])

    return control
