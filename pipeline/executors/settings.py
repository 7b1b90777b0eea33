"""The settings of commands that run jobs."""

from typing import Literal

from pydantic import Field

from pipeline.config import Settings

ADDRESS = r"auto|local|[^\s:/]+:\d{1,5}"


class RunsJobs(Settings):
    """Where the jobs of a command run."""

    executor: Literal["pool", "serial", "ray"] = Field(
        "pool", description="a pool of processes, one job after another, or a Ray cluster"
    )
    workers: int = Field(
        0, ge=0, le=10_000, description="jobs at a time, 0 for one per core, of a cluster as many as it takes"
    )
    ray_address: str = Field(
        "auto",
        pattern=f"^({ADDRESS})$",
        description="Ray cluster: auto (RAY_ADDRESS, or of this machine), local (begun for this command), HOST:PORT",
    )
