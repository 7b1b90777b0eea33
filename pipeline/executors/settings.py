"""The settings of commands that run jobs."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from pipeline.config import Settings
from pipeline.executors.registry import EXECUTORS

if TYPE_CHECKING:
    Name = str
else:
    Name = Literal[tuple(EXECUTORS)]

ADDRESS = r"auto|local|[^\s:/]+:\d{1,5}"


class RunsJobs(Settings):
    """Where the jobs of a command run."""

    executor: Name = Field("pool", description="a pool of processes, one job after another, or a Ray cluster")
    workers: int = Field(
        0, ge=0, le=10_000, description="jobs at a time, 0 for one per core, of a cluster as many as it takes"
    )
    ray_address: str = Field(
        "auto",
        pattern=f"^({ADDRESS})$",
        examples=["auto", "local", "10.0.0.1:6379"],
        description="Ray cluster: auto (RAY_ADDRESS, or of this machine), local (begun for this command), HOST:PORT",
    )

    @model_validator(mode="after")
    def _address_is_of_ray(self) -> Self:
        if self.ray_address != "auto" and self.executor != "ray":
            raise ValueError(f"ray_address: expected executor=ray with it, found executor={self.executor}")
        return self
