"""The settings of upkeep."""

from pathlib import Path

from pydantic import Field

from pipeline.config import ARGUMENT, Settings
from pipeline.server.settings import StoresSettings


class DoctorSettings(Settings):
    """Clean up after crashes: close orphaned runs, upload pending data, list runs that can be resumed."""


class SyncSettings(Settings):
    """Upload pending data to MLflow."""


class ReproduceSettings(Settings):
    """Train a run again from its record in MLflow, and tell whether the weights match bit for bit."""

    run: str = Field(description="id of a finished training run in MLflow", json_schema_extra=ARGUMENT)


class MoveStoreSettings(StoresSettings):
    """Copy a local MLflow store into an empty team server that is not running; the local store is not changed."""

    source: Path = Field(Path("mlruns/mlflow.db"), description="sqlite file of the local store")


class RelocateSettings(Settings):
    """Tell a local MLflow store that was moved or copied with its artifacts where they are now."""

    store: Path = Field(Path("mlruns/mlflow.db"), description="sqlite file of the store")


class InfoSettings(Settings):
    """List data, runs, studies and models, and the next step. It changes nothing."""
