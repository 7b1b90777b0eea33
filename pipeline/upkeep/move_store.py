"""Copy a local MLflow store into the team server."""

from pipeline.server.parts import BUCKET, check_installed, credentials, database_uri, secrets_of_stores, stores
from pipeline.server.team import alone_in
from pipeline.tracking.move import Moved, check_source, copy_store
from pipeline.upkeep.settings import MoveStoreSettings


def move(settings: MoveStoreSettings) -> Moved:
    """Copy a local store, artifacts included, into the stores of a team server that is not running.

    Raises `StoreError` if there is no such store, runs in it are still active, or the server already has runs.
    """
    check_installed()
    check_source(settings.source)
    with alone_in(settings.folder), stores(settings):
        secrets = secrets_of_stores(credentials(settings.folder), settings)
        return copy_store(settings.source, database_uri(settings), f"s3://{BUCKET}", secrets)
