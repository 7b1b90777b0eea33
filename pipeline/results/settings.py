"""The settings of a report."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.config import ALL, FLAGS, NAME_PATTERN, NONE, Settings


class ReportSettings(Settings):
    """Compare evaluated models in MLflow: means and deviations over training seeds, and differences."""

    study: str = Field(ALL, pattern=f"^{NAME_PATTERN}$", description="a study, by name; all: every model in the store")
    format: Literal["text", "json", "csv", "markdown"] = Field(
        "text", description="tables, or one JSON object, comma-separated values or Markdown", json_schema_extra=FLAGS
    )
    experiment: str = Field(ALL, pattern=f"^{NAME_PATTERN}$", description="MLflow experiment; all: any")
    out: str = Field(NONE, min_length=1, description='folder for tables and figures, or "none" to print only')
    html: bool = Field(False, description="with --out: also write report.html, one self-contained page")

    @model_validator(mode="after")
    def _page_has_a_folder(self) -> Self:
        if self.html and self.out == NONE:
            raise ValueError("html: expected a folder for the page, found none. Name one by --out")
        return self
