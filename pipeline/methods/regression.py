"""Plain regression of the action chunk: the baseline that shows the benefit of flow matching.

Network, data and loss weights are those of pi0. The network reads no noise and no time (zeros in their place), and
predicts the chunk in one pass; with the squared error, that is the expected chunk. Shapes: B batch, H horizon,
A action, S state.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.methods.method import Interface, Method, Noise, Numbers, Plans, Rows, Stacked, draw_nothing
from pipeline.methods.pi0 import CHUNK_NUMBERS, build, integrate, prepare, weigh, weigh_rows
from pipeline.methods.pi0_graph import flow_graph
from pipeline.methods.settings import Acting, RegressionSettings
from pipeline.models.graph import Graph


def predict(network: nn.Module, state: Tensor, shape: torch.Size) -> Tensor:
    """Predict the chunk `(B, H, A)` in standard units: a flow of one step from zero."""
    return integrate(network, state, torch.zeros(shape, device=state.device), steps=1)


def loss(
    network: nn.Module, settings: RegressionSettings, rows: Rows, generator: torch.Generator
) -> tuple[Tensor, int]:
    """Sum and count of squared errors for `state (B, S)` and `chunk (B, H, A)`; the generator is unused."""
    state, chunk = rows
    error = predict(network, state, chunk.shape) - chunk
    return weigh(error.square(), settings), error.numel()


def stacked_loss(network: nn.Module, numbers: Numbers, rows: Rows) -> tuple[Tensor, Tensor]:
    """The same by row: see `Stacked`."""
    state, chunk = rows
    return weigh_rows((predict(network, state, chunk.shape) - chunk).square(), numbers)


def act(
    network: nn.Module,
    acting: Acting,
    interface: Interface,
    states: NDArray[np.float32],
    noise: Noise,
) -> Plans:
    """Plan chunks for `states (B, S)`; there is no choice of acting, and no noise."""
    state = torch.from_numpy(interface.state.apply(states)).to(next(network.parameters()).device)
    chunk = predict(network, state, torch.Size((len(states), interface.horizon, len(interface.action.mean))))
    return Plans(interface.action.invert(chunk.cpu().numpy()))


def regression_graph(graph: Graph, network: nn.Module, acting: Acting, interface: Interface) -> str:
    """Add the network's nodes, see `Method.graph`: a flow of one step."""
    return flow_graph(graph, network, interface, steps=1)


REGRESSION = Method(
    name="regression",
    prefix="tinyregression",
    loss_label="squared error, standard units",
    settings_type=RegressionSettings,
    prepare=prepare,
    build=build,
    loss=loss,
    act=act,
    graph=regression_graph,
    stacked=Stacked(stacked_loss, draw_nothing, CHUNK_NUMBERS),
)
