"""The project's own files agree: settings, MLproject, command lines, conda.yaml, rooms."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import click
import pytest
import yaml

from pipeline import config
from pipeline.cli import main as cli
from pipeline.cli.options import settings_command
from pipeline.cli.train import train_command
from pipeline.methods.settings import BinningSettings, Pi0FastSettings, Pi0Settings, RegressionSettings
from pipeline.stages.settings import CollectSettings, TokenizeSettings
from pipeline.studies.settings import EnsembleSettings, shorthands
from tests.conftest import ROOT

MLPROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENTRY_POINTS = {
    "collect": ("pipeline collect", CollectSettings),
    "tokenize": ("pipeline tokenize", TokenizeSettings),
    "ensemble": ("pipeline ensemble", EnsembleSettings),
    "train_pi0": ("train.train_pi0", Pi0Settings),
    "train_pi0_fast": ("train.train_pi0_fast", Pi0FastSettings),
    "train_regression": ("train.train_regression", RegressionSettings),
    "train_binning": ("train.train_binning", BinningSettings),
    "main": ("train.train_pi0", Pi0Settings),
}


def test_entry_points_are_all_here() -> None:
    assert MLPROJECT["name"] == PYPROJECT["project"]["name"] == "tinypi"
    assert set(MLPROJECT["entry_points"]) == set(ENTRY_POINTS)


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
        assert fields[field].description and (field == "set" or str(fields[field].default) in option.help)


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
    pinned = next(entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict))
    assert pinned == PYPROJECT["project"]["dependencies"]
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert extras["dev"][0] == "tinypi[export,server]"
    everything = [*pinned, *extras["export"], *extras["server"], *extras["dev"][1:]]
    assert all(re.fullmatch(r"[\w.\-]+(\[\w+\])?==[\w.]+", entry) for entry in everything)
    assert PYPROJECT["project"]["requires-python"] == ">=3.11"
    assert "python=3.11.7" in conda["dependencies"]


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
