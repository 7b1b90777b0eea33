"""The settings of training: those of each method, and the shared ones; among them, how the model acts by default."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.config import AUTO, DATA, EXPERIMENT_NAME, MAX_SEED, NAME_PATTERN, NONE, RUN_NAME, Settings, with_defaults
from pipeline.tasks.settings import ForData, WithHorizon

NOT_THE_RECIPE = frozenset(("seed", "run_name", "resume", "preset", "experiment", "threads", "deterministic"))
"""Settings of a training in which models of one recipe may differ."""


class Recipe(Settings):
    """Settings shared by all methods, without the seed."""

    epochs: int = Field(2, ge=1, le=100_000, description="passes over the training split")
    batch_size: int = Field(128, ge=1, le=1_000_000, description="pairs per optimiser step")
    start_weight: float = Field(
        5.0, gt=0, le=1000, description="sampling weight of a trajectory's first pair (others: 1)"
    )
    lr: float = Field(0.004, gt=0, le=1, description="peak learning rate")
    weight_decay: float = Field(0.01, ge=0, le=10, description="decoupled weight decay")
    width: int = Field(64, ge=1, le=8192, description="embedding width")
    layers: int = Field(3, ge=1, le=128, description="transformer layers")
    heads: int = Field(2, ge=1, le=512, description="attention heads; must divide the width")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout in the residual branches, never on the output")
    schedule: Literal["cosine", "plateau", "constant"] = Field("cosine", description="learning rate over time")
    warmup: int = Field(
        200,
        ge=0,
        le=10_000_000,
        description="steps of linear warm-up; at most a quarter of all steps",
    )
    patience: int = Field(20, ge=1, le=100_000, description="stop after this many epochs without a better val loss")
    ema: float = Field(0.998, ge=0, lt=1, description="decay of the averaged weights, which are kept; 0 for none")
    grad_clip: float = Field(1.0, gt=0, le=1e6, description="largest gradient norm")
    arch: Literal["small", "original"] = Field(
        "small", description="our network, or the reference system's; for FAST with as many positions as a chunk needs"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to train")
    deterministic: Literal["no", "yes"] = Field(
        "no", description="on CUDA, yes: the same bits each time, by slower algorithms; the CPU does without"
    )
    threads: int = Field(1, ge=1, le=1024, description="torch threads; 1 is fastest for networks this small")
    experiment: str = Field(
        "tinypi", pattern=f"^{NAME_PATTERN}$", description="MLflow experiment", json_schema_extra=EXPERIMENT_NAME
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads: must divide the width {self.width}, found {self.heads}")
        return self


class ChunkRecipe(Settings):
    """Settings of methods that predict the chunk as numbers."""

    patch: int = Field(
        10,
        ge=1,
        le=10_000,
        description="actions per transformer token: the largest number up to it that divides the horizon",
    )
    near: int = Field(15, ge=1, le=100_000, description="first actions of the chunk, executed before a new plan")
    far_weight: float = Field(0.25, gt=0, le=1, description="weight of the remaining actions in the loss")


class Acting(Settings):
    """How a trained model acts. Its weights do not depend on it. A method without a choice has this empty record."""


class FlowActing(Acting):
    """How pi0 acts."""

    flow_steps: int = Field(5, ge=1, le=1000, description="Euler steps from noise to actions when acting")
    start_noise: float = Field(0.0, ge=0, le=10, description="scale of the initial noise when acting; training uses 1")


class TokenActing(Acting):
    """How methods with tokens act."""

    decoding: Literal["expected", "greedy", "sampled"] = Field(
        "expected", description="next token when acting: nearest to the expected coefficient, likeliest, or drawn"
    )


def acting_names() -> str:
    """The settings of all rules of acting, in words."""
    return ", ".join(name for rule in Acting.__subclasses__() for name in rule.model_fields)


class TokenRecipe(Settings):
    """Settings of methods that predict the chunk as tokens."""

    expectation_weight: float = Field(
        0.15, ge=0, le=1000, description="weight of the expected coefficient's squared error, in standard units"
    )


class TrainSettings(ForData, WithHorizon, Recipe):
    """Settings of one training run."""

    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of weights, batch order, noise and dropout")
    run_name: str = Field(
        AUTO,
        pattern=f"^{NAME_PATTERN}$",
        description="name in MLflow; auto: the files' name",
        json_schema_extra=RUN_NAME,
    )
    resume: str = Field(
        NONE,
        pattern=f"^{NAME_PATTERN}$",
        description="resume an interrupted run: its id in MLflow, or latest",
    )
    preset: str = Field(
        NONE,
        min_length=1,
        description="recipe to start from: a file that search has written; other settings win over it",
    )


# Defaults of their own are from a search with one budget for all methods: docs/search.md.


@with_defaults(lr=0.0065, start_weight=4.1, ema=0.995, patch=25, far_weight=0.11)
class Pi0Settings(FlowActing, ChunkRecipe, TrainSettings):
    """Train pi0: flow matching over the whole chunk."""

    pairs: Path = Field(
        Path("data/training_pairs_original.npz"), description="action pairs; the default is made if missing"
    )


@with_defaults(lr=0.0034, weight_decay=0.0018, start_weight=5.7, ema=0.99, patch=50, near=25, far_weight=0.66)
class RegressionSettings(ChunkRecipe, TrainSettings):
    """Train plain regression of the chunk with the network of pi0: the baseline without flow."""

    pairs: Path = Field(
        Path("data/training_pairs_original.npz"), description="action pairs; the default is made if missing"
    )


class TokenSettings(TokenActing, TokenRecipe, TrainSettings):
    """Settings of methods that predict tokens, and have the chunk from them."""

    pairs: Path = Field(Path("data/training_pairs_fast.npz"), description="token pairs; the default is made if missing")
    tokenizer: Path = Field(Path("data/fast_tokenizer.json"), description="the tokenizer that made the pairs")


@with_defaults(lr=0.01, weight_decay=0.0021, start_weight=3.5, ema=0.99, warmup=180, expectation_weight=0.51)
class Pi0FastSettings(TokenSettings):
    """Train pi0-FAST: the chunk as tokens, generated one by one."""

    scheme: Literal["fast", "one_scale"] = Field(
        "fast", description="FAST with a fine scale for low frequencies, or as published with one; names default files"
    )

    def default_files(self) -> dict[str, Path]:
        """The files below `data/` that are taken if none is named, of the default task, by the setting's name."""
        if self.scheme == "fast":
            return super().default_files()
        own = {"pairs": f"training_pairs_{self.scheme}.npz", "tokenizer": f"{self.scheme}_tokenizer.json"}
        return {name: DATA / file for name, file in own.items()}


@with_defaults(
    lr=0.0033, weight_decay=0.017, start_weight=16.0, ema=0.99, warmup=100, expectation_weight=0.035, decoding="greedy"
)
class BinningSettings(TokenSettings):
    """Train pi0-FAST's network on plain bins, one token per action: the baseline without FAST."""

    pairs: Path = Field(Path("data/training_pairs_bins.npz"), description="token pairs; the default is made if missing")
    tokenizer: Path = Field(Path("data/bins_tokenizer.json"), description="the tokenizer that made the pairs")
