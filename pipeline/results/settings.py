"""The settings of a report."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.config import ALL, AUTO, FLAGS, NAME_PATTERN, NONE, Settings
from pipeline.report.design import MARGIN
from pipeline.tasks.settings import ABOUT

TASK = f"auto: that of the runs; or a task: {ABOUT}"


class ReportSettings(Settings):
    """Compare evaluated models in MLflow: means and deviations over training seeds, and differences."""

    study: str = Field(ALL, pattern=f"^{NAME_PATTERN}$", description="a study, by name; all: every model in the store")
    format: Literal["text", "json", "csv", "markdown"] = Field(
        "text", description="tables, or one JSON object, comma-separated values or Markdown", json_schema_extra=FLAGS
    )
    task: str = Field(AUTO, min_length=1, description=TASK)
    experiment: str = Field(ALL, pattern=f"^{NAME_PATTERN}$", description="MLflow experiment; all: any")
    out: str = Field(NONE, min_length=1, description='folder for tables and figures, or "none" to print only')
    html: bool = Field(False, description="with --out: also write report.html, one self-contained page")

    @model_validator(mode="after")
    def _page_has_a_folder(self) -> Self:
        if self.html and self.out == NONE:
            raise ValueError("html: expected a folder for the page, found none. Name one by --out")
        return self


class PlanSettings(Settings):
    """Say how many models and episodes a comparison needs for an interval of a given width.

    The variances are those of an earlier study, or assumed ones, given as standard deviations of a single episode's
    score: between models, between episodes, and the rest.
    """

    study: str = Field(
        "ensemble",
        pattern=f"^{NAME_PATTERN}$",
        description="a study whose first two groups are taken; none: as assumed",
    )
    task: str = Field(AUTO, min_length=1, description=TASK)
    half_width: float = Field(MARGIN, gt=0, le=1, description="half of the width of the 95% interval of the difference")
    std_models: float = Field(0.01, ge=0, le=1, description="with study=none: assumed between models of a method")
    std_episodes: float = Field(0.0, ge=0, le=1, description="with study=none: between episodes, beyond what is shared")
    std_rest: float = Field(0.2, ge=0, le=1, description="with study=none: of an episode, beyond model and episode")
    experiment: str = Field(ALL, pattern=f"^{NAME_PATTERN}$", description="MLflow experiment of the study; all: any")
