"""Who works on a run: on which host, in which folder, which process, and when it last said so.

Whoever works on a run owns its journal, by a lock. Where the store is an sqlite file, the journals stand beside it, and
the lock is exact. Behind a tracking server there are other hosts and other folders, whose locks nobody here can see. So
a run names its owner in tags, and a run that is RUNNING is its owner's as long as its tag `heartbeat` is fresh.

Heartbeats carry the clock of their host; the lease is far longer than clocks differ. MLflow cannot write a tag only if
it is unchanged: two machines that begin one study within the same second may thus both continue, and so may one that
was cut off from the server for longer than the lease. At worst a seed is trained twice, and the newest model counts.
"""

import contextlib
import os
import socket
import threading
import time
from datetime import UTC, datetime

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from requests import RequestException

from pipeline.tracking.delivery import BRIEFLY
from pipeline.tracking.journal import journal_of, journals_folder
from pipeline.tracking.mirror import KEPT_AT
from pipeline.tracking.query import StoredRun
from pipeline.tracking.store import database_file, mlflow_settings, tracking_uri

HOST = "TINYPI_HOST"  # names this host, where its own name is not its alone or changes, as in containers
JOURNAL_TAG = "journal"  # the host and the folder where the owner has the run's journal
PROCESS_TAG = "process"  # the owner's process id on that host
HEARTBEAT_TAG = "heartbeat"  # when the owner last said that it is alive: UTC, ISO 8601
BEAT_SECONDS, LEASE_SECONDS = 60.0, 300.0


def journal_place() -> str:
    """The host and the folder where runs that are started here have their journals: on a worker, its study's."""
    return os.environ.get(KEPT_AT) or f"{os.environ.get(HOST) or socket.gethostname()}:{journals_folder()}"


def owner_tags() -> dict[str, str]:
    """The tags by which this process owns a run."""
    tags = {JOURNAL_TAG: journal_place(), PROCESS_TAG: str(os.getpid())}
    return tags | ({HEARTBEAT_TAG: _now()} if is_shared() else {})


def is_of_elsewhere(run: StoredRun) -> bool:
    """Whether a run's last owner was another host or folder, whose locks cannot be seen from here."""
    return is_shared() and run.tags.get(JOURNAL_TAG, journal_place()) != journal_place()


def owner_elsewhere(run: StoredRun) -> str | None:
    """Who works on a RUNNING run on another host or in another folder, in words; None if nobody does."""
    return _last_seen(run) if run.status == "RUNNING" and is_of_elsewhere(run) else None


def namesake(run: StoredRun) -> str | None:
    """Who works on a RUNNING run under our host's name and in a folder of our path, but not here, in words.

    Two containers can be so alike. The owner is alive, and its journal is not here; the same is true of what a study's
    worker does on another machine, so this is for the runs of studies themselves and for what `doctor` finds.
    """
    ours = run.status == "RUNNING" and run.tags.get(JOURNAL_TAG) == journal_place()
    missing = ours and HEARTBEAT_TAG in run.tags and not journal_of(run.run_id).folder.exists()
    return _last_seen(run) if missing else None


def _last_seen(run: StoredRun) -> str | None:
    """The owner of a run, and when it last said that it is alive, in words; None if that was too long ago."""
    try:
        seen = datetime.fromisoformat(run.tags[HEARTBEAT_TAG])
    except (KeyError, ValueError):  # of an earlier version: all it told is when it began
        seen = datetime.fromtimestamp(run.started / 1000, UTC)
    if time.time() - seen.timestamp() > LEASE_SECONDS:
        return None
    return f"{run.tags[JOURNAL_TAG]} by process {run.tags.get(PROCESS_TAG, 'unknown')}, last seen {seen:%H:%M:%S} UTC"


def is_ours(client: MlflowClient, run_id: str) -> bool:
    """Whether a run that this process took has not been taken over by another machine, as far as the store answers."""
    if not is_shared():
        return True
    try:
        with mlflow_settings(BRIEFLY):
            tags = client.get_run(run_id).data.tags
    except (MlflowException, RequestException):
        return True
    return bool(tags.get(JOURNAL_TAG) == journal_place())


def keep_alive(run_id: str) -> None:
    """Renew the heartbeat of a run of a tracking server once a minute, until `let_go` or the end of this process."""
    global _thread
    if not is_shared():
        return
    with _guard:
        _alive[run_id] = tracking_uri()
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_beat, name="heartbeat", daemon=True)
            _thread.start()


def let_go(run_id: str) -> None:
    """Renew the heartbeat of a run no more."""
    _alive.pop(run_id, None)


_guard = threading.Lock()
_alive: dict[str, str] = {}  # the runs that this process works on, each with its store
_thread: threading.Thread | None = None


def _beat() -> None:
    """Beat until the process ends. A store that is away is no reason to stop; the work itself notices that."""
    while True:
        time.sleep(BEAT_SECONDS)
        for run_id, uri in tuple(_alive.items()):
            with contextlib.suppress(Exception):
                MlflowClient(uri).set_tag(run_id, HEARTBEAT_TAG, _now())


def is_shared() -> bool:
    """Whether others work with the store whose locks cannot be seen from here: every store but an sqlite file."""
    return database_file() is None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
