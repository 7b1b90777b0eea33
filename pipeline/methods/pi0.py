"""pi0: flow matching over the whole action chunk (Lipman et al. 2022, arXiv 2210.02747; Black et al. 2024, 2410.24164).

Time of the flow: t = 0 is noise, t = 1 is data, x_t = (1 - t) noise + t data, and the network learns the velocity
data - noise. One t per chunk. Shapes: B batch, H horizon, A action, S state.
"""

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import SettingsError
from pipeline.methods.method import (
    Interface,
    Method,
    Noise,
    Numbers,
    Plans,
    Prepared,
    Rows,
    Stacked,
    prepare_actions,
)
from pipeline.methods.pi0_graph import pi0_graph
from pipeline.methods.settings import ChunkRecipe, FlowActing, Pi0Settings, RegressionSettings
from pipeline.models.flow_transformer import FlowTransformer
from pipeline.models.original import OriginalFlowTransformer

CHUNK_NUMBERS = ("near", "far_weight")  # of the loss


def prepare(settings: Pi0Settings | RegressionSettings) -> Prepared:
    """Load the action pairs and standardise them by the training split; raises `DataError`, `SettingsError`."""
    prepared = prepare_actions(settings, settings.pairs)
    check_network(settings, len(prepared.interface.action.mean))
    warnings = chunk_warnings(settings, prepared.interface.horizon)
    return replace(prepared, warnings=(*prepared.warnings, *warnings))


def chunk_warnings(settings: ChunkRecipe, horizon: int) -> tuple[str, ...]:
    """Return a warning for each changed setting that is not what this horizon makes of it; defaults fit any."""
    found = []
    changed = {name for name, field in type(settings).model_fields.items() if getattr(settings, name) != field.default}
    if "patch" in changed and (patch := fitting_patch(settings.patch, horizon)) != settings.patch:
        found.append(
            f"patch {settings.patch} does not divide the horizon {horizon}: it becomes {patch}, the largest that does."
        )
    if changed & {"near", "far_weight"} and settings.near >= horizon and settings.far_weight != 1:
        found.append(f"near {settings.near} covers the horizon {horizon}, so far_weight has no effect.")
    return tuple(found)


def check_network(settings: Pi0Settings | RegressionSettings, action_dim: int) -> None:
    """Raise `SettingsError` if no network of these settings plans so many action dimensions."""
    if settings.arch == "original" and action_dim != 1:
        raise SettingsError(f"arch: the original network takes 1 action dimension, {settings.pairs} has {action_dim}.")


def fitting_patch(patch: int, horizon: int) -> int:
    """Return the largest divisor of the horizon up to `patch`, so that one recipe fits the horizons of all tasks."""
    return next(size for size in range(min(patch, horizon), 0, -1) if horizon % size == 0)


def build(settings: Pi0Settings | RegressionSettings, interface: Interface) -> nn.Module:
    """Make the velocity network for these sizes; raises `SettingsError`, as `prepare` does earlier."""
    state_dim, action_dim = len(interface.state.mean), len(interface.action.mean)
    check_network(settings, action_dim)
    if settings.arch == "original":
        return OriginalFlowTransformer(state_dim, interface.horizon)
    return FlowTransformer(
        state_dim,
        interface.horizon,
        action_dim,
        patch=fitting_patch(settings.patch, interface.horizon),
        width=settings.width,
        layers=settings.layers,
        heads=settings.heads,
        dropout=settings.dropout,
    )


def clipped(network: nn.Module, noise: Tensor) -> Tensor:
    """Clip noise to the network's limit, if it has one."""
    limit = cast(float | None, network.noise_limit)
    return noise if limit is None else noise.clamp(-limit, limit)


def action_weights(squares: Tensor, near: float | Tensor, far_weight: float | Tensor) -> Tensor:
    """Return the weights `(H, A)` of `squares (B, H, A)`: lower for the far actions, with mean one."""
    is_near = torch.arange(squares.shape[1], device=squares.device)[:, None] < near
    weights = torch.where(is_near, torch.ones_like(squares[0]), far_weight)
    return weights / weights.mean()


def weigh(squares: Tensor, settings: ChunkRecipe) -> Tensor:
    """Sum `squares (B, H, A)`, weighted."""
    return (squares * action_weights(squares, settings.near, settings.far_weight)).sum()


def weigh_rows(squares: Tensor, numbers: Numbers) -> tuple[Tensor, Tensor]:
    """Sum and count `squares (B, H, A)` by row, weighted: each `(B,)`."""
    sums = (squares * action_weights(squares, numbers["near"], numbers["far_weight"])).sum((1, 2))
    return sums, torch.full_like(sums, squares[0].numel())


def draw(network: nn.Module, rows: Rows, generator: torch.Generator) -> Rows:
    """Draw noise `(B, H, A)` and times `(B,)` for `state (B, S)` and `chunk (B, H, A)`, on the CPU."""
    chunk = rows[1]
    noise = clipped(network, torch.randn(chunk.shape, generator=generator))
    return noise, torch.rand(len(chunk), generator=generator)


def velocity_error(network: nn.Module, state: Tensor, chunk: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """Return the error of the velocity `(B, H, A)` at a time `(B,)` of each chunk's flow."""
    noisy = torch.lerp(noise, chunk, time[:, None, None])
    error: Tensor = network(state, noisy, time) - (chunk - noise)
    return error


def loss(network: nn.Module, settings: Pi0Settings, rows: Rows, generator: torch.Generator) -> tuple[Tensor, int]:
    """Sum and count of squared velocity errors for `state (B, S)` and `chunk (B, H, A)`, with fresh noise and times."""
    state, chunk = rows
    noise, time = draw(network, rows, generator)
    error = velocity_error(network, state, chunk, noise.to(chunk.device), time.to(chunk.device))
    return weigh(error.square(), settings), error.numel()


def stacked_loss(network: nn.Module, numbers: Numbers, rows: Rows) -> tuple[Tensor, Tensor]:
    """The same by row, for rows with their noise and times: see `Stacked`."""
    return weigh_rows(velocity_error(network, *rows).square(), numbers)


def integrate(network: nn.Module, state: Tensor, start: Tensor, steps: int) -> Tensor:
    """Integrate `start (B, H, A)` from t = 0 to t = 1 in `steps` Euler steps."""
    x = start
    for step in range(steps):
        time = torch.full((len(x),), step / steps, device=x.device)
        x = x + network(state, x, time) / steps
    return x


def act(
    network: nn.Module,
    acting: FlowActing,
    interface: Interface,
    states: NDArray[np.float32],
    noise: Noise,
) -> Plans:
    """Plan chunks for `states (B, S)`; no noise is drawn if `start_noise` is 0."""
    device = next(network.parameters()).device
    shape = (len(states), interface.horizon, len(interface.action.mean))
    start = clipped(network, noise(shape)) * acting.start_noise if acting.start_noise else torch.zeros(shape)
    state = torch.from_numpy(interface.state.apply(states)).to(device)
    chunk = integrate(network, state, start.to(device), acting.flow_steps)
    return Plans(interface.action.invert(chunk.cpu().numpy()))


PI0 = Method(
    name="pi0",
    prefix="tinypi0",
    loss_label="squared velocity error, standard units",
    settings_type=Pi0Settings,
    acting_type=FlowActing,
    prepare=prepare,
    build=build,
    loss=loss,
    act=act,
    graph=pi0_graph,
    stacked=Stacked(stacked_loss, draw, CHUNK_NUMBERS),
)
