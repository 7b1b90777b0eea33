"""pi0 as an ONNX graph: the computation of `pi0.act` from zero noise, with the flow's steps unrolled.

Shapes: B batch, H horizon, A action, P patches, W width.
"""

import numpy as np
import torch
from torch import nn

from pipeline.errors import SettingsError
from pipeline.methods.method import Interface
from pipeline.methods.settings import FlowActing
from pipeline.models.flow_transformer import FlowTransformer
from pipeline.models.graph import Graph, block, layer_norm, linear, mlp_embedding, standardise, to_physical


def pi0_graph(graph: Graph, network: nn.Module, acting: FlowActing, interface: Interface) -> str:
    """Add the nodes from "state" `(B, S)` to actions `(B, H, A)` in physical units, and return the actions' name.

    Raises `SettingsError` for noise at the start and for the reference system's network, which have no graph.
    """
    if acting.start_noise:
        raise SettingsError(
            f"start_noise: an exported policy starts from zero, found {acting.start_noise:g}; "
            "choose --act start_noise=0."
        )
    return flow_graph(graph, network, interface, acting.flow_steps)


@torch.inference_mode()
def flow_graph(graph: Graph, network: nn.Module, interface: Interface, steps: int) -> str:
    """Do the same for any number of steps; raises `SettingsError` for the reference system's network."""
    if not isinstance(network, FlowTransformer):
        raise SettingsError("arch: only the small network can be exported, found the original's.")
    patches, width = network.positions.shape
    state = mlp_embedding(
        graph, standardise(graph, "state", interface.state.mean, interface.state.std), network.state_embedding
    )
    state = graph.op("Unsqueeze", state, np.array([1]))  # (B, 1, W), the same at all times
    chunk = ""  # (B P, patch A) in standard units; until the first step it is 0

    def attend(qkv: str) -> str:
        sequences = graph.op("Reshape", qkv, np.array([-1, patches, 3 * width]))
        parts = graph.ops("Split", 3, sequences, axis=-1, num_outputs=3)
        mixed = graph.op("Attention", *parts, q_num_heads=network.heads, kv_num_heads=network.heads)
        return graph.op("Reshape", mixed, np.array([-1, width]))

    for step in range(steps):
        time = network.embed_time(torch.full((1,), step / steps))
        constant = time + network.positions + network.patch_embedding.bias  # (P, W)
        x = graph.op("Reshape", graph.op("Add", state, constant), np.array([-1, width]))
        if chunk:
            x = linear(graph, chunk, network.patch_embedding, bias=x)
        for layer in network.blocks:
            x = block(graph, x, layer, attend)
        velocity = linear(graph, layer_norm(graph, x, network.norm), network.velocity)
        moved = graph.op("Div", velocity, np.array(steps, np.float32))
        chunk = graph.op("Add", chunk, moved) if chunk else moved
    shape = np.array([-1, interface.horizon, len(interface.action.mean)])
    return to_physical(graph, graph.op("Reshape", chunk, shape), interface.action.mean, interface.action.std)
