"""The settings of upkeep."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.config import ARGUMENT, BARE, NONE, Settings
from pipeline.server.settings import StoresSettings


class DoctorSettings(Settings):
    """Clean up after crashes: close orphaned runs, upload pending data, list runs that can be resumed."""


class SyncSettings(Settings):
    """Upload pending data to MLflow."""


class ReproduceSettings(Settings):
    """Train a run again from its record in MLflow, and tell whether the weights match bit for bit."""

    run: str = Field(description="id of a finished training run in MLflow", json_schema_extra=ARGUMENT)
    task: str = Field(NONE, min_length=1, description="your own task, of a run that was trained on it: FILE.py:NAME")


class MoveStoreSettings(StoresSettings):
    """Copy a local MLflow store into an empty team server that is not running; the local store is not changed."""

    source: Path = Field(Path("mlruns/mlflow.db"), description="sqlite file of the local store")


class RelocateSettings(Settings):
    """Tell a local MLflow store that was moved or copied with its artifacts where they are now."""

    store: Path = Field(Path("mlruns/mlflow.db"), description="sqlite file of the store")


class InfoSettings(Settings):
    """List data, runs, studies and models, and the next step. It changes nothing."""


class DataSettings(Settings):
    """List the data sets in data/, show one, or remove one.

    `list` tells what is there, `show NAME` what a set is made of and which runs were trained on it. `rm NAME` removes
    its files, after a question, unless a run that is still RUNNING uses them.
    """

    action: Literal["list", "show", "rm"] = Field(description="list, show or rm", json_schema_extra=ARGUMENT)
    name: str = Field(NONE, min_length=1, description="the data set", json_schema_extra=BARE)
    horizon: int = Field(0, ge=0, le=1000, description="actions per chunk, of chunks in a folder of their own")
    yes: bool = Field(False, description="remove without a question")

    @model_validator(mode="after")
    def _name_for_one(self) -> Self:
        if (self.action == "list") != (self.name == NONE):
            raise ValueError(f"name: expected {'none' if self.action == 'list' else 'one'} with {self.action}")
        return self
