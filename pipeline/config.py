"""Every setting of every command: name, default, range and meaning, declared once.

The command line is made from these classes, and a test holds `MLproject` to them.
"""

import os
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from pipeline.errors import SettingsError

AUTO, NONE, ALL, LATEST, BEST, AVERAGE = (
    "auto",
    "none",
    "all",
    "latest",
    "best",
    "average",
)  # words, because MLproject parameters cannot be empty
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
ARGUMENT: dict[str, JsonValue] = {"argument": True}  # on the command line it stands without a name
FLAGS: dict[str, JsonValue] = {"flags": True}  # on the command line each choice is an option of its own: --json
MAX_SEED = 2**31 - 1
MAX_SHOWN = 100  # characters of a refused value
MAX_TEXT, MAX_PART = 4095, 255  # characters of a path, and bytes of a name in it
ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseModel):
    """Frozen, validated when made; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True)

    @field_validator("*")
    @classmethod
    def _is_a_possible_name(cls, value: Any) -> Any:
        """Refuse what no system takes as a path, here rather than where a file is looked for."""
        for text in map(str, value if isinstance(value, tuple) else (value,)):
            longest = max(len(os.fsencode(part)) for part in text.split("/"))
            if "\0" in text or len(text) > MAX_TEXT or longest > MAX_PART:
                raise ValueError(f"expected text without zero bytes, of at most {MAX_PART} bytes between slashes")
        return value


S = TypeVar("S", bound=Settings)
T = TypeVar("T", bound="TrainSettings")


class CollectSettings(Settings):
    """Simulate demonstrations and cut them into training pairs."""

    trajectories: int = Field(4000, ge=1, le=1_000_000, description="demonstrations to simulate")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of starts, gains and noise")
    plots: int = Field(0, ge=0, le=1000, description="draw this many trajectories as pictures under OUT/plots")
    threads: int = Field(0, ge=0, le=1024, description="simulation threads, 0 for all cores; never changes the data")
    out: Path = Field(Path("data"), description="folder for trajectories.npz and training_pairs_original.npz")


class TokenizeSettings(Settings):
    """Fit a tokenizer on the training split, FAST or plain bins, and write the token pairs."""

    scheme: Literal["fast", "bins"] = Field("fast", description="FAST, or a token for each single action")
    scale: float = Field(10.0, ge=1e-6, le=10_000, description="quantisation steps per action unit (FAST's gamma)")
    fine_scale: float = Field(60.0, ge=1e-6, le=10_000, description="the same for the lowest frequencies, and for bins")
    fine: int = Field(8, ge=0, le=100_000, description="lowest frequencies of fine scale; 0 for FAST as published")
    vocabulary: int = Field(768, ge=5, le=65_536, description="FAST's tokens, specials included")
    pairs: Path = Field(Path("data/training_pairs_original.npz"), description="action pairs to tokenize")
    out: Path = Field(Path("data"), description="folder for SCHEME_tokenizer.json and training_pairs_SCHEME.npz")


class Recipe(Settings):
    """How any model is trained, whatever its method and seed."""

    epochs: int = Field(2, ge=1, le=100_000, description="passes over the training split")
    batch_size: int = Field(128, ge=1, le=1_000_000, description="pairs a step")
    start_weight: float = Field(
        5.0, gt=0, le=1000, description="how often a trajectory's first pair comes, to another's once"
    )
    lr: float = Field(0.004, gt=0, le=1, description="peak learning rate")
    weight_decay: float = Field(0.01, ge=0, le=10, description="weight decay, decoupled")
    width: int = Field(64, ge=1, le=8192, description="embedding width")
    layers: int = Field(3, ge=1, le=128, description="transformer layers")
    heads: int = Field(2, ge=1, le=512, description="attention heads; must divide the width")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout in the residual branches, never on the output")
    schedule: Literal["cosine", "plateau", "constant"] = Field("cosine", description="learning rate over time")
    warmup: int = Field(200, ge=0, le=10_000_000, description="steps of linear warm-up, in every schedule")
    patience: int = Field(20, ge=1, le=100_000, description="stop after this many epochs without a better val loss")
    ema: float = Field(0.998, ge=0, lt=1, description="decay of the averaged weights that are kept; 0 for none")
    grad_clip: float = Field(1.0, gt=0, le=1e6, description="largest gradient norm")
    arch: Literal["small", "original"] = Field(
        "small", description="our network, or the reference system's (for FAST with positions for any chunk, 25 there)"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to train")
    threads: int = Field(1, ge=1, le=1024, description="torch threads; 1 is fastest for networks this small")
    experiment: str = Field("tinypi", pattern=f"^{NAME_PATTERN}$", description="MLflow experiment")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads: must divide the width {self.width}, found {self.heads}")
        return self


class ChunkRecipe(Settings):
    """What methods that predict the chunk as numbers add."""

    patch: int = Field(10, ge=1, le=10_000, description="actions a transformer token; must divide the chunk's horizon")
    near: int = Field(15, ge=1, le=100_000, description="first actions of the chunk, those executed before a new plan")
    far_weight: float = Field(0.25, gt=0, le=1, description="weight of the other actions in the loss")


class FlowRecipe(ChunkRecipe):
    """What pi0 adds."""

    flow_steps: int = Field(5, ge=1, le=1000, description="Euler steps from noise to actions when acting")
    start_noise: float = Field(
        0.0, ge=0, le=10, description="scale of the noise that acting starts from; training uses 1"
    )


class TokenRecipe(Settings):
    """What methods that predict the chunk as tokens add."""

    decoding: Literal["expected", "greedy"] = Field(
        "expected", description="next token when acting: nearest to the expected coefficient, or likeliest"
    )
    expectation_weight: float = Field(
        0.001, ge=0, le=1000, description="weight of the expected integer's squared error in the loss"
    )


class TrainSettings(Recipe):
    """What one training of either method takes."""

    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of weights, batch order, noise and dropout")
    run_name: str = Field(AUTO, pattern=f"^{NAME_PATTERN}$", description="name in MLflow; auto: the files' name")
    resume: str = Field(
        NONE,
        pattern=f"^{NAME_PATTERN}$",
        description="go on with a run that broke off: its id in MLflow, or latest",
    )


class Pi0Settings(FlowRecipe, TrainSettings):
    """Train pi0: flow matching over the whole chunk."""

    pairs: Path = Field(
        Path("data/training_pairs_original.npz"), description="action pairs; the default is made if missing"
    )


class RegressionSettings(ChunkRecipe, TrainSettings):
    """Train plain regression of the chunk, by the network of pi0: the baseline without flow."""

    pairs: Path = Field(
        Path("data/training_pairs_original.npz"), description="action pairs; the default is made if missing"
    )


class Pi0FastSettings(TokenRecipe, TrainSettings):
    """Train pi0-FAST: the chunk as tokens, generated one after another."""

    lr: float = Field(0.008, gt=0, le=1, description="peak learning rate")
    pairs: Path = Field(Path("data/training_pairs_fast.npz"), description="token pairs; the default is made if missing")
    tokenizer: Path = Field(Path("data/fast_tokenizer.json"), description="the tokenizer that made the pairs")


class BinningSettings(Pi0FastSettings):
    """Train pi0-FAST's network on plain bins, a token an action: the baseline without FAST."""

    pairs: Path = Field(Path("data/training_pairs_bins.npz"), description="token pairs; the default is made if missing")
    tokenizer: Path = Field(Path("data/bins_tokenizer.json"), description="the tokenizer that made the pairs")


class EnsembleSettings(FlowRecipe, TokenRecipe, Recipe):
    """Train, evaluate and report an ensemble: some models a method, each with its own seed.

    The same command with the same study name does only what is missing.
    """

    study: str = Field("ensemble", pattern=f"^{NAME_PATTERN}$", description="name; a study of that name goes on")
    n_models: int = Field(10, ge=1, le=10_000, description="models a method")
    methods: str = Field(
        "pi0,pi0_fast", pattern=r"^\w+(,\w+)*$", description="methods to compare: pi0, pi0_fast, regression, binning"
    )
    base_seed: int = Field(0, ge=0, le=MAX_SEED, description="the models' seeds count up from here")
    workers: int = Field(0, ge=0, le=1024, description="processes to train in, 0 for one a core")
    episodes: int = Field(100, ge=1, le=1_000_000, description="episodes a condition")
    evaluation_seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of the episodes, the same for all models")
    originals: str = Field(NONE, description="folder with weights of the reference system, to evaluate beside ours")
    pairs: Path = Field(Path("data/training_pairs_original.npz"), description="action pairs, of pi0 and of the expert")
    pi0_fast_lr: float = Field(0.008, gt=0, le=1, description="peak learning rate of pi0-FAST")
    pi0_fast_pairs: Path = Field(Path("data/training_pairs_fast.npz"), description="token pairs of pi0-FAST")
    tokenizer: Path = Field(Path("data/fast_tokenizer.json"), description="the tokenizer that made the token pairs")
    binning_lr: float = Field(0.008, gt=0, le=1, description="peak learning rate of binning")
    binning_pairs: Path = Field(Path("data/training_pairs_bins.npz"), description="token pairs of binning")
    binning_tokenizer: Path = Field(Path("data/bins_tokenizer.json"), description="the tokenizer that made them")

    @model_validator(mode="after")
    def _study_is_a_name(self) -> Self:
        if self.study in (ALL, NONE):
            raise ValueError(
                f"study: expected a name, found '{self.study}', which means something else in other commands"
            )
        return self

    @property
    def method_names(self) -> tuple[str, ...]:
        """The methods, each once, in the order given."""
        return tuple(dict.fromkeys(self.methods.split(",")))

    def member(self, method_name: str, kind: type[T], seed: int) -> T:
        """The settings that train one model: a field named METHOD_FIELD here goes before FIELD."""
        fields = type(self).model_fields
        names = {name: f"{method_name}_{name}" for name in kind.model_fields}
        values = {name: getattr(self, own if own in fields else name, None) for name, own in names.items()}
        return make(kind, {name: value for name, value in values.items() if value is not None} | {"seed": seed})


class EvaluateSettings(Settings):
    """Score models by how they control the pendulum, under nine conditions of noise and replan interval.

    Models are files (--checkpoint A.pth B.pth ...), MLflow runs (--run), or all members of a study (--ensemble); the
    scores of runs and members are logged to them.
    """

    checkpoint: tuple[Path, ...] = Field((), description="model files, ours or the reference system's")
    run: tuple[str, ...] = Field((), description="MLflow runs of models, by id")
    ensemble: str = Field(NONE, pattern=f"^{NAME_PATTERN}$", description="a study, by name")
    yardsticks: bool = Field(False, description="also score PID, LQR and zero action")
    tokenizer: str = Field(NONE, description="the tokenizer of the reference system's FAST weights")
    episodes: int = Field(100, ge=1, le=1_000_000, description="episodes a condition")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of the episodes, the same for all models")
    pairs: Path = Field(Path("data/training_pairs_original.npz"), description="the expert's chunks, if they are there")
    workers: int = Field(0, ge=0, le=1024, description="processes, 0 for one a core")
    format: Literal["text", "json"] = Field("text", description="tables, or one JSON object", json_schema_extra=FLAGS)


class PlaySettings(Settings):
    """Balance the pendulum with a policy, by the wall clock, and draw a moving picture of it.

    The policy is a model file (--checkpoint) or a server (--policy). A step takes 0.04 s, an episode 100 steps. The
    state is sent when a plan is due; until the answer comes, the last plan goes on. Answers that do not come within
    their step are late, and counted.
    """

    checkpoint: str = Field(NONE, min_length=1, description="model file: .pth, or .onnx of 'export'")
    policy: str = Field(NONE, min_length=1, description="address of a policy server, such as http://127.0.0.1:5001")
    tokenizer: str = Field(NONE, description="the tokenizer of the reference system's FAST weights")
    action_noise: float = Field(0.03, ge=0, le=3, description="uniform noise of +- this on every action, of 100 N")
    replan: int = Field(10, ge=1, le=100, description="steps between two plans")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of start and noise, as in evaluate")
    episode: int = Field(0, ge=0, lt=1_000_000, description="number of the episode, as evaluate counts them")
    lockstep: bool = Field(False, description="without the clock: wait for every answer, then go on at once")
    out: str = Field("play.gif", min_length=1, description="moving picture to write; none: none")

    @model_validator(mode="after")
    def _one_policy(self) -> Self:
        if (self.checkpoint == NONE) == (self.policy == NONE):
            raise ValueError("policy: name a model file by --checkpoint, or a server by --policy")
        return self


class ExportSettings(Settings):
    """Write a trained model as one ONNX file that acts without torch, and check it against the model.

    It needs the packages of the extra: pip install -e '.[export]'
    """

    checkpoint: Path = Field(description="model file, from train/trained_models")
    out: str = Field(AUTO, min_length=1, description="file to write; auto: beside the model, ending in .onnx")


class ReproduceSettings(Settings):
    """Train a run again from what MLflow has of it, and say whether the weights match bit for bit."""

    run: str = Field(description="id of a finished training run in MLflow", json_schema_extra=ARGUMENT)


class DoctorSettings(Settings):
    """Find runs whose process is gone, end them as KILLED, and deliver what MLflow has not got; say which can go on."""


class SyncSettings(Settings):
    """Deliver to MLflow what runs could not deliver while the store was away."""


class InfoSettings(Settings):
    """Say what data, runs, studies and models are here, and what can be done next. Makes and changes nothing."""


class CompletionSettings(Settings):
    """Print the script that makes a shell complete `tinypi`: commands, options, choices and files.

    bash: source the script in ~/.bashrc. zsh: source it in ~/.zshrc, after compinit. fish: write it to
    ~/.config/fish/completions/tinypi.fish. `tinypi` is in the environment that 'make setup' makes.
    """

    shell: Literal["bash", "zsh", "fish"] = Field(description="the shell", json_schema_extra=ARGUMENT)


class ReportSettings(Settings):
    """Compare what MLflow knows of evaluated models: means and deviations over training seeds, and differences."""

    study: str = Field(ALL, pattern=f"^{NAME_PATTERN}$", description="a study, by name; all: every model in the store")
    format: Literal["text", "json", "csv", "markdown"] = Field(
        "text", description="tables, or one JSON object, comma-separated values or Markdown", json_schema_extra=FLAGS
    )
    html: bool = Field(False, description="also write report.html, one page to send around")


class StoresSettings(Settings):
    """Where the team server keeps what it is given."""

    folder: Path = Field(Path("mlruns/server"), description="folder of the server's data, passwords and logs")
    postgres_port: int = Field(5433, ge=1024, le=65_535, description="port of PostgreSQL, on this machine only")
    s3_port: int = Field(5434, ge=1024, le=65_535, description="port of the S3 store, on this machine only")


class ServerSettings(StoresSettings):
    """Run MLflow for a team: MLflow's server, with PostgreSQL for runs and an S3 store for artifacts, until Ctrl-C.

    It needs the packages of the extra: pip install -e '.[server]'
    """

    port: int = Field(5000, ge=1024, le=65_535, description="port of MLflow, on this machine only")
    auth: bool = Field(False, description="ask for user and password; the admin's is in FOLDER/credentials.json")

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        ports = (self.port, self.postgres_port, self.s3_port)
        if len(set(ports)) < len(ports):
            raise ValueError(f"port: expected three different ports, found {', '.join(map(str, ports))}")
        return self


class MoveStoreSettings(StoresSettings):
    """Copy a local MLflow store into an empty team server that is not running; the local store stays as it is."""

    source: Path = Field(Path("mlruns/mlflow.db"), description="sqlite file of the local store")


class RegisterSettings(Settings):
    """Put trained models into MLflow's model registry, as versions of pi0, pi0_fast, ... with a model card each.

    A study does this at its end. Models that are registered already only get a fresh card.
    """

    study: str = Field(NONE, pattern=f"^{NAME_PATTERN}$", description="a study, by name: all its members and ensembles")
    run: tuple[str, ...] = Field((), description="MLflow runs of models, by id")


class PromoteSettings(Settings):
    """Make a model the champion of its registered model, if it is shown to be better than the champion, or if none is.

    Both meet the same episodes, drawn for these two models alone: the same starts and the same noise.
    """

    model: str = Field("pi0", pattern=f"^{NAME_PATTERN}$", description="registered model: pi0, pi0_fast, ...")
    candidate: str = Field(
        BEST, pattern=f"^{NAME_PATTERN}$", description="a version's number, a run's id, or best or average of the study"
    )
    study: str = Field("ensemble", pattern=f"^{NAME_PATTERN}$", description="the study of best and average")
    episodes: int = Field(400, ge=10, le=100_000, description="episodes a condition")
    dry_run: bool = Field(False, description="show what would be done, and change nothing")


def fields_of(kind: type[Settings]) -> dict[str, FieldInfo]:
    """The fields of a class in the order people meet them: its own first, then those that it shares with others."""
    names = [name for base in kind.__mro__ for name in vars(base).get("__annotations__", {})]
    return {name: kind.model_fields[name] for name in dict.fromkeys(names) if name in kind.model_fields}


def make(kind: type[S], values: dict[str, Any]) -> S:
    """Make settings from text or typed values; raises `SettingsError` with one line for the first fault."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        message = (
            fault["msg"]
            .removeprefix("Value error, ")
            .replace("Input should be", "expected")
            .replace("String should match", "expected text of the")
        )
        if not where:
            raise SettingsError(f"{message}. See --help.") from error
        found = repr(fault["input"])
        found = found if len(found) <= MAX_SHOWN else f"{found[:MAX_SHOWN]}..."
        raise SettingsError(f"{where}: {message}, found {found}. See --help.") from error
