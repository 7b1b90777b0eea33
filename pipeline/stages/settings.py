"""The settings of the stages."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config import ALL, AUTO, BARE, FLAGS, MAX_SEED, NAME_PATTERN, NONE, Settings
from pipeline.data.sources.registry import FORMATS
from pipeline.data.targets.registry import FORMATS as TARGETS
from pipeline.executors.settings import RunsJobs
from pipeline.methods.settings import acting_names
from pipeline.tasks.settings import ABOUT, ForData, ForTask, WithHorizon

if TYPE_CHECKING:
    Target = str
else:
    Target = Literal[tuple(TARGETS)]

NOT_USED: dict[str, tuple[str, ...]] = {
    "fast": (),
    "one_scale": ("scale", "fine_scale", "fine"),
    "bins": ("scale", "fine", "vocabulary"),
}
"""Settings of a tokenizer that a scheme does without."""


class CollectSettings(WithHorizon):
    """Simulate demonstrations and cut them into training pairs."""

    trajectories: int = Field(4000, ge=1, le=1_000_000, description="demonstrations to simulate")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of starts, noise and the demonstrator's variation")
    plots: int = Field(0, ge=0, le=1000, description="number of trajectories to draw into OUT/plots")
    threads: int = Field(
        0, ge=0, le=1024, description="simulation threads, 0 for all cores; the data do not depend on it"
    )
    out: Path = Field(Path("data"), description="folder for trajectories.npz and training_pairs_original.npz")


class TokenizeSettings(ForData, WithHorizon):
    """Fit a tokenizer, FAST or plain bins, on the training split, and write the token pairs."""

    scheme: Literal["fast", "one_scale", "bins"] = Field(
        "fast", description="FAST; FAST as published, with one scale of 4.3, not the two below; or one token per action"
    )
    scale: float = Field(
        2.0, ge=1e-6, le=10_000, description="quantisation steps per standard deviation of an action (FAST's gamma)"
    )
    fine_scale: float = Field(
        12.0, ge=1e-6, le=10_000, description="steps per standard deviation of the lowest frequencies, and of bins"
    )
    fine: int = Field(
        8, ge=0, le=100_000, description="lowest frequencies with the fine scale, of each dimension; 0: one scale"
    )
    vocabulary: int = Field(
        0,
        ge=0,
        le=65_536,
        description="number of FAST tokens, specials included; 0: as the integers and 128 merges need",
    )
    pairs: Path = Field(Path("data/training_pairs_original.npz"), description="action pairs to tokenize")
    out: Path = Field(Path("data"), description="folder for SCHEME_tokenizer.json and training_pairs_SCHEME.npz")

    @model_validator(mode="after")
    def _scheme_uses_what_is_chosen(self) -> Self:
        for name in NOT_USED[self.scheme]:
            if (value := getattr(self, name)) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: expected its default, for {self.scheme} does not use it, found {value:g}")
        return self


class TokenizerReportSettings(ForData, WithHorizon):
    """Say what FAST costs on demonstrations, before any training: fit it at several scales on the training split, and
    encode and decode the chunks of held-out episodes.

    Where the task has a simulator and an expert that plans in it, the expert's plans are also executed as the tokenizer
    returns them, and scored beside the plans themselves, on the same episodes.
    """

    pairs: Path = Field(Path("data/training_pairs_original.npz"), description="action pairs to measure on")
    episodes: int = Field(20, ge=1, le=100_000, description="episodes per condition in which the expert's plans act")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of these episodes, which no evaluation has")
    out: Path = Field(Path("data/tokenizer_report"), description="folder for the tables and the figure")
    format: Literal["text", "json"] = Field("text", description="tables, or one JSON object", json_schema_extra=FLAGS)


class ChoosesActing(Settings):
    """Settings of commands that choose anew how a model acts."""

    act: tuple[str, ...] = Field((), description=f"another rule of acting: NAME=VALUE, of {acting_names()}")

    @model_validator(mode="after")
    def _act_names_values(self) -> Self:
        for word in self.act:
            name, _, value = word.partition("=")
            if not (name.isidentifier() and value):
                raise ValueError(f"act: expected NAME=VALUE, found '{word}'")
        return self

    @property
    def acting(self) -> dict[str, str]:
        """What `act` names, as text."""
        return dict(word.split("=", 1) for word in self.act)


class AsksPolicies(Settings):
    """Settings of commands that ask policies of others for plans."""

    timeout: float = Field(10.0, gt=0, le=3600, description="seconds that a policy of others has for an answer")
    batch: int = Field(200, ge=1, le=10_000, description="states of one request to a server or a function, at most")


class EvaluateSettings(ChoosesActing, AsksPolicies, ForData, RunsJobs):
    """Score how models control a task, under its conditions of noise and replan interval.

    Models are files (A.pth B.pth ...), MLflow runs (--run), or all models of a study (--study). The scores of runs are
    logged to the runs. In a task without a simulator, plans are compared with what held-out episodes demonstrate.

    --policy names policies of others: a server's address, or a Python function as module:function or
    path/to/file.py:function, whose code is run. An episode whose plan is late or cannot be used is given up.

    --act chooses anew how models act, as in `--act start_noise=1`. Such scores are printed only: a run keeps those of
    its own rule. To keep both, compare groups of a study, such as "pi0,pi0 start_noise=1".

    --csv and --out write every episode's scores for `compare --csv`. --out FILE.parquet is for any number of episodes:
    blocks of them are jobs, and nothing else is kept.
    """

    checkpoint: tuple[Path, ...] = Field(
        (), description="model files, ours or the reference system's", json_schema_extra=BARE
    )
    run: tuple[str, ...] = Field((), description="ids of MLflow runs with models")
    study: str = Field(NONE, pattern=f"^{NAME_PATTERN}$", description="name of a study: all its models")
    experiment: str = Field(ALL, pattern=f"^{NAME_PATTERN}$", description="MLflow experiment of the study; all: any")
    policy: tuple[str, ...] = Field((), description="policies of others: a server's address, or FILE.py:FUNCTION")
    yardsticks: bool = Field(
        False, description="also score the task's yardsticks, such as its demonstrator and zero action"
    )
    tokenizer: str = Field(NONE, description="the tokenizer of the reference system's FAST weights")
    episodes: int = Field(100, ge=1, le=1_000_000, description="episodes per condition; a study has its own")
    seed: int = Field(
        0, ge=0, le=MAX_SEED, description="seed of the episodes, the same for all models; a study has its own"
    )
    pairs: Path = Field(
        Path("data/training_pairs_original.npz"), description="the expert's action pairs, used if the file exists"
    )
    csv: str = Field(NONE, min_length=1, description="file for every episode's scores, to be read by compare --csv")
    out: str = Field(NONE, min_length=1, description="the same for any number of episodes: a file .parquet")
    format: Literal["text", "json"] = Field("text", description="tables, or one JSON object", json_schema_extra=FLAGS)


class CompareSettings(ChoosesActing, AsksPolicies, ForTask):
    """Compare two policies, A and B, on the same episodes, until it is decided which is better, or that neither is.

    A policy is a model file, the id of an MLflow run, a registered model (models:/pi0@champion, models:/pi0/3), the
    address of a policy server, or a Python function as module:function or path/to/file.py:function, whose code is run.
    Both meet the same starts and the same noise, one start in all conditions at a time,
    drawn for these two policies alone. After each start there may be a verdict: better, worse, equivalent (the
    difference lies within the margin), each wrong with a chance of at most 5%.

    --act chooses how B acts: name one model twice to compare it under two rules.

    Results that other systems made: two files eval_info.json of lerobot, compared by success; or --csv with the columns
    method, model, episode, score and, if there are several, condition, where all pairs of methods are compared over
    models and episodes. --score names another column of it, of which more is better. The table may be parquet, as
    `evaluate --out` writes it.
    """

    policy: tuple[str, ...] = Field((), description="two policies, A and B", json_schema_extra=BARE)
    act: tuple[str, ...] = Field((), description=f"another rule of acting for B: NAME=VALUE, of {acting_names()}")
    csv: str = Field(NONE, min_length=1, description="a table of results instead of policies; its margin may exceed 1")
    score: str = Field(AUTO, min_length=1, description="a score in [0, 1]; auto: the task's primary score")
    margin: float = Field(0.02, gt=0, le=1e9, description="differences within it do not matter")
    max_episodes: int = Field(20_000, ge=1, le=10_000_000, description="episodes of each policy, at most")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="of the episodes, which also depend on the two policies")
    tokenizer: str = Field(NONE, description="the tokenizer of the reference system's FAST weights")
    format: Literal["text", "json"] = Field("text", description="tables, or one JSON object", json_schema_extra=FLAGS)

    @model_validator(mode="after")
    def _two_policies(self) -> Self:
        if (len(self.policy), self.csv) == (2, NONE) and self.margin >= 1:
            raise ValueError(f"margin: expected a number below 1 for scores in [0, 1], found {self.margin:g}")
        if self.csv != NONE and self.policy:
            raise ValueError("policy: expected two policies or --csv, found both")
        if self.csv != NONE and self.act:
            raise ValueError("act: expected policies, which can act, found the table of --csv")
        if self.csv == NONE and len(self.policy) != 2:
            raise ValueError(f"policy: expected two policies, A and B, or --csv, found {len(self.policy)}")
        return self


class PlaySettings(ChoosesActing, ForTask):
    """Play an episode of a task with a policy in real time, and draw it as a GIF.

    The policy is a model file (--checkpoint) or a server (--policy). The state is sent when a plan
    is due; until the answer arrives, the last plan continues. Answers that arrive after their step are counted as late.
    """

    checkpoint: str = Field(
        NONE, min_length=1, description="model file: .pth, or .onnx of 'export'", json_schema_extra=BARE
    )
    policy: str = Field(NONE, min_length=1, description="address of a policy server, such as http://127.0.0.1:5001")
    tokenizer: str = Field(NONE, description="the tokenizer of the reference system's FAST weights")
    action_noise: float | None = Field(
        None,
        ge=0,
        description="amplitude of the uniform noise on every action, action units; auto: the task's middle condition's",
    )
    replan: int | None = Field(
        None, ge=1, le=1000, description="steps between two plans; auto: the task's middle condition's"
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of start and noise, as in evaluate")
    episode: int = Field(0, ge=0, lt=1_000_000, description="number of the episode, as in evaluate")
    lockstep: bool = Field(False, description="no clock: wait for every answer")
    out: str = Field("play.gif", min_length=1, description='GIF to write, or "none"')

    @field_validator("action_noise", "replan", mode="before")
    @classmethod
    def _left_to_the_task(cls, value: object) -> object:
        return None if value == AUTO else value

    @model_validator(mode="after")
    def _one_policy(self) -> Self:
        if (self.checkpoint == NONE) == (self.policy == NONE):
            raise ValueError("policy: name a model file by --checkpoint, or a server by --policy")
        if self.act and self.policy != NONE:
            raise ValueError("act: expected none with --policy: a server acts as its model does")
        return self


class ExportSettings(ChoosesActing):
    """Write a trained model as one ONNX file that acts without torch, and check it against the model.

    It needs extra packages: pip install -e '.[export]'
    """

    checkpoint: Path = Field(description="model file, from train/trained_models", json_schema_extra=BARE)
    out: str = Field(AUTO, min_length=1, description="file to write; auto: the model's path, ending in .onnx")


class ImportSettings(WithHorizon):
    """Read demonstrations in a format that other systems write, check them, and cut them into training pairs.

    With --task they are data of that task, and must fit it. Without, they are a task of their own, without a simulator.
    Files in HDF5 need an extra package: pip install -e '.[hdf5]'
    """

    path: Path = Field(description="the demonstrations: a folder or a file", json_schema_extra=BARE)
    format: str = Field(AUTO, min_length=1, description=f"{', '.join(FORMATS)}; auto: what it is found to be")
    state: str = Field(AUTO, min_length=1, description="keys of the states, KEY,KEY; auto: those usual in the format")
    action: str = Field(AUTO, min_length=1, description="key of the actions; auto: the one usual in the format")
    task: str = Field(NONE, min_length=1, description=f"task that they are of: {ABOUT}; none: a task of their own")
    fps: float = Field(0, ge=0, lt=1_000_000, description="frames a second, where the source does not say them")
    every: int = Field(2, ge=1, le=100_000, description="frames from the start of one chunk to the next")
    out: Path = Field(description="folder to write, data/NAME: NAME is the data set's")


class ExportDataSettings(ForData, WithHorizon):
    """Write demonstrations in a format that other systems read, with the statistics that they train by."""

    format: Target = Field("lerobot", description="format; lerobot is LeRobot's, version 3.0")
    trajectories: Path = Field(Path("data/trajectories.npz"), description="the demonstrations")
    out: Path = Field(description="folder to write, which must not exist yet")
