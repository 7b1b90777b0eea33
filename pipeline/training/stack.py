"""The weights of N models as one table on a device, updated by one function for all of them.

Nothing waits for the device within a step, and no shape depends on a value: on CUDA a step is one graph. What one model
does never depends on the values of another. Shapes: N models, P parameters of a model, B batch.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.errors import CheckpointError, one_line
from pipeline.methods.method import Numbers, Rows, Stacked
from pipeline.methods.settings import TrainSettings
from pipeline.streams import global_torch_stream, torch_stream
from pipeline.training.fit import EVALUATION_BATCH, EVALUATION_SEED, Problem
from pipeline.training.muon import LIKE_ADAMW, MOMENTUM, orthogonalised
from pipeline.training.state import matrices_of

LOG = logging.getLogger(__name__)
BETAS, EPSILON, CLIP_EPSILON = (0.9, 0.999), 1e-8, 1e-6  # as in torch.optim.AdamW and torch's clipping
ALIGNED = 4  # numbers: products of matrices are fastest where these begin at 16 bytes
WARM_UP = 3  # steps before a graph is captured, as torch's documentation asks
TABLES = ("weights", "averaged", "momentum", "square")

Rates = Sequence[float]
"""Of a model's next step: 1 if it takes part, learning rate, pace of the average, bias corrections of AdamW."""
RESTING: Rates = (0.0, 0.0, 0.0, 1.0, 1.0)


class LossModule(nn.Module):
    """A loss as a module around its network, so that `functional_call` can put other weights into the network."""

    def __init__(self, network: nn.Module, loss: Callable[[nn.Module, Numbers, Rows], tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, numbers: Numbers, rows: Rows) -> tuple[Tensor, Tensor]:
        return self.loss(self.network, numbers, rows)


class Stack:
    """Models under training: their weights, averages and moments, each a table `(N, P)`, and the inputs of a step.

    In the tables Muon's matrices come first, those of a shape side by side.
    """

    def __init__(self, stacked: Stacked, problems: Sequence[Problem], settings: Sequence[TrainSettings]) -> None:
        first = problems[0]
        network, count = first.network, len(problems)
        self.stacked, self.seed, self.module = stacked, settings[0].seed, LossModule(network, stacked.loss)
        self.device = next(network.parameters()).device
        parameters, matrices = dict(network.named_parameters()), {id(each) for each in matrices_of(network)}
        self.names = sorted(
            parameters,
            key=lambda name: (
                (0, *parameters[name].shape)
                if id(parameters[name]) in matrices
                else (1, parameters[name].numel() % ALIGNED > 0)
            ),
        )
        self.shapes = [parameters[name].shape for name in self.names]
        self.by_muon: dict[torch.Size, int] = {}  # how many matrices of a shape
        for name, shape in zip(self.names, self.shapes, strict=True):
            if id(parameters[name]) in matrices:
                self.by_muon[shape] = self.by_muon.get(shape, 0) + 1
        self.muon_size = sum(shape.numel() * number for shape, number in self.by_muon.items())

        named = [dict(each.network.named_parameters()) for each in problems]
        flat = torch.stack([torch.cat([each[name].detach().flatten() for name in self.names]) for each in named])
        self.spare = torch.zeros(count, -flat.shape[1] % ALIGNED, device=self.device)
        self.weights = torch.cat((flat, self.spare), 1)
        self.averaged = self.weights.clone()
        self.momentum = torch.zeros_like(self.weights)
        self.square = torch.zeros_like(self.weights[:, self.muon_size :])
        self.broken = torch.zeros(count, dtype=torch.bool, device=self.device)  # whose loss was not finite: for ever

        self.pace = torch.full_like(self.weights[0], 1 - BETAS[0])
        self.pace[: self.muon_size] = 1 - MOMENTUM
        self.weight_decay = self._column([each.weight_decay for each in settings])
        self.grad_clip = self._column([each.grad_clip for each in settings])
        self.numbers = {
            name: self._column([getattr(each, name) for each in settings])[:, 0] for name in stacked.numbers
        }

        batch = min(settings[0].batch_size, len(first.train[0]))
        self.rows = tuple(each.to(self.device) for each in first.train)
        self.index = torch.zeros(count, batch, dtype=torch.long, device=self.device)
        self.real = torch.ones(batch, dtype=torch.bool, device=self.device)
        self.rates = torch.tensor([RESTING] * count, device=self.device)
        drawn = stacked.draw(network, tuple(each[:batch] for each in first.train), torch_stream(0, "shapes"))
        self.drawn = tuple(each.expand(count, *each.shape).clone().to(self.device) for each in drawn)
        self.told = torch.zeros(count, 3, device=self.device)  # loss, terms and gradient norm of the step

        self._gradients = vmap(grad(self._mean_loss, has_aux=True), in_dims=(0, 0, 0, None), randomness="different")
        self._sums = vmap(self._summed, in_dims=(0, 0, None))
        self._views, self._averages = self._by_name(self.weights), self._by_name(self.averaged)
        self.module.train()
        self._run = captured(self._step, self.device)

    def step(self, number: int, batches: Sequence[Tensor], drawn: Sequence[Rows], rates: Sequence[Rates]) -> None:
        """Do step `number` of the models whose `rates` say so, each on its batch, with what was drawn for it.

        All batches are of one length. Those of the others do not matter.
        """
        size = len(batches[0])
        self.index[:, :size].copy_(torch.stack(tuple(batches)), non_blocking=True)
        self.real.copy_(torch.arange(len(self.real)) < size, non_blocking=True)
        self.rates.copy_(torch.tensor(rates), non_blocking=True)
        for place, parts in zip(self.drawn, zip(*drawn, strict=True), strict=True):
            place[:, :size].copy_(torch.stack(parts), non_blocking=True)
        with global_torch_stream(self.seed, "dropout together", number):
            self._run()

    @torch.no_grad()
    def evaluate(self, rows: Rows) -> list[float]:
        """Return the mean loss over all `rows` of each model's average, with the noise of `fit.evaluate`."""
        self.module.eval()
        chance = torch_stream(EVALUATION_SEED, "evaluation")
        total = torch.zeros(len(self.weights), 2, dtype=torch.float64, device=self.device)
        with attention_written_out():
            for batch in torch.split(torch.arange(len(rows[0])), EVALUATION_BATCH):
                part = tuple(each[batch] for each in rows)
                part = (*part, *self.stacked.draw(self.module.network, part, chance))
                sums, terms = self._sums(self._averages, self.numbers, tuple(each.to(self.device) for each in part))
                total += torch.stack((sums, terms), 1)
        self.module.train()
        losses: list[float] = (total[:, 0] / total[:, 1]).tolist()
        return losses

    def best_weights(self, model: int) -> dict[str, Tensor]:
        """Return the average of a model's weights, as its network names them, on the CPU."""
        row = self.averaged[model].cpu()
        found = dict(zip(self.names, self._cut(row[None]), strict=True))
        state = self.module.network.state_dict()
        return {name: found[name][0].clone() if name in found else each.cpu().clone() for name, each in state.items()}

    def rows_of(self, model: int) -> dict[str, Tensor]:
        """Return a copy of a model's row of every table, on the CPU."""
        return {f"stack.{name}": getattr(self, name)[model].detach().cpu().clone() for name in TABLES}

    def restore(self, model: int, rows: dict[str, Tensor]) -> None:
        """Put back what `rows_of` returned. Raises `CheckpointError` for what it did not."""
        for name in TABLES:
            row, place = rows.get(f"stack.{name}"), getattr(self, name)[model]
            if row is None or row.shape != place.shape:
                raise CheckpointError(
                    "snapshot: expected one of a model that was trained together with others, of the same size, found "
                    "another: other code wrote it. Start a new training."
                )
            place.copy_(row)

    def _step(self) -> None:
        batch = (*(each[self.index] for each in self.rows), *self.drawn)
        gradients, (loss, terms) = self._gradients(self._views, self.numbers, batch, self.real)
        gradient = torch.cat([*(gradients[name].reshape(len(self.weights), -1) for name in self._views), self.spare], 1)
        norm = torch.linalg.vector_norm(gradient, dim=1)
        takes_part, lr, average_pace, bias, bias_of_square = torch.split(self.rates, 1, 1)
        taking = (takes_part[:, 0] > 0) & ~self.broken
        finite = loss.isfinite() & norm.isfinite()
        self.broken |= taking & ~finite
        self.told.copy_(torch.stack((loss, terms, norm), 1))

        gradient = gradient * (self.grad_clip / (norm[:, None] + CLIP_EPSILON)).clamp(max=1)
        momentum = torch.lerp(self.momentum, gradient, self.pace)
        by_adamw = gradient[:, self.muon_size :]
        square = torch.lerp(self.square, by_adamw.square(), 1 - BETAS[1])
        adamw = (momentum[:, self.muon_size :] / bias) / ((square / bias_of_square).sqrt() + EPSILON)
        update = torch.cat((*self._muon(torch.lerp(gradient, momentum, MOMENTUM)), adamw), 1)
        weights = self.weights * (1 - lr * self.weight_decay) - lr * update
        averaged = torch.lerp(self.averaged, weights, average_pace)
        keeps = (taking & finite)[:, None]
        for name, new in zip(TABLES, (weights, averaged, momentum, square), strict=True):
            table = getattr(self, name)
            table.copy_(torch.where(keeps, new, table))

    def _muon(self, ahead: Tensor) -> list[Tensor]:
        """Return the updates of the matrices, by shape."""
        updates, begin = [], 0
        for shape, number in self.by_muon.items():
            end = begin + number * shape.numel()
            update = orthogonalised(ahead[:, begin:end].reshape(-1, *shape))
            updates.append(update.reshape(len(ahead), -1) * (LIKE_ADAMW * max(shape) ** 0.5))
            begin = end
        return updates

    def _mean_loss(
        self, parameters: dict[str, Tensor], numbers: Numbers, rows: Rows, real: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        sums, counts = functional_call(self.module, parameters, (numbers, rows))
        terms = counts.masked_fill(~real, 0).sum()  # not torch.where, which moves its 0 to the device and waits
        mean = sums.masked_fill(~real, 0).sum() / terms
        return mean, (mean, terms)

    def _summed(self, parameters: dict[str, Tensor], numbers: Numbers, rows: Rows) -> tuple[Tensor, Tensor]:
        sums, counts = functional_call(self.module, parameters, (numbers, rows))
        return sums.sum(), counts.sum()

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)[:, None]

    def _by_name(self, table: Tensor) -> dict[str, Tensor]:
        return {f"network.{name}": each for name, each in zip(self.names, self._cut(table), strict=True)}

    def _cut(self, table: Tensor) -> list[Tensor]:
        """Return the views of a table `(..., P)` by parameter."""
        sizes = [shape.numel() for shape in self.shapes]
        parts = torch.split(table[:, : sum(sizes)], sizes, 1)
        return [
            part.view(len(part), *shape) if shape else part[:, 0]
            for part, shape in zip(parts, self.shapes, strict=True)
        ]


@contextmanager
def attention_written_out() -> Iterator[None]:
    """Within it, attention is softmax and products of matrices: torch's fused one is mapped over models one by one."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def captured(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Return the step, on CUDA as one graph: without it, a thousand launches a step are most of the time.

    As torch's notes on CUDA graphs describe it: some steps on a side stream, then the capture. Those steps change
    nothing, for no model takes part in them. Where the capture fails, the step is launched piece by piece.
    """

    def written_out() -> None:
        with attention_written_out():
            step()

    if device.type != "cuda":
        return written_out
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            written_out()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            written_out()
    except torch.OutOfMemoryError:
        raise  # without a graph it would not fit either
    except RuntimeError as error:
        torch.cuda.synchronize()
        LOG.warning("no CUDA graph of a step, so training is slower, to the same result: %s", one_line(error)[:300])
        return written_out
    return graph.replay
