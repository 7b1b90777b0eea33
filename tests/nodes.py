"""Ray clusters of two nodes on this machine, whose processes can be killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from ray.cluster_utils import Cluster

SMALL = {"include_dashboard": False, "object_store_memory": 100 * 2**20}
FAST = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


@dataclass
class Nodes:
    """A head without cores, where who gives the jobs is, and workers' nodes beside it."""

    cluster: Cluster
    workers: list

    @property
    def address(self) -> str:
        return self.cluster.address

    def processes(self, number: int) -> list[psutil.Process]:
        """The workers' processes on a node that run a job now."""
        raylet = self.workers[number].all_processes["raylet"][0].process
        return [child for child in psutil.Process(raylet.pid).children(True) if "ray::" in _title(child)]

    def kill_node(self, number: int) -> None:
        """Kill a node: its raylet and all of its workers, at once."""
        raylet = self.workers[number].all_processes["raylet"][0].process
        for process in [psutil.Process(raylet.pid), *psutil.Process(raylet.pid).children(True)]:
            process.kill()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextmanager
def nodes(cores: tuple[int, ...] = (1, 1), folder: Path | None = None) -> Iterator[Nodes]:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
    cluster = Cluster(
        initialize_head=True,
        head_node_args=SMALL | {"node_ip_address": "127.0.0.2", "num_cpus": 0, "_system_config": FAST},
    )
    try:
        yield Nodes(
            cluster,
            [
                cluster.add_node(wait=False, num_cpus=each, node_ip_address=f"127.0.0.{number}", **SMALL)
                for number, each in enumerate(cores, start=3)
            ],
        )
    finally:
        cluster.shutdown()
