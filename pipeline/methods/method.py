"""A method: the record of functions that training, evaluation and checkpoints use.

Shapes: B batch, H horizon, A action, S state.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.config import make
from pipeline.data.lock import data_lock
from pipeline.data.normalisation import Normalisation
from pipeline.data.pairs import ActionPairs, TokenPairs, load_action_pairs
from pipeline.data.split import Split, split_pairs
from pipeline.errors import SettingsError
from pipeline.files import file_digest
from pipeline.methods.settings import Acting, TrainSettings
from pipeline.models.graph import Graph
from pipeline.tasks.facts import UNKNOWN, TaskFacts
from pipeline.tokenizer.fast import FastTokenizer

Rows = tuple[Tensor, ...]
"""Training examples as tensors of equal first axis, in the order the method's loss takes them."""

Noise = Callable[[tuple[int, ...]], Tensor]
"""`noise((B, ...)) -> (B, ...)` draws standard normal numbers on the CPU; row b is for the plan of state b."""

Loss = Callable[[nn.Module, Any, Rows, torch.Generator], tuple[Tensor, int]]
"""`loss(network, settings, rows, generator) -> (sum, count)`: the mean is sum / count, also over unequal batches."""


Numbers = Mapping[str, Any]
"""Settings of a loss as numbers; for models trained together they are tensors, and each model has its own."""


@dataclass(frozen=True)
class Stacked:
    """A method's loss in parts that `torch.func` can map over models: every shape is fixed, and chance comes as rows.

    `loss(network, numbers, rows) -> (sums (B,), counts (B,))` by row. Its rows are those of `Method.loss`, and then
    what `draw(network, rows, generator)` has drawn, on the CPU, in the order in which `Method.loss` draws it: of these
    rows only the shapes count.
    """

    loss: Callable[[nn.Module, Numbers, Rows], tuple[Tensor, Tensor]]
    draw: Callable[[nn.Module, Rows, torch.Generator], Rows]
    numbers: tuple[str, ...]  # the settings that the loss takes; models trained together may differ in them


@dataclass(frozen=True)
class Plans:
    """B planned chunks in physical units, the token counts of token methods, and which plans are missing."""

    actions: NDArray[np.float32]  # (B, H, A)
    tokens: NDArray[np.int64] | None = None  # (B,) generated, without BOS and EOS; None for methods without tokens
    undecodable: NDArray[np.bool_] | None = None  # (B,) the tokens do not encode exactly H*A coefficients
    missing: NDArray[np.bool_] | None = None  # (B,) there is no plan: the answer of somebody else's policy has none


def joined(parts: Sequence[Plans], count: int) -> Plans:
    """Return the first `count` plans of all parts, in order; all parts count tokens, or none does."""

    def column(name: str) -> Any:
        found = [each for part in parts if (each := getattr(part, name)) is not None]
        return np.concatenate(found)[:count] if found else None

    return Plans(column("actions"), column("tokens"), column("undecodable"), column("missing"))


def rows_of(plans: Plans, rows: NDArray[np.bool_]) -> Plans:
    """Return the plans in these rows `(B,)` only."""
    kept: dict[str, Any] = {name: None if each is None else each[rows] for name, each in vars(plans).items()}
    return Plans(**kept)


@dataclass(frozen=True)
class Interface:
    """What a network is made for: the task, the horizon, the normalisation, and the tokenizer of token methods."""

    horizon: int
    state: Normalisation
    action: Normalisation
    tokenizer: FastTokenizer | None = None
    task: TaskFacts = UNKNOWN


@dataclass(frozen=True)
class Source:
    """The files that rows are from."""

    files: dict[str, Path]  # by role: "data", "tokenizer"
    digests: dict[str, str]  # sha256 of these files at the time of reading
    arrays: dict[str, NDArray[Any]]  # of the data, for the tracking store's record of the dataset
    pairs_sha256: str | None  # of the action pairs that the rows were made from, if recorded


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A method's data, loaded and checked: the three parts of the split, and the interface measured on `train`."""

    interface: Interface
    train: Rows
    val: Rows
    test: Rows
    starts: Tensor  # bool, per row of `train`: it is known to be the first pair of its trajectory
    split: Split
    source: Source
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method that turns demonstrations into a controller.

    `settings` are of the type `settings_type`, `acting` is of the type `acting_type`.
    """

    name: str
    prefix: str  # of the file names of its runs
    loss_label: str  # description of the loss, with its unit
    settings_type: type[TrainSettings]  # with the fields of `acting_type`: how its models act by default
    prepare: Callable[[Any], Prepared]
    build: Callable[[Any, Interface], nn.Module]
    loss: Loss
    act: Callable[[nn.Module, Any, Interface, NDArray[np.float32], Noise], Plans]
    """`act(network, acting, interface, states (B, S), noise) -> plans`, all in physical units."""
    graph: Callable[[Graph, nn.Module, Any, Interface], str] | None = None
    """`graph(graph, network, acting, interface)` adds the nodes from "state" `(B, S)` to actions `(B, H, A)`, all in
    physical units, and returns the actions' name. None for methods that cannot be exported."""
    stacked: Stacked | None = None  # None for methods whose models cannot be trained together
    acting_type: type[Acting] = Acting

    def acting(self, settings: TrainSettings) -> Acting:
        """Return how a model with these settings acts by default."""
        return make(self.acting_type, {name: getattr(settings, name) for name in self.acting_type.model_fields})

    def check_acting(self, act: Mapping[str, Any]) -> None:
        """Raise `SettingsError` unless models of the method can act by these values, as text or typed."""
        names = ", ".join(self.acting_type.model_fields) or "none"
        for name in act:
            if name not in self.acting_type.model_fields:
                raise SettingsError(f"act: expected a setting of how {self.name} acts ({names}), found '{name}'.")
        make(self.acting_type, dict(act))


def draw_nothing(network: nn.Module, rows: Rows, generator: torch.Generator) -> Rows:
    """`Stacked.draw` of losses without chance."""
    return ()


def prepare_actions(settings: TrainSettings, path: Path) -> Prepared:
    """Load action pairs as rows `state (N, S), chunk (N, H, A)`, standardised by the training split.

    This is `prepare` of the methods that predict numbers. Raises `DataError`, `SettingsError`.
    """
    refuse_unused(settings)
    with data_lock(path.parent):
        pairs, digest = load_action_pairs(path), file_digest(path)
    split = split_pairs(pairs.trajectory, len(pairs.state))
    interface = Interface(
        pairs.action_chunk.shape[1],
        Normalisation.of(pairs.state[split.train]),
        Normalisation.of(pairs.action_chunk[split.train]),
        task=pairs.task,
    )
    source = Source(
        {"data": path}, {"data": digest}, {"state": pairs.state, "action_chunk": pairs.action_chunk}, digest
    )
    chunks = torch.from_numpy(interface.action.apply(pairs.action_chunk))
    return prepare_rows(settings, pairs, chunks, split, interface, source)


def prepare_rows(
    settings: TrainSettings,
    pairs: ActionPairs | TokenPairs,
    targets: Tensor,
    split: Split,
    interface: Interface,
    source: Source,
) -> Prepared:
    """Split rows of standardised states `(N, S)` and `targets (N, ...)`, with the warnings that all methods share."""
    path = source.files["data"]
    states = torch.from_numpy(interface.state.apply(pairs.state))
    starts = split_starts(pairs.trajectory, pairs.step, split)
    train, val, test = split_rows((states, targets), split)
    return Prepared(
        interface=interface,
        train=train,
        val=val,
        test=test,
        starts=starts,
        split=split,
        source=source,
        warnings=(*split_warning(path, split), *starts_warning(path, settings, starts)),
    )


def split_rows(rows: Rows, split: Split) -> tuple[Rows, Rows, Rows]:
    """Select the three parts of the split from whole-file tensors."""
    train, val, test = (
        tuple(tensor[torch.from_numpy(part)] for tensor in rows) for part in (split.train, split.val, split.test)
    )
    return train, val, test


def split_starts(trajectory: NDArray[np.int64] | None, step: NDArray[np.int64] | None, split: Split) -> Tensor:
    """Mark the training rows that are first in their trajectory, by `trajectory (N,)` and `step (N,)`, if both exist.

    Steps may be counted from any number.
    """
    if trajectory is None or step is None:
        return torch.zeros(len(split.train), dtype=torch.bool)
    _, inverse = np.unique(trajectory, return_inverse=True)
    first = np.full(inverse.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, inverse, step)
    return torch.from_numpy((step == first[inverse])[split.train])


def starts_warning(path: Path, settings: TrainSettings, starts: Tensor) -> tuple[str, ...]:
    """Return a warning if `start_weight` has no effect because the first pairs of trajectories are unknown."""
    if settings.start_weight == 1 or starts.any():
        return ()
    return (
        f"{path}: has no keys 'trajectory' and 'step', so the first pairs of trajectories are unknown and start_weight "
        f"{settings.start_weight:g} has no effect: all pairs are sampled equally often.",
    )


UNUSED_BY_ORIGINAL = ("width", "layers", "heads", "dropout", "patch", "expectation_weight")


def refuse_unused(settings: TrainSettings) -> None:
    """Raise `SettingsError` for changed settings that the reference system's network does not use."""
    fields = type(settings).model_fields
    changed = [
        name for name in UNUSED_BY_ORIGINAL if name in fields and getattr(settings, name) != fields[name].default
    ]
    if settings.arch == "original" and changed:
        raise SettingsError(
            f"{changed[0]}: expected its default with arch 'original', whose network has its own sizes, found "
            f"{getattr(settings, changed[0])}. Leave it out, or train with --arch small."
        )


def split_warning(path: Path, split: Split) -> tuple[str, ...]:
    """Return a warning if the file does not allow a split by trajectory."""
    if split.by_trajectory:
        return ()
    return (
        f"{path}: has no 'trajectory' key, so the split is by pair, not by trajectory: overlapping chunks of one "
        "trajectory may be in both train and test, so the test loss is too low. "
        "'python -m pipeline collect' makes a file with this key.",
    )
