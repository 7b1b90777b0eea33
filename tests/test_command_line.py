"""The command line as people and scripts use it: help, completion, quiet and verbose, colours, exit codes, info."""

import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.cli import main as cli
from pipeline.cli.command import BARE
from pipeline.cli.main import COMMANDS, main
from pipeline.cli.options import CHOSEN, bounds_of
from pipeline.cli.train import train_command
from pipeline.config import ARGUMENT, FLAGS, fields_of, make
from pipeline.methods.settings import BinningSettings, Pi0FastSettings, Pi0Settings, RegressionSettings
from pipeline.stages.settings import PlaySettings, TokenizeSettings
from pipeline.tracking import query
from pipeline.upkeep.info import describe_studies
from tests import warm
from tests.conftest import Run, environment, store

TRAIN = {
    f"train_{name}": train_command(name, kind)
    for name, kind in {
        "pi0": Pi0Settings,
        "pi0_fast": Pi0FastSettings,
        "regression": RegressionSettings,
        "binning": BinningSettings,
    }.items()
}
ALL = COMMANDS.commands | TRAIN
TINYPI = Path(sys.executable).with_name("tinypi")
ESCAPE = "\x1b"


def help_of(name: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    words = [name, "--help"] if name in COMMANDS.commands else ["--help"]
    assert main(TRAIN.get(name, COMMANDS), words) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", [*ALL, ""])
def test_help_teaches(
    name: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(name, columns, capsys, monkeypatch)
    assert max(map(len, text.splitlines())) <= min(columns, 100)
    assert ESCAPE not in text
    codes = "Exit codes: 0 done; 1 a run that was started failed; 2 bad input, nothing was started; 130 interrupted."
    assert codes in " ".join(text.split())
    if not name:
        firsts = [" ".join(command.help.split("\n\n")[0].split()) for command in COMMANDS.commands.values()]
        assert all(first in " ".join(text.split()) for first in firsts)  # nothing is cut
        assert all(re.search(rf"^  {each} +\w", text, re.MULTILINE) for each in COMMANDS.commands)
        return
    for field, info in fields_of(ALL[name].settings_type).items():
        flags = info.json_schema_extra in (ARGUMENT, FLAGS)
        assert flags or re.search(rf"^  --{field.replace('_', '-')} ?[\w|]*", text, re.MULTILINE), field
        assert flags or f"--{field}" in text or "_" in field
    assert not re.search(r" --\w+_", text)  # each in one spelling
    assert "Undefined" not in text
    assert text.count("[required]") == sum(
        info.is_required()
        for info in ALL[name].settings_type.model_fields.values()
        if info.json_schema_extra not in (ARGUMENT, FLAGS)
    )
    assert "--quiet" in text and "--verbose" in text and "\nExamples:\n" in text


@pytest.mark.parametrize("name", list(ALL))
def test_examples_are_commands_that_are_taken(name: str) -> None:
    command = ALL[name]
    assert 1 <= len(command.examples) <= 3
    for example in command.examples:
        words = shlex.split(example.split(" > ")[0])
        if name not in TRAIN:
            assert words.pop(0) == name
        context = command.make_context(name, words, obj={})
        values = {field.removesuffix(BARE): value for field, value in context.params.items() if value not in (None, ())}
        given = {field: value for field, value in values.items() if field not in command.shorthands}
        assert make(command.settings_type, given | context.obj.get(CHOSEN, {}))


@pytest.mark.parametrize(
    ("words", "act", "files"),
    [
        ("A.pth --act start_noise=1", ("start_noise=1",), ("A.pth",)),
        ("--act start_noise=1 A.pth B.pth", ("start_noise=1",), ("A.pth", "B.pth")),
        ("--act start_noise=1 flow_steps=2 A.pth", ("start_noise=1", "flow_steps=2"), ("A.pth",)),
        ("--checkpoint A.pth B.pth --act start_noise=1", ("start_noise=1",), ("A.pth", "B.pth")),
    ],
)
def test_options_and_files_may_be_in_any_order(words: str, act: tuple[str, ...], files: tuple[str, ...]) -> None:
    command = ALL["evaluate"]
    given = command.make_context("evaluate", shlex.split(words), obj={}).params
    assert given["act"] == act and (given["checkpoint" + BARE] or given["checkpoint"]) == files


def test_bounds_are_said_shortly() -> None:
    fields = Pi0Settings.model_fields | PlaySettings.model_fields | TokenizeSettings.model_fields
    names = ("replan", "ema", "lr", "episode", "run_name", "grad_clip", "scale")
    found = {name: bounds_of(fields[name]) for name in names}
    assert found == {"replan": "1 to 1,000", "ema": "0 to < 1", "lr": "> 0 to 1", "episode": "0 to < 1,000,000",
                     "run_name": "", "grad_clip": "> 0 to 1,000,000", "scale": "1e-6 to 10,000"}  # fmt: skip


def completed(*words: str) -> list[str]:
    """What a real bash offers after these words, by the script that we print."""
    code = (
        f"source <({shlex.quote(str(TINYPI))} completion bash); COMP_WORDS=({shlex.join(words)}); "
        f"COMP_CWORD={len(words) - 1}; _tinypi_completion tinypi; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    path = f"{TINYPI.parent}:{os.environ['PATH']}"
    result = subprocess.run(["bash", "-c", code], env=environment(PATH=path), capture_output=True, text=True)
    assert result.returncode == 0 and not result.stderr, result.stderr
    return result.stdout.split()


def test_bash_completes_commands_options_and_choices() -> None:
    assert set(completed("tinypi", "")) == set(COMMANDS.commands)
    assert completed("tinypi", "pla") == ["play", "plan"]
    assert completed("tinypi", "play", "--act") == ["--action-noise", "--act"]
    assert completed("tinypi", "ensemble", "--schedule", "c") == ["cosine", "constant"]
    assert completed("tinypi", "completion", "") == ["bash", "zsh", "fish"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_a_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(COMMANDS, ["completion", shell]) == 0
    assert "_TINYPI_COMPLETE" in capsys.readouterr().out
    assert main(COMMANDS, ["completion", "csh"]) == 2
    assert "expected 'bash', 'zsh' or 'fish', found 'csh'" in capsys.readouterr().err


def test_the_script_and_the_module_are_one() -> None:
    for words in (["report", "--nothing"], ["play"]):
        found = [
            subprocess.run([*program, *words], capture_output=True, text=True)
            for program in ([str(TINYPI)], [sys.executable, "-m", "pipeline"])
        ]
        assert found[0].returncode == found[1].returncode == 2 and found[0].stderr == found[1].stderr


@pytest.mark.usefixtures("with_store")
def test_quiet_prints_results_only(run: Run, workplace: Path) -> None:
    result = run("pipeline", "collect", "--trajectories", 30, "--out", "own", "-q")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "own/trajectories.npz\nown/training_pairs_original.npz\nown/dataset.json\n"
    result = run("train.train_pi0", "--epochs", 1, "--width", 16, "--layers", 1, "--quiet")
    assert result.returncode == 0 and re.fullmatch(r"train/trained_models/tinypi0_\w+\.pth\n", result.stdout)
    assert (workplace / result.stdout.strip()).is_file() and "epoch" not in result.stderr
    result = run("pipeline", "evaluate", "-q")
    assert result.returncode == 2 and result.stdout == "" and result.stderr.startswith("error: ")


@pytest.mark.usefixtures("with_store")
def test_verbose_says_what_is_used_and_when(run: Run) -> None:
    plain = run("pipeline", "collect", "--trajectories", 30, "--out", "own")
    result = run("pipeline", "collect", "--trajectories", 30, "--out", "own", "--verbose")
    assert result.stdout == plain.stdout and plain.stderr == ""
    said = [re.fullmatch(r"\[ *(\d+) ms\] (.+)", line) for line in result.stderr.splitlines()]
    times, lines = [int(line[1]) for line in said], [line[2] for line in said]
    assert times == sorted(times)
    assert lines[0] == "settings: task=pendulum, horizon=0, trajectories=30, seed=0, plots=0, threads=0, out=own"
    assert "torch 2.13.0" in lines[1] and lines[2].startswith("code: commit ") and lines[3].startswith("store: sqlite:")
    assert lines[4:] == ["30 demonstrations simulated and checked", "trajectories and pairs written"]


def test_a_command_forgets_how_loud_the_last_one_was(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in (["-q"], ["-v"], []):
        assert main(COMMANDS, ["info", *more]) == 0
        out, err = capsys.readouterr()
        assert ("disk" in out) == (more != ["-q"]) and bool(err) == (more == ["-v"])


def on_a_terminal(*words: str, **env: str) -> str:
    """What a command writes to a terminal."""
    master, slave = pty.openpty()
    settings = environment(TERM="xterm-256color", **env)
    with subprocess.Popen(
        [warm.python(), "-m", "pipeline", *words], stdout=slave, stderr=slave, env=settings
    ) as process:
        os.close(slave)
        written = b""
        while True:
            try:
                written += (part := os.read(master, 4096))
            except OSError:  # how Linux tells of the other end's closing
                break
            if not part:
                break
    os.close(master)
    assert process.returncode == 0
    return written.decode()


def test_colours_are_for_terminals_that_want_them(workplace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    assert f"{ESCAPE}[1m" in on_a_terminal("info")
    assert ESCAPE not in on_a_terminal("info", NO_COLOR="1")
    assert ESCAPE not in run("pipeline", "info").stdout


def test_a_reader_that_leaves_early_is_no_error() -> None:
    with subprocess.Popen(
        [str(TINYPI), "completion", "zsh"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 1


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("trian", "train.train_pi0"),
        ("train_pi0", "train.train_pi0"),
        ("repotr", "Did you mean 'report'?"),
        ("xyz", "See --help."),
    ],
)
def test_a_word_like_a_command_has_a_hint(word: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(cli.COMMANDS, [word]) == 2
    errors = capsys.readouterr().err
    assert f"expected a command, found '{word}'." in errors and hint in errors


def test_exit_codes(workplace: Path) -> None:
    """0, 2 and 130 here; 1 is a failed run, as tests of runs that fail show."""
    assert cli.EXIT_FAILED == 1

    def start(*words: str) -> subprocess.Popen[str]:
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        return subprocess.Popen([str(TINYPI), *words], env=environment(), text=True, **streams)

    with start("completion", "bash") as process:
        assert process.wait() == 0
    for words in (["play"], ["nothing"], []):
        with start(*words) as process:
            assert process.communicate()[1] and process.returncode == 2
    silent = socket.create_server(("127.0.0.1", 0))
    with silent:
        words = ["-m", "pipeline", "play", "--policy", f"http://127.0.0.1:{silent.getsockname()[1]}"]
        player = warm.Command(workplace, words, environment())
        connection, _ = silent.accept()  # it waits for the first plan now
        time.sleep(0.1)
        player.send_signal(signal.SIGINT)
        assert player.communicate()[1] == "error: interrupted\n" and player.returncode == 130  # play starts no run
        connection.close()


@pytest.mark.usefixtures("with_store")
def test_info_tells_two_studies_of_one_name_apart(workplace: Path) -> None:
    client = store(workplace)
    for experiment in ("first", "second"):
        home = client.create_experiment(experiment)
        client.create_run(home, tags={"kind": "study", "study": "mine"})
        tags = {"study": "mine", "group": f"pi0 of {experiment}", "method": "pi0", "name": "x", "weights_sha256": "0"}
        model = client.create_run(home, tags=tags).info.run_id
        client.log_param(model, "seed", 0)
        client.set_terminated(model)
    runs = query.search(client)
    assert describe_studies(query.experiments_of(client, runs), runs).splitlines() == [
        f"mine of {name}: 1 pi0 of {name}; 0 of 1 evaluated" for name in ("first", "second")
    ]


def test_info_of_an_empty_folder_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(COMMANDS, ["info"]) == 0
    text = capsys.readouterr().out
    assert "none in data/" in text and "not there yet" in text and "python -m pipeline collect" in text
    assert not list(tmp_path.iterdir())


@pytest.mark.slow(seconds=6)
@pytest.mark.usefixtures("with_store")
def test_info_says_what_is_here(run: Run, workplace: Path) -> None:
    words = ["--study", "trial", "--n-models", 1, "--methods", "regression", "--episodes", 2, "--epochs", 1]
    made = run("pipeline", "ensemble", *words, "--width", 16, "--layers", 1, "--executor", "serial", "--quiet")
    assert made.returncode == 0 and all(Path(line).is_file() for line in made.stdout.splitlines())
    (workplace / "train" / "trained_models" / "a.onnx").touch()
    before = {path: path.stat().st_mtime for path in workplace.rglob("*") if path.is_file()}
    text = run("pipeline", "info").stdout
    assert "action_chunk (1500, 50)" in text and "states (60, 100, 4)" in text and "fast_tokenizer.json" in text
    assert "runs        regression: 1 finished" in text
    assert "trial: 1 regression; 1 of 1 evaluated" in text and "exported    1 models" in text
    assert re.search(r"^next +python -m pipeline report$", text, re.MULTILINE)
    assert {path: path.stat().st_mtime for path in workplace.rglob("*") if path.is_file()} == before


def test_info_goes_on_without_the_store_and_with_damaged_data(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").unlink()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "training_pairs_original.npz").write_bytes(b"PK damaged")
    result = run("pipeline", "info", env={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    assert result.returncode == 0
    assert "cannot be read" in result.stdout and "http://127.0.0.1:9, does not answer" in result.stdout
