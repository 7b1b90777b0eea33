"""`server`."""

from pipeline.cli.options import settings_command
from pipeline.server.settings import ServerSettings

EXAMPLES = ("server", "server --auth --folder mlruns/server")


def run(settings: ServerSettings) -> None:
    """Serve until Ctrl-C; print how to reach the server."""
    from pipeline.cli.console import OUT, print_rows
    from pipeline.server.parts import ADMIN
    from pipeline.server.team import address, serve

    uri = address(settings)
    rows = [("MLflow", uri), ("use it", f"export MLFLOW_TRACKING_URI={uri}")]
    if settings.auth:
        rows.append(("user", f"{ADMIN}; password: 'admin_password' in {settings.folder / 'credentials.json'}"))
        rows.append(("", "export MLFLOW_TRACKING_USERNAME=... MLFLOW_TRACKING_PASSWORD=..."))
    rows += [("data and logs", str(settings.folder)), ("stop it", "Ctrl-C")]
    OUT.print("starting PostgreSQL, the S3 store and MLflow ...")
    try:
        serve(settings, lambda: print_rows("team server", rows, "MLflow"))
    except KeyboardInterrupt:
        OUT.print("stopped; all data are kept for the next start")


COMMAND = settings_command("server", ServerSettings, run, EXAMPLES)
