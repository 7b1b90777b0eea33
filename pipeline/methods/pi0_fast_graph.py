"""pi0-FAST as an ONNX graph: the computation of `pi0_fast.act`, with tokens generated in a loop with key-value caches.

The loop's body generates one token for the whole batch. Full sequences continue with EOS, which encodes no
coefficients, until all are full. The loop returns the coefficients of each token, and their place in the chunk.

Shapes: B batch, W width, N heads, D = W / N, V vocabulary, M coefficients of the longest token, C = H*A coefficients,
L tokens of the longest sequence, S state.
"""

import math

import numpy as np
import torch
from torch import nn

from pipeline.errors import SettingsError
from pipeline.methods.method import Interface
from pipeline.methods.settings import TokenActing
from pipeline.models.graph import (
    Carried,
    Collected,
    Floats,
    Graph,
    block,
    layer_norm,
    mlp_embedding,
    standardise,
)
from pipeline.models.token_transformer import TokenTransformer
from pipeline.tokenizer.fast import BOS, EOS, FastTokenizer

MIN_P = 1e-3  # tokens less likely than this share of the likeliest are left out of expectations


@torch.inference_mode()
def pi0_fast_graph(graph: Graph, network: nn.Module, acting: TokenActing, interface: Interface) -> str:
    """Add the nodes from "state" `(B, S)` to actions `(B, H, A)` in physical units, and return the actions' name.

    Raises `SettingsError` for sampled tokens and for the reference system's network, which have no graph.
    """
    if acting.decoding == "sampled":
        raise SettingsError(
            "decoding: an exported policy draws no tokens, found sampled; choose --act decoding=expected."
        )
    if not isinstance(network, TokenTransformer):
        raise SettingsError("arch: only the small network can be exported, found the original's.")
    tokenizer = interface.tokenizer
    assert tokenizer is not None, "pi0-FAST's interface carries a tokenizer"
    state = standardise(graph, "state", interface.state.mean, interface.state.std)
    condition = mlp_embedding(graph, state, network.state_embedding)  # (B, W)
    batch = graph.op("Shape", condition, end=1)

    step = graph.body()  # inside, each (B,): "token", the last one, and "remaining", coefficients still to fill
    filled = step.op("Sub", np.array(tokenizer.coefficients), "remaining")
    heads, width = network.heads, network.positions.shape[1]
    empty = graph.filled(graph.op("Concat", batch, np.array([heads, 0, width // heads]), axis=0), 0)  # (B, N, 0, D)
    logits, caches = next_logits(step, network, condition, filled, empty)
    logits = step.op("Add", logits, step.op("Gather", allowed(tokenizer), "remaining"))
    if acting.decoding == "expected":
        logits = near_expectation(step, logits, tokenizer)
    token = step.op("ArgMax", logits, axis=1, keepdims=0)
    length = step.op("Gather", tokenizer.lengths, token)
    written = step.op("Gather", pieces(tokenizer), token)  # (B, M)
    remaining = step.op("Sub", "remaining", length)
    more = step.op("Greater", step.op("ReduceMax", remaining, np.array([0]), keepdims=0), np.array(0))
    carried = [
        Carried("token", graph.filled(batch, BOS, np.int64), token, np.int64),
        Carried("remaining", graph.filled(batch, tokenizer.coefficients, np.int64), remaining, np.int64),
        *caches,
    ]
    collected = [Collected(written), Collected(filled, np.int64)]
    written, place = graph.loop(step, tokenizer.coefficients, more, carried, collected)  # (L, B, M), (L, B)
    return chunks(graph, tokenizer, batch, written, place)


def near_expectation(step: Graph, logits: str, tokenizer: FastTokenizer) -> str:
    """Keep the logits `(B, V)` of tokens that begin with the integer nearest to the next coefficient's expectation."""
    never = np.array(-np.inf, np.float32)
    least = step.op("Add", step.op("ReduceMax", logits, np.array([1])), np.array(math.log(MIN_P), np.float32))
    logits = step.op("Where", step.op("GreaterOrEqual", logits, least), logits, never)
    first = tokenizer.first.astype(np.float32)
    mean = step.op("MatMul", step.op("Softmax", logits, axis=1), first[:, None])  # (B, 1)
    distance = step.op("Abs", step.op("Sub", first, mean))
    distance = step.op("Where", step.op("Equal", logits, never), -never, distance)
    nearest = step.op("Gather", first, step.op("ArgMin", distance, axis=1, keepdims=1))
    return step.op("Where", step.op("Equal", first, nearest), logits, never)


def next_logits(
    step: Graph, network: TokenTransformer, condition: str, filled: str, empty: str
) -> tuple[str, list[Carried]]:
    """Add `TokenTransformer.next_logits` for "token", with `filled (B,)` coefficients.

    Returns the logits' name `(B, V)`, and the caches `(B, N, 0.., D)` for the next round.
    """
    caches: list[Carried] = []
    embedding, head = network.tables()
    position = step.op("Gather", network.positions, filled)
    x = step.op("Gather", embedding, "token")
    x = step.op("Add", x, step.op("Add", position, condition))
    for number, layer in enumerate(network.blocks):
        past = [f"{kind}_of_layer_{number}" for kind in ("keys", "values")]

        def attend(qkv: str, past: list[str] = past) -> str:
            one = np.array([1])  # the axis of tokens
            parts = step.ops("Split", 3, step.op("Unsqueeze", qkv, one), axis=-1, num_outputs=3)
            heads = {"q_num_heads": network.heads, "kv_num_heads": network.heads}
            mixed, *present = step.ops("Attention", 3, *parts, "", *past, **heads)
            caches.extend(Carried(name, empty, made) for name, made in zip(past, present, strict=True))
            return step.op("Squeeze", mixed, one)

        x = block(step, x, layer, attend)
    normed = layer_norm(step, x, network.norm)
    return step.op("Gemm", normed, head.T, network.token_bias), caches


def chunks(graph: Graph, tokenizer: FastTokenizer, batch: str, written: str, place: str) -> str:
    """Add up the coefficients `written (L, B, M)` from `place (L, B)` on, and transform them: actions `(B, H, A)`.

    Tokens of fewer than M coefficients write trailing zeros, so the sum is right, and there are C + M places.
    """
    size, longest = tokenizer.coefficients, int(tokenizer.lengths.max())
    places = graph.op("Add", graph.op("Unsqueeze", place, np.array([2])), np.arange(longest))
    by_row = [
        graph.op("Reshape", graph.op("Transpose", each, perm=[1, 0, 2]), np.array([0, -1]))
        for each in (places, written)
    ]
    zeros = graph.filled(graph.op("Concat", batch, np.array([size + longest]), axis=0), 0)
    coefficients = graph.op("ScatterElements", zeros, *by_row, axis=1, reduction="add")
    units = tokenizer.standardised(np.eye(size + longest, size, dtype=np.int64))  # chunks of single coefficients
    units, rest = units * tokenizer.actions.std, np.tile(tokenizer.actions.mean, tokenizer.horizon)
    actions = graph.op("Gemm", coefficients, units.reshape(size + longest, size), rest)
    return graph.op("Reshape", actions, np.array([-1, tokenizer.horizon, tokenizer.action_dim]))


def allowed(tokenizer: FastTokenizer) -> Floats:
    """Return the mask of the logits when r coefficients remain, `(C + 1, V)`: 0 for tokens that fit, -inf for others.

    It allows the same tokens as `pi0_fast.decode`. When none remain, only EOS is allowed.
    """
    fits = tokenizer.fits.copy()
    fits[0, EOS] = True
    return np.where(fits, 0, -np.inf).astype(np.float32)


def pieces(tokenizer: FastTokenizer) -> Floats:
    """Return the integers that each token encodes, padded with zeros, `(V, M)`."""
    table = np.zeros((tokenizer.vocabulary, tokenizer.lengths.max()), np.float32)
    for row, piece in zip(table, tokenizer.pieces, strict=True):
        row[: len(piece)] = piece
    return table
