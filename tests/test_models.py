"""The networks: what attention may see, packing against padding, cached against uncached decoding."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from pipeline.models.flow_transformer import FlowTransformer
from pipeline.models.original import OriginalTokenTransformer
from pipeline.models.token_transformer import TokenTransformer, pack
from pipeline.tokenizer.fast import BOS, PAD

VOCABULARY = 40
PIECES = [(), (), (), *[(integer,) for integer in range(-15, 16)], *[(0, integer) for integer in range(6)]]


def token_network(**changes: int) -> TokenTransformer:
    torch.manual_seed(0)
    sizes = {"width": 16, "layers": 2, "heads": 2} | changes
    return TokenTransformer(4, PIECES, np.ones(50), dropout=0.0, **sizes).eval()


def random_sequences(lengths: list[int]) -> torch.Tensor:
    tokens = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in enumerate(lengths):
        tokens[row, 0] = BOS
        tokens[row, 1:length] = torch.randint(3, VOCABULARY, (length - 1,))
    return tokens


@given(st.lists(st.integers(1, 70), min_size=1, max_size=60))
def test_packed_rows_never_overlap_or_overflow(lengths: list[int]) -> None:
    starts, rows, slots = pack(lengths)
    taken = [slot for start, length in zip(starts, lengths, strict=True) for slot in range(start, start + length)]
    assert len(taken) == len(set(taken)) == sum(lengths) and max(taken) < rows * slots
    assert all(start // slots == (start + length - 1) // slots for start, length in zip(starts, lengths, strict=True))


@pytest.mark.parametrize(
    ("lengths", "rows", "slots"),
    [
        ([16, 11, 5] * 40, 40, 32),  # full rows
        ([50] * 128, 128, 50),  # as long as the longest
        ([20] * 128, 43, 64),  # three in 64 slots, where 32 would hold one
        ([20], 1, 32),  # no row less: not longer
    ],
)
def test_rows_become_longer_where_many_slots_would_stay_empty(lengths: list[int], rows: int, slots: int) -> None:
    assert pack(lengths)[1:] == (rows, slots)


def test_packing_gives_what_each_sequence_gives_alone() -> None:
    network, state = token_network(), torch.randn(7, 4)
    tokens = random_sequences([3, 24, 1, 9, 9, 16, 40])
    together = network(state, tokens, tokens != PAD)
    alone = [network(state[row : row + 1], tokens[row : row + 1], tokens[row : row + 1] != PAD) for row in range(7)]
    assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", [token_network, lambda: OriginalTokenTransformer(4, VOCABULARY).eval()])
def test_step_by_step_decoding_equals_the_whole_forward(make: type) -> None:
    network, state = make(), torch.randn(3, 4)
    tokens = random_sequences([12, 12, 12])
    whole = network(state, tokens, tokens != PAD).view(3, 12, VOCABULARY)
    cache = network.start(state)
    steps = torch.stack([network.next_logits(tokens[:, position], cache) for position in range(12)], 1)
    assert_close(steps, whole, atol=1e-5, rtol=1e-5)


def test_logits_see_the_past_the_state_and_nothing_else() -> None:
    network, state = token_network(), torch.randn(1, 4)
    tokens = random_sequences([10])
    before = network(state, tokens, tokens != PAD)
    changed = tokens.clone()
    changed[0, 6] = (tokens[0, 6] - 2) % (VOCABULARY - 3) + 3
    after = network(state, changed, changed != PAD)
    assert_close(before[:6], after[:6])
    assert not torch.allclose(before[6:], after[6:])
    assert not torch.allclose(before, network(state + 1, tokens, tokens != PAD))


@pytest.mark.parametrize(("horizon", "action_dim", "patch"), [(50, 1, 10), (50, 1, 1), (12, 3, 4), (7, 2, 7)])
def test_flow_network_takes_any_sizes(horizon: int, action_dim: int, patch: int) -> None:
    network = FlowTransformer(5, horizon, action_dim, patch=patch, width=16, layers=1, heads=2, dropout=0.0)
    noisy = torch.randn(3, horizon, action_dim)
    assert network(torch.randn(3, 5), noisy, torch.rand(3)).shape == noisy.shape


def test_flow_network_uses_state_chunk_and_time_of_its_own_row() -> None:
    torch.manual_seed(0)
    network = FlowTransformer(4, 50, 1, patch=10, width=16, layers=2, heads=2, dropout=0.0).eval()
    state, noisy, time = torch.randn(4, 4), torch.randn(4, 50, 1), torch.rand(4)
    before = network(state, noisy, time)
    for changed in (
        network(state + torch.eye(4)[2][:, None], noisy, time),
        network(state, noisy + torch.eye(4)[2][:, None, None], time),
        network(state, noisy, time + torch.eye(4)[2] / 2),
    ):
        assert not torch.allclose(changed[2], before[2], atol=1e-4)
        assert_close(changed[[0, 1, 3]], before[[0, 1, 3]])


def test_gradients_do_not_depend_on_chance_with_more_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        network, state = token_network(width=64, layers=1), torch.randn(128, 4)
        tokens = random_sequences([24] * 128)
        gradients = []
        for _ in range(4):
            network.zero_grad()
            network(state, tokens, tokens != PAD).square().sum().backward()
            gradients.append([parameter.grad.clone() for parameter in network.parameters()])
        assert all(torch.equal(a, b) for other in gradients[1:] for a, b in zip(gradients[0], other, strict=True))
    finally:
        torch.set_num_threads(before)
