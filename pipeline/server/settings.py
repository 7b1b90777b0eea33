"""The settings of the team server."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from pipeline.config import Settings


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
