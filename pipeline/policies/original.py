"""The reference system's trained weights as policies: bare state_dicts that act in physical units."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import CheckpointError, UserError, one_line
from pipeline.methods.method import Noise, Plans
from pipeline.methods.pi0 import clipped, integrate
from pipeline.models.original import MAX_TOKENS, OriginalFlowTransformer, OriginalTokenTransformer
from pipeline.policies.checkpoint import check_weights
from pipeline.policies.policy import Act, Policy
from pipeline.tasks.facts import BEFORE
from pipeline.tokenizer.fast import BOS, EOS, FastTokenizer
from pipeline.tokenizer.stored import load_tokenizer

HORIZON, STATE_SIZE, FLOW_STEPS = 50, 4, 10

Floats = NDArray[np.float32]


def import_original(path: Path, weights: dict[str, Tensor], tokenizer: Path | None) -> Policy:
    """Load weights strictly into one of the original's networks; raises `CheckpointError` if they fit neither."""
    try:
        if "flow_output.weight" in weights:
            flow = OriginalFlowTransformer(STATE_SIZE, HORIZON)
            check_weights(weights, flow)
            flow.load_state_dict(weights)
            flow.requires_grad_(False).eval()
            return _policy(path, "pi0", _flow_act(flow))
        if "output_layer.weight" in weights:
            if tokenizer is None:
                raise CheckpointError(
                    f"{path}: original pi0-FAST weights come without their tokenizer; name it with --tokenizer."
                )
            fast = load_tokenizer(tokenizer)
            if (fast.horizon, fast.action_dim) != (HORIZON, 1):
                raise CheckpointError(
                    f"{path}: expected the original's tokenizer, of {HORIZON} x 1 actions; found {tokenizer}, of "
                    f"{fast.horizon} x {fast.action_dim}. Name another with --tokenizer."
                )
            tokens = OriginalTokenTransformer(STATE_SIZE, fast.vocabulary)
            check_weights(weights, tokens)
            tokens.load_state_dict(weights)
            tokens.requires_grad_(False).eval()
            return _policy(path, "pi0_fast", _token_act(tokens, fast))
    except UserError as error:
        raise CheckpointError(str(error)) from error
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: looks like an original state_dict, but its weights do not fit strictly ({one_line(error)[:200]})."
        ) from error
    keys = str(sorted(map(str, weights))[:3])[:200]
    raise CheckpointError(f"{path}: expected a tinypi checkpoint or an original state_dict, found keys {keys}.")


def _policy(path: Path, method: str, act: Act) -> Policy:
    name = f"original {path.stem}"
    return Policy(name=name, method=method, task=BEFORE, state_dim=STATE_SIZE, horizon=HORIZON, action_dim=1, _act=act)


def _flow_act(network: OriginalFlowTransformer) -> Act:
    def act(states: Floats, noise: Noise) -> Plans:
        start = clipped(network, noise((len(states), HORIZON, 1)))
        return Plans(integrate(network, torch.from_numpy(states), start, FLOW_STEPS).numpy())

    return act


def _token_act(network: OriginalTokenTransformer, tokenizer: FastTokenizer) -> Act:
    """Decode greedily to EOS without constraint; pad or cut to the right number of integers, and count such cases."""

    def act(states: Floats, noise: Noise) -> Plans:
        prefix = network.start(torch.from_numpy(states))
        token = torch.full((len(states),), BOS)
        generated, ended = [], torch.zeros(len(states), dtype=torch.bool)
        for _ in range(MAX_TOKENS - 1):
            token = network.next_logits(token, prefix).argmax(1)
            generated.append(token)
            ended |= token == EOS
            if ended.all():
                break
        sequences = [_until_end(sequence) for sequence in torch.stack(generated, 1).tolist()]
        values = [[value for piece in sequence for value in tokenizer.pieces[piece]] for sequence in sequences]
        integers = np.zeros((len(states), HORIZON), dtype=np.int64)
        for row, found in zip(integers, values, strict=True):
            row[: len(found)] = found[:HORIZON]
        return Plans(
            tokenizer.dequantise(integers),
            np.array([len(sequence) for sequence in sequences]),
            np.array([len(found) != HORIZON for found in values]),
        )

    return act


def _until_end(sequence: list[int]) -> list[int]:
    return sequence[: sequence.index(EOS)] if EOS in sequence else sequence
