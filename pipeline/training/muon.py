"""Muon, for the matrices of transformer blocks: the update is the momentum with its singular values equalised.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon); step size as in Liu et al. 2025 (arXiv 2502.16982), so that
AdamW's learning rate and weight decay work for both. `torch.optim.Muon` takes one matrix at a time, in bfloat16: for
matrices of width 64 that costs 7 ms per step, most of the time of a pi0 step. All matrices of a shape at once: 2 ms.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
ITERATIONS = 5
QUINTIC = 3.4445, -4.775, 2.0315  # of Newton-Schulz: steep at 0, so small singular values grow fast
LIKE_ADAMW = 0.2  # the root mean square of AdamW's updates


class Muon(torch.optim.Optimizer):
    """Updates matrices `(m, n)`; decoupled weight decay, Nesterov momentum."""

    def __init__(self, matrices: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]  # no closures here
        """Update every matrix; all must have gradients."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for matrix in group["params"]:
                by_shape.setdefault(matrix.shape, []).append(matrix)
            for shape, matrices in by_shape.items():
                gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
                momenta = [self._momentum(matrix) for matrix in matrices]
                torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
                ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)
                updates = orthogonalised(torch.stack(ahead)).unbind()
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, updates, alpha=-group["lr"] * LIKE_ADAMW * max(shape) ** 0.5)

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        momentum: Tensor = state["momentum"]
        return momentum


def orthogonalised(matrices: Tensor) -> Tensor:
    """Bring the singular values of `matrices (K, m, n)` near 1, to within about 0.7 and 1.2, by Newton-Schulz."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
