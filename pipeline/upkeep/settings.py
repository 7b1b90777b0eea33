"""The settings of upkeep."""

from pathlib import Path

from pydantic import Field

from pipeline.config import ARGUMENT, Settings
from pipeline.server.settings import StoresSettings


class DoctorSettings(Settings):
    """Find runs whose process is gone, end them as KILLED, and deliver what MLflow has not got; say which can go on."""


class SyncSettings(Settings):
    """Deliver to MLflow what runs could not deliver while the store was away."""


class ReproduceSettings(Settings):
    """Train a run again from what MLflow has of it, and say whether the weights match bit for bit."""

    run: str = Field(description="id of a finished training run in MLflow", json_schema_extra=ARGUMENT)


class MoveStoreSettings(StoresSettings):
    """Copy a local MLflow store into an empty team server that is not running; the local store stays as it is."""

    source: Path = Field(Path("mlruns/mlflow.db"), description="sqlite file of the local store")


class RelocateSettings(Settings):
    """Tell a local MLflow store that was moved or copied with its artifacts where they are now."""

    store: Path = Field(Path("mlruns/mlflow.db"), description="sqlite file of the store")


class InfoSettings(Settings):
    """Say what data, runs, studies and models are here, and what can be done next. Makes and changes nothing."""
