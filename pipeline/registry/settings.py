"""The settings of the model registry."""

from pydantic import Field

from pipeline.config import ALL, AUTO, BEST, NAME_PATTERN, NONE, Settings
from pipeline.results.settings import TASK
from pipeline.tasks.settings import ForTask


class RegisterSettings(Settings):
    """Put trained models into MLflow's model registry, as versions of pi0, pi0_fast, ... with a model card each.

    Those of another task than the default one are versions of TASK-pi0, TASK-pi0_fast, ...
    A study does this at its end. Models that are registered already get a new card if it has changed.
    """

    study: str = Field(NONE, pattern=f"^{NAME_PATTERN}$", description="a study, by name: all its models and averages")
    experiment: str = Field(ALL, pattern=f"^{NAME_PATTERN}$", description="MLflow experiment of the study; all: any")
    run: tuple[str, ...] = Field((), description="MLflow runs of models, by id")
    task: str = Field(AUTO, min_length=1, description=TASK)


class PromoteSettings(ForTask):
    """Make a model the champion of its registered model, if it is shown to be better than the champion, or if none is.

    Both meet the same episodes until it is decided, as by 'compare', drawn for these two models alone: the same starts
    and the same noise. The candidate's success must be at least one half. What is decided for two models stays decided:
    no second try plays again.
    """

    model: str = Field("pi0", pattern=f"^{NAME_PATTERN}$", description="method: pi0, pi0_fast, ...")
    candidate: str = Field(
        BEST, pattern=f"^{NAME_PATTERN}$", description="a version's number, a run's id, or best or average of the study"
    )
    study: str = Field("ensemble", pattern=f"^{NAME_PATTERN}$", description="the study of best and average")
    experiment: str = Field(ALL, pattern=f"^{NAME_PATTERN}$", description="MLflow experiment of the study; all: any")
    margin: float = Field(0.02, gt=0, lt=1, description="a difference of the primary score within it does not matter")
    max_episodes: int = Field(20_000, ge=1, le=10_000_000, description="episodes of each model, at most")
    dry_run: bool = Field(False, description="show what would be done, and change nothing")
