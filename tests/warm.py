"""Our commands in processes of their own that start at once: forks of one that has imported the heavy libraries.

A new interpreter needs five seconds of a core for torch, MLflow and what they import; what most tests ask of a command
takes less. A fork has those libraries only. It imports `pipeline` itself, runs `python -m MODULE` as Python does, and
has an environment, a folder, outputs, signals and an exit code of its own. Where a new interpreter is what matters
(entry points, `mlflow run`, bits that must not depend on the seed of Python's hashes), tests start one.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

OURS = {"pipeline", "train", "tests"}
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "pipeline.tracking",  # sets MLflow's switches, and imports nothing; forgotten in each fork
        "alembic.command", "filelock", "git", "gymnasium", "IPython", "jinja2", "matplotlib.backends.backend_agg",
        "matplotlib.figure", "mlflow", "mlflow.data.numpy_dataset", "mlflow.pyfunc",
        "mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_store",
        "mujoco.batch", "pandas", "pebble", "rich.console", "rich.progress", "rich.table", "safetensors.torch",
        "scipy.fft", "scipy.linalg", "scipy.stats", "tokenizers", "torch", "torch._dynamo", "tests.preload",
    ]
)  # fmt: skip


class Command:
    """`python WORDS...` in a folder, begun; the first word is `-m` or `-c`. As `subprocess.Popen`, where we need it."""

    def __init__(self, folder: Path, words: list[str], env: Mapping[str, str]) -> None:
        self.words = words
        self._outputs = tempfile.TemporaryDirectory()
        self._process = FORKS.Process(target=_become, args=(folder, words, dict(env), self._outputs.name))
        self._process.start()
        atexit.register(self._process.kill)  # or multiprocessing would wait for it
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float = 300) -> int | None:
        """Wait for its end; its exit code, or None if it goes on."""
        self._process.join(timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def printed(self) -> str:
        """What it has written to standard output so far."""
        return self._read("1")

    def errors(self) -> str:
        """What it has written to standard error so far."""
        return self._read("2")

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for its end; what it wrote to standard output and standard error."""
        if self.wait(timeout) is None:
            self._process.kill()
            raise subprocess.TimeoutExpired(self.words, timeout, self.printed(), self.errors())
        return self.printed(), self.errors()

    def _read(self, name: str) -> str:
        path = Path(self._outputs.name, name)
        return path.read_text(encoding="utf-8") if path.exists() else ""


def run(folder: Path, words: list[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`python WORDS...` in a folder, to its end."""
    command = Command(folder, words, env)
    out, err = command.communicate()
    assert command.returncode is not None
    return subprocess.CompletedProcess(words, command.returncode, out, err)


def _become(folder: Path, words: list[str], env: dict[str, str], outputs: str) -> None:
    """Turn this fork into what `python WORDS...` would be."""
    sys.dont_write_bytecode = False
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    for number in (1, 2):
        os.dup2(os.open(f"{outputs}/{number}", os.O_WRONLY | os.O_CREAT, 0o600), number)
    sys.stdout.reconfigure(encoding="utf-8", line_buffering=False)  # type: ignore[union-attr]
    sys.stderr.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    first = [str(folder), *env.get("PYTHONPATH", "").split(os.pathsep)]
    sys.path[:] = [*first, *(path for path in sys.path if path not in first)]
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    how, what, *sys.argv[1:] = words
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(what, vars(main))
