"""The project's own files agree: settings, MLproject, command lines, conda.yaml, lock, Makefile, rooms."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import click
import pytest
import yaml
from mlflow.tracking import MlflowClient
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline import config
from pipeline.cli import main as cli
from pipeline.cli.options import settings_command
from pipeline.cli.train import train_command
from pipeline.errors import SettingsError
from pipeline.methods.settings import BinningSettings, Pi0FastSettings, Pi0Settings, RegressionSettings
from pipeline.stages.settings import CollectSettings, TokenizeSettings
from pipeline.studies.settings import EnsembleSettings, SearchSettings, SuiteSettings, shorthands
from pipeline.tracking import leftover
from pipeline.tracking.store import database_file, home
from tests.conftest import ROOT, TRAIN_SCRIPTS, environment, mlflow_command, put_store

MLPROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENTRY_POINTS = {
    "collect": ("pipeline collect", CollectSettings),
    "tokenize": ("pipeline tokenize", TokenizeSettings),
    "ensemble": ("pipeline ensemble", EnsembleSettings),
    "suite": ("pipeline suite", SuiteSettings),
    "search": ("pipeline search", SearchSettings),
    "train_pi0": ("train.train_pi0", Pi0Settings),
    "train_pi0_fast": ("train.train_pi0_fast", Pi0FastSettings),
    "train_regression": ("train.train_regression", RegressionSettings),
    "train_binning": ("train.train_binning", BinningSettings),
    "main": ("train.train_pi0", Pi0Settings),
}


def test_entry_points_are_all_here() -> None:
    assert MLPROJECT["name"] == PYPROJECT["project"]["name"] == "tinypi"
    assert set(MLPROJECT["entry_points"]) == set(ENTRY_POINTS) == leftover.entry_points()


@pytest.mark.parametrize("name", list(ENTRY_POINTS))
def test_mlproject_command_line_and_settings_are_one(name: str) -> None:
    module, kind = ENTRY_POINTS[name]
    entry = MLPROJECT["entry_points"][name]
    short = shorthands() if kind is EnsembleSettings else {}
    fields = config.fields_of(kind) | short
    assert list(entry["parameters"]) == list(fields)
    types = {"int": int, "float": float, "string": str}
    for field, declared in entry["parameters"].items():
        assert isinstance(declared["default"], types[declared["type"]]), f"{field}: YAML read another type"
        if field in short:  # "auto": each method by its own default
            assert declared == {"type": "string", "default": "auto"}
            continue
        assert config.make(kind, {field: str(declared["default"])}) == kind(), field
        annotation = getattr(fields[field].annotation, "__name__", "")
        assert declared["type"] == {"int": "int", "float": "float"}.get(annotation, "string")

    words = shlex.split(entry["command"])
    assert words[:2] == ["python", "-m"] and " ".join(words[2:]).startswith(module)
    assert words[2 + len(module.split()) :] == [word for field in fields for word in (f"--{field}", f"{{{field}}}")]

    command = cli.COMMANDS.commands[name] if name in cli.COMMANDS.commands else train_command(name, kind)
    options = {
        option.name: option for option in command.params if option.name not in ("quiet", "verbose", "debug", "help")
    }
    assert list(options) == list(fields)
    for field, option in options.items():
        assert set(option.opts) == {f"--{field}", f"--{field.replace('_', '-')}"}
        assert fields[field].description and (fields[field].default == () or str(fields[field].default) in option.help)


def test_a_list_of_groups_may_be_longer_than_a_name_in_a_path() -> None:
    methods = ", ".join(f"pi0 width=64 layers=3 heads=2 lr=0.00{number} ema=0.99" for number in range(1, 9))
    assert len(methods) > 300 and config.make(EnsembleSettings, {"methods": methods}).methods == methods
    with pytest.raises(SettingsError, match="pairs: expected text without zero bytes, of at most 255 bytes between"):
        config.make(EnsembleSettings, {"pairs": "x" * 256})


def test_both_spellings_reach_the_settings() -> None:
    seen = []
    command = settings_command("x", Pi0Settings, seen.append, ())
    for words in (["--batch-size", "7", "--flow_steps", "3"], ["--batch_size=7", "--flow-steps=3"]):
        assert cli.main(command, words) == 0
    assert seen[0] == seen[1] == Pi0Settings(batch_size=7, flow_steps=3)


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(train_command("pi0", Pi0Settings), ["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"--{field.replace('_', '-')}" in text for field in Pi0Settings.model_fields)
    assert isinstance(cli.COMMANDS, click.Group) and cli.main(cli.COMMANDS, ["--help"]) == 0


def test_conda_has_the_versions_of_pyproject() -> None:
    conda = yaml.safe_load((ROOT / "conda.yaml").read_text())
    assert conda["name"] == "tinypi"
    lock, *pinned = next(entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict))
    assert lock == f"-c {LOCK.name}" and pinned == PYPROJECT["project"]["dependencies"]
    assert PYPROJECT["project"]["requires-python"] == ">=3.11"
    assert "python=3.11.7" in conda["dependencies"]


LOCK = ROOT / "constraints.txt"


def locked() -> dict[str, Requirement]:
    """What the lock says for this system and Python, by name."""
    lines = [Requirement(line) for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(line.name): line for line in lines if line.marker is None or line.marker.evaluate()}


def test_lock_has_every_pin() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert extras["dev"][0] == "tinypi[export,hdf5,ray,search,server]"
    groups = [*extras.values(), PYPROJECT["project"]["dependencies"], PYPROJECT["build-system"]["requires"]]
    direct = [Requirement(entry) for group in groups for entry in group if entry != extras["dev"][0]]
    for entry in direct:
        assert locked()[canonicalize_name(entry.name)].specifier == entry.specifier, f"{entry}: run make lock"
    assert all(re.fullmatch(r"==[\w.]+", str(entry.specifier)) for entry in [*direct, *locked().values()])


def test_lock_is_whole_and_is_what_is_installed() -> None:
    """From our dependencies down, every package that is installed has the lock's version."""
    lock, seen = locked(), set()
    waiting = [Requirement(entry) for entry in ("tinypi", *PYPROJECT["project"]["optional-dependencies"]["dev"])]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        found = distribution(name)
        if name != "tinypi":
            assert name in lock and lock[name].specifier.contains(found.version), f"{name} {found.version}"
        extras = [{"extra": extra} for extra in ("", *wanted.extras)]
        for line in found.requires or []:
            needed = Requirement(line)
            key = canonicalize_name(needed.name), frozenset(needed.extras)
            if key not in seen and (needed.marker is None or any(map(needed.marker.evaluate, extras))):
                seen.add(key)
                waiting.append(needed)
    assert len(seen) > 100


def bare_python(folder: Path) -> Path:
    """A `python` without any packages, as a system's may be."""
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(os.path.realpath(sys.executable))} -S "$@"\n')
    python.chmod(0o755)
    return python


@pytest.mark.parametrize("module", ["pipeline", *(name[:-3].replace("/", ".") for name in TRAIN_SCRIPTS)])
def test_a_python_without_our_packages_is_named(module: str, tmp_path: Path) -> None:
    words = [bare_python(tmp_path), "-m", module, "--help"]
    result = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    (line,) = result.stderr.splitlines()
    assert result.returncode == 2 and not result.stdout
    assert line.startswith(f"error: {os.path.realpath(sys.executable)} (Python ") and "is not installed" in line
    assert "source ./.venv/bin/activate" in line or "make -C . setup" in line


def test_a_package_that_a_command_misses_later_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def callback() -> None:
        import nowhere_to_be_found  # noqa: F401

    assert cli.main(click.Command("x", callback=callback), []) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {sys.executable} (Python ") and "'nowhere_to_be_found' is not installed" in line


def test_mlflow_run_with_such_a_python(workplace: Path) -> None:
    """It fails in one line of ours; its run is in the checkout's one store, where MLflow looks by itself."""
    command, env = mlflow_command(workplace)
    project = workplace / "project"
    put_store(project)
    (project / "mlflow.db").symlink_to("mlruns/mlflow.db")  # as make setup does
    before = sorted(project.iterdir())
    del env["MLFLOW_TRACKING_URI"]
    env["PATH"] = f"{bare_python(workplace).parent}:{env['PATH']}"
    result = subprocess.run(
        [*command, "-e", "train_pi0"], cwd=project, env=env, capture_output=True, text=True, timeout=120
    )
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 1 and len(errors) == 1 and "is not installed" in errors[0]
    assert "Traceback" not in result.stderr and sorted(project.iterdir()) == before
    (run,) = MlflowClient(f"sqlite:///{project}/mlruns/mlflow.db").search_runs(["0"])
    assert run.info.status == "FAILED"


def test_a_linked_store_is_one_with_what_it_links_to(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mlflow.db").symlink_to("mlruns/mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workplace}/mlflow.db")
    assert database_file() == workplace / "mlruns/mlflow.db" and home() == workplace / "mlruns"


@pytest.fixture
def makefile(tmp_path: Path) -> Path:
    """A folder with our Makefile, where make takes all as installed."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt", ".venv/bin/.installed", ".venv/bin/.installed-dev"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def make(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *words], cwd=folder, env=environment(**env), capture_output=True, text=True)


def test_make_help_names_every_target(makefile: Path) -> None:
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)", (makefile / "Makefile").read_text(), re.MULTILINE)
    assert phony
    targets = phony[1].replace("\\\n", " ").split()
    lines = make(makefile, "help").stdout.splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(targets)
    assert all(len(line) <= 120 and len(line.split()) > 2 for line in lines)


def test_make_ui_of_a_server_says_where_it_is(makefile: Path) -> None:
    result = make(makefile, "ui", MLFLOW_TRACKING_URI="http://ada:secret@mlflow.example.org:5000")
    assert result.returncode == 0 and "http://mlflow.example.org:5000" in result.stdout
    assert "secret" not in result.stdout + result.stderr


@pytest.mark.parametrize("name", ["q?uestion", "per%20cent"])
def test_a_folder_that_no_store_can_be_in_is_refused(name: str, makefile: Path) -> None:
    folder = makefile / name
    folder.mkdir()
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(makefile / file, folder)
    result = make(folder, "setup", PYTHON="false")
    assert result.returncode == 2 and "error: expected a folder without ? and % in its path" in result.stderr
    assert not (folder / ".venv").exists()


def test_no_tracked_file_is_large() -> None:
    """Every clone has all that ever was committed. The episodes behind the pages may be larger: they rarely change."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    sizes = {name: (ROOT / name).stat().st_size for name in listed.split("\0") if (ROOT / name).is_file()}
    most = {name: (6 if name.startswith("docs/episodes/") else 1) * 2**20 for name in sizes}
    assert sizes and {name for name, size in sizes.items() if size > most[name]} == set()


def test_make_study_keeps_tracked_files(makefile: Path) -> None:
    """They are renewed by `make results` alone, or all later runs would be of changed code."""
    said = {target: make(makefile, "-n", target).stdout for target in ("run", "study", "baselines", "results")}
    assert ["renew_results" in text for text in said.values()] == [False, False, False, True]


def test_activate_names_the_store_until_deactivate(makefile: Path) -> None:
    """In a path that needs quoting; a store that the user has named stays."""
    folder = makefile / "t e s t ü"
    folder.mkdir()
    shutil.copytree(makefile, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(folder.name))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    steps = make(folder, "--dry-run", "--always-make", ".venv/bin/.installed").stdout
    for _ in range(2):
        subprocess.run(["sh", "-c", steps[steps.index("grep -q 'added by") :]], cwd=folder, check=True)
    show = 'echo "$MLFLOW_TRACKING_URI,$MLFLOW_EXPERIMENT_NAME"'
    activate = "source .venv/bin/activate"
    said = f"{activate}; {show}; deactivate; {show}; export MLFLOW_TRACKING_URI=mine; {activate}; {show}"
    shell = subprocess.run(["bash", "-c", said], cwd=folder, env=environment(), capture_output=True, text=True)
    assert shell.stdout.splitlines() == [f"sqlite:///{folder}/mlruns/mlflow.db,tinypi", ",", "mine,tinypi"]


def test_what_is_imported_is_declared() -> None:
    """No package is used because another one happens to bring it."""
    groups = [PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"].values()]
    declared = {re.split(r"[\[=]", entry)[0].lower() for group in groups for entry in group} - {"tinypi"}
    trees = [ast.parse(path.read_text()) for room in ("pipeline", "train") for path in (ROOT / room).rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    packages = {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"pipeline", "train"}
    owners = packages_distributions()
    assert len(packages) > 15
    assert not {name for name in packages if not declared & {owner.lower() for owner in owners[name]}}


def test_readme_names_what_exists() -> None:
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"`make (\w+)`", text):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
    for path in re.findall(r"\]\((?!http|#)([^)]+)\)", text):
        assert (ROOT / path).exists(), path
    for name in ENTRY_POINTS:
        assert f"`{name}`" in text


def test_importing_settings_is_light() -> None:
    """`--help` and bad settings answer before torch and MLflow are loaded."""
    heavy = "{'torch', 'mlflow', 'matplotlib'}"
    code = f"import sys, pipeline.cli.main, pipeline.cli.train; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
