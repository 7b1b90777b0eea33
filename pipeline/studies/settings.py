"""The settings of a study."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic.fields import FieldInfo

from pipeline.config import (
    ALL,
    AUTO,
    EXPERIMENT_NAME,
    MAX_SEED,
    NAME_PATTERN,
    NONE,
    RUN_NAME,
    fields_of,
    make,
)
from pipeline.errors import SettingsError
from pipeline.executors.settings import RunsJobs
from pipeline.methods.settings import ChunkRecipe, FlowActing, Recipe, TokenActing, TokenRecipe
from pipeline.report.design import MARGIN
from pipeline.tasks.project import DEFAULT, TASKS
from pipeline.tasks.settings import ABOUT, ForData, WithHorizon

Sampler = Literal["tpe", "random", "grid"]
GROUP = r"\w+( +\w+=[^\s,'\"]+)*"


def split_words(given: object) -> object:
    """Take several settings in one text, as `mlflow run -P set=A,B` gives them; "none" is none."""
    texts = (given,) if isinstance(given, str) else given
    if not isinstance(texts, (tuple, list)):
        return given
    words = [word.strip() for text in texts for word in str(text).split(",")]
    return tuple(word for word in words if word not in ("", NONE))


class TrainsMany(RunsJobs):
    """Settings of commands that train many models: which ones, and how and where."""

    set: tuple[str, ...] = Field((), description="training settings: NAME=VALUE or METHOD.NAME=VALUE, also A,B")
    base_seed: int = Field(0, ge=0, le=MAX_SEED, description="the first seed; the models' seeds count up from it")
    experiment: str = Field(
        "tinypi", pattern=f"^{NAME_PATTERN}$", description="MLflow experiment", json_schema_extra=EXPERIMENT_NAME
    )
    together: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="train models that can be one stack (of a group, of a search's round) at once; auto: on CUDA",
    )

    _split_set = field_validator("set", mode="before")(split_words)


class ComparesGroups(TrainsMany):
    """Settings of commands that compare groups of models."""

    methods: str = Field(
        "pi0,pi0_fast",
        pattern=f"^{GROUP}(, *{GROUP})*$",
        examples=["pi0,pi0_fast", "pi0 width=64,pi0 width=128"],
        description="groups to compare: pi0, pi0_fast, regression, binning, also as 'pi0 width=64,pi0 width=128'",
    )
    n_models: int = Field(10, ge=1, le=10_000, description="models per group")
    preset: tuple[str, ...] = Field((), description="recipes of methods: files that search has written, also A,B")
    margin: float = Field(MARGIN, gt=0, le=1, description="differences of the primary score below it do not matter")

    _split_preset = field_validator("preset", mode="before")(split_words)


class WithPairs(ForData, WithHorizon):
    """Settings of commands that train groups on the data of one task."""

    pairs: Path = Field(
        Path("data/training_pairs_original.npz"),
        description="action pairs, for methods without tokens and for the expert",
    )


class EnsembleSettings(ComparesGroups, WithPairs):
    """Train, evaluate and compare groups of models: one method and several seeds per group.

    A group is a method with its defaults, such as pi0, or with other settings, such as "pi0 width=128"; this is also
    its name. --set NAME=VALUE applies to every method that has the setting, --set METHOD.NAME=VALUE to one.
    Groups that differ only in how they act, such as "pi0,pi0 start_noise=1", share their models.
    The same command with the same study name does only what is missing.
    """

    study: str = Field(
        "ensemble",
        pattern=f"^{NAME_PATTERN}$",
        description="name; an existing study of that name is continued",
        json_schema_extra=RUN_NAME,
    )
    until: Literal["trained", "decided"] = Field(
        "trained", description="stop when all models are trained, or at the first look that decides"
    )
    looks: str = Field(
        "8,12,16,20",
        pattern=r"^\d{1,5}(, *\d{1,5})*$",
        examples=["8,12,16,20", "10"],
        description="models per group at each look, with until=decided; the last replaces n_models",
    )
    episodes: int = Field(1000, ge=1, le=1_000_000, description="episodes per condition")
    evaluation_seed: str = Field(
        AUTO,
        pattern=r"^(auto|\d{1,10})$",
        examples=["auto", "7"],
        description="seed of the episodes, the same for all models; auto: from the recipes, new for a new recipe",
    )
    originals: str = Field(NONE, description="folder with weights of the reference system, to evaluate as well")

    @field_validator("looks")
    @classmethod
    def _without_spaces(cls, looks: str) -> str:
        """They are terms of a verdict, so the same ones are written in one way."""
        return ",".join(str(int(word)) for word in looks.split(","))

    @model_validator(mode="after")
    def _looks_grow(self) -> Self:
        numbers = [int(word) for word in self.looks.split(",")]
        if numbers != sorted(set(numbers)) or numbers[0] < 2:
            raise ValueError(f"looks: expected growing numbers of models, the first 2 or more, found '{self.looks}'")
        if self.evaluation_seed != AUTO and int(self.evaluation_seed) > MAX_SEED:
            raise ValueError(f"evaluation_seed: expected {MAX_SEED:,} or less, found '{self.evaluation_seed}'")
        return self

    @property
    def models(self) -> int:
        """Models per group at most."""
        return int(self.looks.split(",")[-1]) if self.until == "decided" else self.n_models

    @model_validator(mode="after")
    def _study_is_a_name(self) -> Self:
        if self.study in (ALL, NONE):
            raise ValueError(f"study: expected a name, found '{self.study}', which other commands reserve")
        for word in self.set:
            name, equals, value = word.partition("=")
            if not (equals and value and all(part.isidentifier() for part in name.split(".")) and name.count(".") < 2):
                raise ValueError(f"set: expected NAME=VALUE or METHOD.NAME=VALUE, found '{word}'")
        return self


class SuiteSettings(ComparesGroups):
    """Compare the same groups of models on several tasks: a study per task, below one run, and one report.

    The study of a task is called SUITE-TASK, and is one as `ensemble` makes it. The same command with the same name
    does only what is missing.
    """

    suite: str = Field(
        "suite",
        pattern=f"^{NAME_PATTERN}$",
        description="name; an existing suite of that name is continued",
        json_schema_extra=RUN_NAME,
    )
    tasks: str = Field(ALL, min_length=1, description=f"all, or some, separated by commas: {ABOUT}")
    n_models: int = Field(3, ge=1, le=10_000, description="models per group")
    episodes: str = Field(
        "100",
        pattern=r"^\d{1,7}(, *[\w.-]+=\d{1,7})*$",
        examples=["300", f"300,{DEFAULT}=1000"],
        description="episodes per condition: N, and TASK=N for a task with another number",
    )
    originals: str = Field(NONE, description=f"folder with weights of the reference system, to evaluate on {DEFAULT}")

    @property
    def references(self) -> tuple[str, ...]:
        """The tasks, as they are named on the command line."""
        return tuple(TASKS) if self.tasks == ALL else tuple(dict.fromkeys(map(str.strip, self.tasks.split(","))))

    @property
    def episodes_by_task(self) -> dict[str, str]:
        """The numbers of episodes of the tasks with another number than the others, as text."""
        words = map(str.strip, self.episodes.split(",")[1:])
        return dict(word.split("=", 1) for word in words)

    @field_validator("episodes")
    @classmethod
    def _each_task_once(cls, episodes: str) -> str:
        names = [word.partition("=")[0].strip() for word in episodes.split(",")[1:]]
        if again := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"expected each task once, found two numbers for '{again}'")
        return episodes

    def study_of(self, reference: str, name: str) -> EnsembleSettings:
        """The settings of the study of a task; raises `SettingsError`."""
        shared = self.model_dump(include=set(EnsembleSettings.model_fields) & set(type(self).model_fields))
        own = {
            "study": f"{self.suite}-{name}",
            "task": reference,
            "episodes": self.episodes_by_task.get(name, self.episodes.split(",")[0]),
            "originals": self.originals if name == DEFAULT else NONE,
        }
        return make(EnsembleSettings, shared | own)


class SearchSettings(TrainsMany, WithPairs):
    """Search a recipe for each method, with the same budget for all: trials, searched settings, seeds.

    A trial is a recipe: it trains a model for each seed, and its score is the task's primary score on episodes that are
    the search's alone. The best recipe of each method is written as a preset, which trainings, ensemble and suite take.
    The same command with the same name does only what is missing.
    It needs extra packages: pip install -e '.[search]'
    """

    search: str = Field(
        "search",
        pattern=f"^{NAME_PATTERN}$",
        description="name; an existing search of that name is continued",
        json_schema_extra=RUN_NAME,
    )
    methods: str = Field(
        "pi0,pi0_fast,regression,binning",
        pattern=r"^\w+(, *\w+)*$",
        examples=["pi0", "pi0,pi0_fast"],
        description="methods, separated by commas",
    )
    space: str = Field(
        "default", min_length=1, description="what is searched: a YAML file, or default, which has the four methods"
    )
    trials: int = Field(24, ge=1, le=10_000, description="recipes to try per method")
    seeds_per_trial: int = Field(2, ge=1, le=100, description="models per recipe")
    sampler: Sampler = Field("tpe", description="what chooses the recipes; all are Optuna's")
    pruning: Literal["median", "none"] = Field(
        "median", description="give a recipe up after its first seed if that is worse than the median of those before"
    )
    parallel: int = Field(2, ge=1, le=1000, description="recipes of a method in a round, chosen before any is scored")
    budget: Literal["equal", "unequal"] = Field(
        "equal", description="numbers of searched settings: the same for every method, or not"
    )
    max_seconds: tuple[str, ...] = Field(
        (),
        description="longest training of a winner: SECONDS or METHOD=SECONDS, also A,B; slower ones are only told",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of the samplers and of the search's episodes")
    base_seed: int = Field(
        1_000_000, ge=0, le=MAX_SEED - 1000, description="first training seed of every trial; studies begin at 0"
    )
    episodes: int = Field(100, ge=1, le=1_000_000, description="episodes per condition")

    _split_limits = field_validator("max_seconds", mode="before")(split_words)

    @property
    def names(self) -> tuple[str, ...]:
        """The methods."""
        return tuple(dict.fromkeys(map(str.strip, self.methods.split(","))))

    @property
    def limits(self) -> dict[str, float | None]:
        """The longest training of each method's winner, seconds; None without a limit. Raises `SettingsError`."""
        of_all: float | None = None
        own: dict[str, float] = {}
        for word in self.max_seconds:
            name, _, text = word.rpartition("=")
            if name not in ("", *self.names) or not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) or not float(text):
                raise SettingsError(
                    f"max_seconds: expected SECONDS, or METHOD=SECONDS of a method of this search, found '{word}'. "
                    "See --help."
                )
            if name:
                own[name] = float(text)
            else:
                of_all = float(text)
        return {name: own.get(name, of_all) for name in self.names}

    @property
    def study(self) -> EnsembleSettings:
        """The settings of a study of these methods, with the same data; raises `SettingsError`."""
        shared = self.model_dump(include=set(EnsembleSettings.model_fields) & set(type(self).model_fields))
        return make(EnsembleSettings, shared)


def shorthands() -> dict[str, FieldInfo]:
    """Training settings that the command takes by name for every method that has them; "auto": the default."""
    kinds = (Recipe, FlowActing, ChunkRecipe, TokenActing, TokenRecipe)
    found = {name: info for kind in kinds for name, info in fields_of(kind).items() if name != "experiment"}
    return {name: FieldInfo.merge_field_infos(info, default=AUTO) for name, info in found.items()}
