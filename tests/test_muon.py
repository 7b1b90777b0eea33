"""Muon: what its iteration does to singular values, and its updates beside torch's own, one matrix at a time."""

import torch
from torch import nn
from torch.testing import assert_close

from pipeline.config import make
from pipeline.methods.settings import Pi0Settings
from pipeline.models.flow_transformer import FlowTransformer
from pipeline.models.original import OriginalFlowTransformer
from pipeline.training.muon import ITERATIONS, QUINTIC, Muon, orthogonalised
from pipeline.training.state import optimizers_of


def test_iteration_acts_on_singular_values_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 12, 7, generator=generator)
    left, values, right = torch.linalg.svd(matrices / matrices.norm(dim=(1, 2), keepdim=True), full_matrices=False)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        values = a * values + b * values**3 + c * values**5
    expected = left @ torch.diag_embed(values) @ right
    assert_close(orthogonalised(matrices), expected, atol=1e-4, rtol=1e-4)
    assert_close(orthogonalised(matrices.mT), expected.mT, atol=1e-4, rtol=1e-4)
    assert float(values.min()) > 0.6 and float(values.max()) < 1.3


def test_steps_are_those_of_torch_on_each_matrix() -> None:
    generator = torch.Generator().manual_seed(1)
    start = [torch.randn(shape, generator=generator) for shape in [(8, 4), (8, 4), (4, 8), (6, 6)]]
    ours, theirs = ([nn.Parameter(matrix.clone()) for matrix in start] for _ in range(2))
    optimizer = Muon(ours, lr=0.1, weight_decay=0.05)
    reference = torch.optim.Muon(theirs, lr=0.1, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        optimizer.step()
        reference.step()
    for mine, other, before in zip(ours, theirs, start, strict=True):
        assert_close(mine, other, atol=0.01, rtol=0.01)  # torch iterates in bfloat16
        assert float((mine - before).detach().abs().mean()) > 0.02


def test_only_matrices_of_our_blocks_go_to_muon() -> None:
    settings = make(Pi0Settings, {"width": 16, "layers": 2})
    network = FlowTransformer(4, 50, 1, patch=10, width=16, layers=2, heads=2, dropout=0.0)
    adamw, muon = optimizers_of(network, settings)
    matrices = muon.param_groups[0]["params"]
    assert len(matrices) == 2 * 4 and {matrix.ndim for matrix in matrices} == {2}
    both = [*adamw.param_groups[0]["params"], *matrices]
    assert {id(each) for each in both} == {id(each) for each in network.parameters()} and len(both) == len(set(both))
    (alone,) = optimizers_of(OriginalFlowTransformer(4, 50), settings)
    assert isinstance(alone, torch.optim.AdamW)
