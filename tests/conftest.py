"""Small real data, made once a session, and a way to run our commands as a user does.

Heavy libraries are imported where they are used: the process of `pytest -n` that hands out the tests needs none.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from tests import warm

if TYPE_CHECKING:
    from execnet import XSpec
    from mlflow.tracking import MlflowClient

if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker has what is left here, and what our own modules set
    for outside in [name for name in os.environ if name.startswith(("MLFLOW_", "MAKE", "MFLAGS"))]:
        del os.environ[outside]  # what `make test` exports is not for what the tests start
# As every run of ours has one thread: two of them beside a neighbour take five times as long.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each of them compiles all of ours
sys.dont_write_bytecode = False

ROOT = Path(__file__).resolve().parent.parent
TRAIN_SCRIPTS = [f"train/train_{name}.py" for name in ("pi0", "pi0_fast", "regression", "binning")]
SMALL_TRAJECTORIES = 60
TINY = {"epochs": 1, "width": 16, "layers": 1, "episodes": 3}  # a study's settings

TOKEN_METHODS = {"pi0_fast": "fast", "binning": "bins"}
"""The methods with tokens, and the scheme of their tokenizer."""

Run = Callable[..., subprocess.CompletedProcess[str]]

LONGEST_ID = 60  # of a parameter, in the name of a test
SLOW_SECONDS = 15  # of a test marked `slow` that does not say how many
FORKS = "forks"  # what all workers share


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The groups that take longest come first, so that no worker is left alone with one at the end.

    It is for this that xdist is told not to order groups by their number of tests.
    """
    seconds: Counter[str] = Counter()
    group_of = {}
    for item in items:
        slow, group = item.get_closest_marker("slow"), item.get_closest_marker("xdist_group")
        group_of[item] = group.args[0] if group else item.nodeid
        seconds[group_of[item]] += slow.kwargs.get("seconds", SLOW_SECONDS) if slow else 1
    items.sort(key=lambda item: -seconds[group_of[item]])  # a stable sort: else the order of the files


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[XSpec]) -> None:
    """The workers of `pytest -n` are forks as well, or each of them imports all libraries for itself."""
    warm.place = config._tmp_path_factory.getbasetemp() / FORKS  # type: ignore[attr-defined]
    for spec in specs:
        spec.python = warm.worker()


def pytest_make_parametrize_id(val: object) -> str | None:
    """Of a long text, the begin names a test."""
    return ascii(val[:LONGEST_ID])[1:-1] if isinstance(val, str) and len(val) > LONGEST_ID else None


def files_of(method_name: str, data: Path) -> dict[str, Path]:
    """The settings that name a method's files in the folder `data`."""
    if method_name not in TOKEN_METHODS:
        return {"pairs": data / "training_pairs_original.npz"}
    scheme = TOKEN_METHODS[method_name]
    return {"pairs": data / f"training_pairs_{scheme}.npz", "tokenizer": data / f"{scheme}_tokenizer.json"}


def store(workplace: Path) -> MlflowClient:
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{workplace}/mlruns/mlflow.db")


@functools.cache
def empty_store() -> bytes:
    """MLflow's own empty store, made once for all: its migrations take seconds of a core and of the disk.

    Its first experiment is in the folder of whoever uses it, and not in that of the process which made it.
    """
    from mlflow.tracking import MlflowClient

    empty = warm.place.with_name("empty.db")
    with FileLock(f"{empty}.lock"):
        if not empty.exists():
            MlflowClient(f"sqlite:///{empty}.unfinished").search_experiments()
            with closing(sqlite3.connect(f"{empty}.unfinished")) as database, database:
                database.execute("UPDATE experiments SET artifact_location = 'mlruns/0'")
            Path(f"{empty}.unfinished").rename(empty)
    return empty.read_bytes()


def put_store(folder: Path, name: str = "mlruns/mlflow.db") -> None:
    """Put an empty store there."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(empty_store())


def runs_of(workplace: Path, experiment: str = "tinypi") -> list:
    client = store(workplace)
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id]) if found else []


def environment(**changes: str) -> dict[str, str]:
    """The environment without MLflow settings from outside, and with `changes`."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return outside | {"PYTHONPATH": str(ROOT)} | changes


def mlflow_command(workplace: Path) -> tuple[list[str], dict[str, str]]:
    """`mlflow run` on the real project, with its store and its files in the workplace: the command, its environment."""
    project = workplace / "project"
    project.mkdir(exist_ok=True)
    for name in ("MLproject", "conda.yaml", "pipeline", *TRAIN_SCRIPTS):
        (project / name).parent.mkdir(exist_ok=True)
        if not (project / name).exists():
            (project / name).symlink_to(ROOT / name)
    if not (project / "data").exists():
        (project / "data").symlink_to(workplace / "data")
    env = environment(
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        PYTHONPATH=str(project),
        MLFLOW_TRACKING_URI=f"sqlite:///{workplace}/mlruns/mlflow.db",
    )
    (workplace / "mlruns").mkdir(exist_ok=True)
    return [sys.executable, "-m", "mlflow", "run", str(project), "--env-manager", "local"], env


def mlflow_run(
    workplace: Path, *words: str, check: bool = True, manager: str = "local", new: bool = False, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run `mlflow run` in the workplace to its end in a fork; what it starts too, or in a `new` interpreter."""
    command, env = mlflow_command(workplace)
    if not new:
        env["PATH"] = f"{Path(warm.python()).parent}:{env['PATH']}"
    command[-1], env = manager, env | changes
    if not (workplace / "mlruns" / "mlflow.db").exists():
        put_store(workplace)
    result = warm.run(workplace, [*command[1:], *words], env)
    assert not check or result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all of xdist's workers share: who needs something first makes it for all."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def place_of_forks(shared: Path) -> None:
    warm.place = shared / FORKS


@pytest.fixture(scope="session")
def data(shared: Path) -> Path:
    """A `data` folder with 60 real demonstrations and their tokens; not to be written to."""
    folder = shared / "made" / "data"
    with FileLock(f"{folder.parent}.lock"):
        if not folder.exists():
            make_data(folder.with_name("unfinished"))
            folder.with_name("unfinished").rename(folder)
    return folder


def make_data(folder: Path) -> None:
    from pipeline.config import make
    from pipeline.stages.collect import collect
    from pipeline.stages.settings import CollectSettings, TokenizeSettings
    from pipeline.stages.tokenize import tokenize

    collect(CollectSettings(trajectories=SMALL_TRAJECTORIES, out=folder))
    for scheme in ("fast", "bins"):
        values = {"scheme": scheme, "pairs": folder / "training_pairs_original.npz", "out": folder}
        tokenize(make(TokenizeSettings, values))


@pytest.fixture(scope="session")
def study(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study of two models per method, made by `mlflow run`.

    Tests that share it belong to the xdist group `study`, or it is made again.
    """
    folder = tmp_path_factory.mktemp("study")
    (folder / "data").symlink_to(data)
    small = [word for name, value in TINY.items() for word in ("-P", f"{name}={value}")]
    result = mlflow_run(
        folder, "-e", "ensemble", "--experiment-name", "tinypi", "-P", "n_models=2", "-P", "executor=serial", *small
    )
    assert "Verdict by calm" in result.stdout
    assert "pi0_fast seed 1: done in" in result.stdout and "11 jobs run, 0 models reused, 0 failed" in result.stdout
    return folder


@pytest.fixture
def workplace(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with `data` linked to the small data, and no MLflow settings from outside."""
    (tmp_path / "data").symlink_to(data)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def with_store(workplace: Path) -> None:
    """An empty store in the workplace."""
    put_store(workplace)


@pytest.fixture
def without_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs in this process, where a test is not about processes: each of a pool imports torch for seconds."""
    from pipeline.executors.registry import EXECUTORS

    monkeypatch.setitem(EXECUTORS, "pool", EXECUTORS["serial"])


@pytest.fixture
def run(workplace: Path) -> Run:
    """Run `python -m WORDS...` in the workplace: `run("train.train_pi0", "--epochs", 1)`."""

    def call(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return warm.run(workplace, ["-m", *map(str, words)], environment(**(env or {})))

    return call


@pytest.fixture
def run_anew(workplace: Path) -> Run:
    """The same in a new interpreter, with hashes of its own: for bits that must not depend on them."""

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *map(str, words)],
            cwd=workplace, env=environment(), capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    return call
