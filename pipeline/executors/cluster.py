"""The connection to a Ray cluster, which is one for a process: joining, what is refused first, and leaving."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.config import AUTO, ROOT
from pipeline.errors import MissingExtraError, SettingsError, one_line, reason
from pipeline.executors.jobs import Resources
from pipeline.executors.pool import cores
from pipeline.versions import COMMIT_FILE, code_state

LOCAL = "local"
STORE_BYTES = 256 * 2**20  # of a cluster of ours; what does not fit is put on disk
ANSWER_SECONDS, HEALTH_SECONDS = 5.0, 30.0  # that an address has to take a connection, and to answer as Ray does
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to."""

    node: str  # the id of our own machine in it
    shares: bool  # whether jobs run in our folder, all on this machine; otherwise each in a folder of its own
    environment: Mapping[str, str]  # variables that the workers get


_joined: Cluster | None = None


def joined() -> Cluster:
    """Return the cluster that this process has joined."""
    assert _joined is not None, "jobs run within `joining`"
    return _joined


def machines() -> list[Resources]:
    """What each machine of the cluster has that takes our jobs: if these share our folder, ours alone."""
    import ray

    api: Any = ray
    cluster = joined()
    nodes = [node for node in api.nodes() if node["Alive"] and (node["NodeID"] == cluster.node or not cluster.shares)]
    return [Resources(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)) for node in nodes]


@contextmanager
def joining(address: str, workers: int, shares: bool, environment: Mapping[str, str]) -> Iterator[None]:
    """Within it, jobs run on the cluster at `address`; one that is begun for this, `local`, ends with it.

    With `shares`, jobs work in this folder, which needs a cluster of this machine alone. Raises `MissingExtraError`
    without Ray, and `SettingsError` if nobody answers within seconds, if the cluster has other versions of Ray or
    Python, or if it has other machines and jobs are to share this folder.
    """
    global _joined
    if _joined is not None:  # a study of a suite
        yield
        return
    if find_spec("ray") is None:
        raise MissingExtraError(
            "executor: the package ray, which runs jobs on a cluster, is not installed. "
            "Install it with: pip install -e '.[ray]'"
        )
    os.environ.update(QUIET)
    import ray

    api: Any = ray  # much of it has no types
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if address == LOCAL:
            options |= {"num_cpus": workers or cores(), "include_dashboard": False, "_temp_dir": name}
            options |= {"_node_ip_address": "127.0.0.1"}  # nobody else reaches it
            options |= {"object_store_memory": STORE_BYTES}
        else:
            address = _find(address)
            _require_answer(address)
        if not shares:
            options["runtime_env"] = {"working_dir": str(_pack_code(folder / "code"))}
        try:
            with _own_signals():
                ray.init(address=address, **options)
        except (Exception, SystemExit) as error:
            ray.shutdown()
            raise SettingsError(
                f"ray_address: expected a cluster with our versions at '{address}', found: {one_line(error)[:300]}"
            ) from error
        api._private.worker._worker_logs_enabled = False  # messages of its own about failures, which we tell ourselves
        try:
            if shares and len(alive := [node for node in api.nodes() if node["Alive"]]) > 1:
                raise SettingsError(
                    f"ray_address: expected a tracking server that the workers of {len(alive)} machines reach, found "
                    "a store that is a file. Start one with 'make server' or 'mlflow server', and set "
                    "MLFLOW_TRACKING_URI to its address."
                )
            _joined = Cluster(ray.get_runtime_context().get_node_id(), shares, environment)
            yield
        finally:
            _joined = None
            ray.shutdown()


def _find(address: str) -> str:
    """Return HOST:PORT of a cluster; raises `SettingsError` if `auto` finds none."""
    from ray._private import services

    api: Any = services
    if address != AUTO:
        return address
    if chosen := os.environ.get("RAY_ADDRESS"):
        return chosen
    found = sorted(api.find_gcs_addresses())
    if len(found) != 1:
        raise SettingsError(
            f"ray_address: expected one Ray cluster on this machine, found {', '.join(found) or 'none'}. Start one "
            "with 'ray start --head', name its HOST:PORT, or take ray_address=local."
        )
    return str(found[0])


def _require_answer(address: str) -> None:
    """Raise `SettingsError` unless Ray answers there: it would try for minutes, and then end this process."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
        words = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--skip-version-check"]
        subprocess.run([*words, "--address", address], capture_output=True, timeout=HEALTH_SECONDS, check=True)
    except (OSError, ValueError, OverflowError, subprocess.SubprocessError) as error:
        why = reason(error) if isinstance(error, OSError) else "one that does not speak as Ray does"
        raise SettingsError(
            f"ray_address: expected a Ray cluster at '{address}', found {why}. Start one with 'ray start --head', or "
            "take ray_address=local."
        ) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep our handlers: Ray would end the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pack_code(folder: Path) -> Path:
    """Copy our code to a folder, for the workers; it tells its commit, for there is no checkout there."""
    shutil.copytree(ROOT / "pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "train").mkdir()
    for path in ROOT.glob("train/*.py"):
        shutil.copy(path, folder / "train")
    (folder / COMMIT_FILE).write_text(json.dumps(code_state()))
    return folder
