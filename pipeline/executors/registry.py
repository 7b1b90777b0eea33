"""The executors by name. Where each is: a module is imported when jobs are run by it."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # settings are read for --help, which needs no executor
    from pipeline.executors.jobs import Executor

EXECUTORS = {
    "pool": "pipeline.executors.pool:POOL",
    "serial": "pipeline.executors.serial:SERIAL",
    "ray": "pipeline.executors.on_ray:RAY",
}


def find_executor(name: str) -> "Executor":
    """Return an executor by its name, one of `EXECUTORS`."""
    module, _, record = EXECUTORS[name].partition(":")
    found: Executor = getattr(import_module(module), record)
    return found
