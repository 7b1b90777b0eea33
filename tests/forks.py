"""The server of forks: it imports the libraries and `pipeline` once, and then forks what is asked of it at its socket.

A connection asks for one fork, learns its process id and, at its end, its exit code; when a connection is closed
before, the fork and what it has started are killed. The server ends with the last connection.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib.util
import io
import json
import os
import pkgutil
import runpy
import select
import selectors
import shutil
import signal
import socket
import struct
import sys
import threading
import traceback
from multiprocessing import popen_spawn_posix, resource_tracker, util
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from fork import NUMBER, WORKER, ask, ended

OURS = {"pipeline", "train", "tests"}
# Ours that read or set the environment when they are imported: MLflow's switches; what a terminal shows.
SURROUNDED = ("pipeline.tracking", "pipeline.cli.console")
APART = ("__main__", "served_model", "gymnasium_env")  # ours that do more than define when they are imported
PRELOADED = [
    "pipeline.tracking",  # before MLflow; it imports nothing
    "alembic.command", "boto3", "fastapi", "filelock", "flask", "git", "graphene", "gymnasium", "ipykernel.kernelapp",
    "IPython", "jinja2", "matplotlib.backends.backend_agg", "matplotlib.figure", "mlflow", "mlflow.cli",
    "mlflow.data.numpy_dataset", "mlflow.pyfunc", "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store", "mujoco.batch", "pandas", "pebble", "psycopg", "rich.console",
    "rich.progress", "rich.table", "safetensors.torch", "scipy.fft", "scipy.linalg", "scipy.stats", "tokenizers",
    "torch", "torch._dynamo", "uvicorn.main",
]  # fmt: skip
MOST = 512  # a fork may ask for files of numbers below


def preload() -> None:
    """Import the libraries; files that they keep open have numbers that no fork asks for."""
    low = [os.open(os.devnull, os.O_RDONLY)]
    while low[-1] < MOST:
        low.append(os.dup(low[-1]))
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            print(f"{name} is not installed", file=sys.stderr)
    for module in pkgutil.walk_packages(sys.modules["pipeline"].__path__, "pipeline."):
        if module.name.rpartition(".")[2] not in APART:
            importlib.import_module(module.name)
    from matplotlib.figure import Figure
    from mlflow.utils.requirements_utils import _init_modules_to_packages_map
    from sqlalchemy.orm import configure_mappers

    from pipeline.versions import lock

    # What each process does once: MLflow reads the metadata of all packages before it logs a model, a second of a core,
    # and we do before a training; SQLAlchemy connects its classes; matplotlib reads its fonts.
    lock({})
    _init_modules_to_packages_map()
    configure_mappers()
    Figure().savefig(io.BytesIO())
    for file in low:
        os.close(file)
    gc.collect()
    gc.freeze()  # a collection in a fork does not touch, and so copy, what it shares with us


def serve(place: Path) -> tuple[dict[str, Any], list[int]]:
    """Fork until nobody is connected. Returns in each fork: what is asked of it, and the files that came with it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place / "socket.new"))
    listener.listen(128)
    (place / "socket.new").rename(place / "socket")
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ready = selectors.DefaultSelector()
    ready.register(listener, selectors.EVENT_READ)
    ready.register(woken, selectors.EVENT_READ)
    forks: dict[socket.socket, int] = {}  # connections, and the fork of each; 0 before there is one
    while True:
        for key, _ in ready.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                forks[connection] = 0
                ready.register(connection, selectors.EVENT_READ)
            elif key.fileobj == woken:
                os.read(woken, 4096)
                for pid, code in ended_forks():
                    for connection in [each for each, its in forks.items() if its == pid]:
                        forks[connection] = 0
                        tell(connection, code)
            elif asked := receive(connection := key.fileobj):
                pid = os.fork()
                if pid == 0:
                    for each in (*forks, listener, ready):
                        each.close()
                    os.close(woken)
                    os.close(waker)
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    if asked[0]["words"][0] == WORKER:
                        os.setsid()
                    else:
                        join(asked[0]["group"])
                    return asked
                forks[connection] = pid
                for file in asked[1]:
                    os.close(file)
                tell(connection, pid)
            else:
                ready.unregister(connection)
                connection.close()
                if pid := forks.pop(connection):
                    (os.killpg if os.getpgid(pid) == pid else os.kill)(pid, signal.SIGKILL)
        if not forks:
            shutil.rmtree(place)
            sys.exit()


def join(group: int) -> None:
    """Join the group of processes of who asks for us, if it is one of our forks; others are in another session."""
    try:
        os.setpgid(0, group)
    except PermissionError:
        os.setpgid(0, 0)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """What a connection asks for, or None if it is closed."""
    files: list[int] = []
    try:
        length, files, _, _ = socket.recv_fds(connection, NUMBER.size, 253)
        return json.loads(connection.recv(NUMBER.unpack(length)[0], socket.MSG_WAITALL)), files
    except (OSError, ValueError, struct.error):  # who asks was killed on the way
        for file in files:
            os.close(file)
        return None


def tell(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # it will be seen to be closed
        connection.sendall(NUMBER.pack(number))


def ended_forks() -> list[tuple[int, int]]:
    """Forks that have ended since, and their exit codes."""
    found = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append((pid, os.waitstatus_to_exitcode(status)))


def take_files(numbers: list[int], files: list[int]) -> None:
    """Have those files under these numbers."""
    aside = [fcntl.fcntl(file, fcntl.F_DUPFD, MOST) for file in files]
    for file in files:
        os.close(file)
    for number, file in zip(numbers, aside, strict=True):
        os.dup2(file, number)
        os.close(file)


class Spawned(popen_spawn_posix.Popen):
    """A process that `multiprocessing` spawns, as a fork of the server: with the process id that both of them know."""

    address = ""

    def _launch(self, process_obj: Any) -> None:
        resource_tracker.ensure_running()  # a small interpreter of its own
        spawn = util.spawnv_passfds
        util.spawnv_passfds = self._ask
        try:
            super()._launch(process_obj)
        finally:
            util.spawnv_passfds = spawn

    def _ask(self, _path: str, words: list[str], files: list[int]) -> int:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(self.address)
        passed = {number: number for number in (0, 1, 2, *files)}
        return ask(self._connection, str(Path.cwd()), words[1:], dict(os.environ), passed)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        waits = 0 if flag == os.WNOHANG else None
        if self.returncode is None and select.select([self._connection], [], [], waits)[0]:
            self.returncode = ended(self._connection)
        return self.returncode


def become(asked: dict[str, Any], files: list[int], place: Path) -> None:
    """Turn this fork into what `python WORDS...` would be."""
    take_files(asked["files"], files)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    names = [name for name in sys.modules if name.partition(".")[0] in OURS or name in ("fork", "forks")]
    ours = {name: sys.modules.pop(name) for name in names}
    words = asked["words"]
    if words[0] == WORKER:
        words = words[1:]
    else:
        sys.executable = str(place / "python")
        Spawned.address = str(place / "socket")
        popen_spawn_posix.Popen = Spawned
    if backend := os.environ.get("MPLBACKEND"):  # which matplotlib reads when it is imported
        sys.modules["matplotlib"].rcParams["backend"] = backend
    while words[0].startswith("-") and words[0] not in ("-c", "-m"):
        words = words[1:]  # such as -u or -B, which change nothing that tests look at
    how, rest = words[0], words[1:]
    first = asked["folder"] if how in ("-c", "-m") else str(Path(how).parent.absolute())
    paths = [first, *filter(None, asked["env"].get("PYTHONPATH", "").split(os.pathsep))]
    sys.path[:] = [*paths, *(path for path in sys.path[1:] if path not in paths)]
    found = importlib.util.find_spec("pipeline")
    if found is not None and found.origin == ours["pipeline"].__file__:  # the one that it would import
        sys.modules.update({name: module for name, module in ours.items() if name.partition(".")[0] == "pipeline"})
        for name in SURROUNDED:
            importlib.reload(sys.modules[name])
    if how == "-m":
        sys.argv[1:] = rest[1:]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif how == "-c":
        sys.argv[:] = ["-c", *rest[1:]]
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(rest[0], vars(main))
    else:
        sys.argv[:] = [how, *rest]
        runpy.run_path(how, run_name="__main__")


def end(error: BaseException | None) -> NoReturn:
    """End as an interpreter does, without its minute work of taking all apart."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if code and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code & 0xFF)


def main(place: Path) -> None:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background, it may be ignored
    preload()
    asked, files = serve(place)
    try:
        become(asked, files, place)
    except BaseException as error:
        end(error)
    end(None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
