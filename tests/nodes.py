"""Ray clusters of several nodes on this machine, each with an address of its own, whose processes can be killed."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster

SMALL = {"include_dashboard": False, "object_store_memory": 100 * 2**20}
FAST = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


class Nodes:
    """A head without cores, where who gives the jobs is, and nodes with one core each beside it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.address = cluster.address
        self.workers: dict[int, Any] = {}

    def add(self, number: int) -> None:
        """Begin a node."""
        self.workers[number] = self.cluster.add_node(
            wait=False, num_cpus=1, node_ip_address=f"127.0.0.{number + 3}", **SMALL
        )

    def raylet(self, number: int) -> psutil.Process:
        """The process of a node that has all its workers as children."""
        return psutil.Process(self.workers[number].all_processes["raylet"][0].process.pid)

    def processes(self, number: int, job: str) -> list[psutil.Process]:
        """The processes on a node that do a job of this name."""
        return [each for each in self.raylet(number).children(True) if f"ray::{job}" in _title(each)]

    def kill_node(self, number: int) -> None:
        """Kill a node with all of its workers."""
        raylet = self.raylet(number)
        for process in [*raylet.children(True), raylet]:
            process.kill()

    @contextmanager
    def another_version(self) -> Iterator[None]:
        """Within it, the cluster says that it was started by another version of Ray."""
        client = GcsClient(address=self.address)
        key, space = CLUSTER_METADATA_KEY, KV_NAMESPACE_CLUSTER
        before = client.internal_kv_get(key, namespace=space)
        client.internal_kv_put(key, json.dumps(json.loads(before) | {"ray_version": "1.2.3"}).encode(), True, space)
        try:
            yield
        finally:
            client.internal_kv_put(key, before, True, space)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextmanager
def nodes(count: int = 2) -> Iterator[Nodes]:
    """Within it there is such a cluster."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head = SMALL | {"node_ip_address": "127.0.0.2", "num_cpus": 0, "_system_config": FAST}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        found = Nodes(cluster)
        for number in range(count):
            found.add(number)
        yield found
    finally:
        cluster.shutdown()
