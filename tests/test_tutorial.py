"""The tutorial's commands run, one after another in a fresh folder, and print what it shows (the numbers aside)."""

import re
import subprocess
from pathlib import Path

import pytest

from tests import warm
from tests.conftest import ROOT, environment, put_store

TEXT = (ROOT / "docs" / "tutorial.md").read_text()
FEWER = {
    "collect": "collect --trajectories 60",
    "ensemble": "ensemble --executor serial",
    'width=32" --n-models 3': 'width=32" --n-models 2',
    "--episodes 20": "--episodes 2",
    "--epochs 1": "--epochs 1 --layers 1 --width 16",
}
MARK = "=== block"
LEFT_OUT = "[...]"  # lines that the page leaves out


def label(line: str) -> str:
    """What stands first in a line, without the numbers: those depend on data, time and place."""
    return re.sub(r"[0-9a-f]{16,}|[\d.,+-]+", "#", re.split(r"  +|: ", line.strip())[0])


def call(folder: Path, line: str) -> str:
    """What a line of the shell's prints: bash expands its words, and a fork runs its `python`."""
    words = ["bash", "-euo", "pipefail", "-c", f"printf '%s\\0' {line}"]
    expanded = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout.split("\0")
    assert expanded[0] == "python", line
    done = warm.run(folder, expanded[1:-1], environment(COLUMNS="110"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return done.stdout


@pytest.mark.slow(seconds=40)
def test_every_command(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(bash|text)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    commands = [text for language, text in blocks if language == "bash"]
    assert len(commands) >= 6 and commands[0].startswith("python -m pipeline collect")
    script = "".join(f"{MARK}\n{command}" for command in commands)
    for shown, smaller in FEWER.items():
        assert shown in script
        script = script.replace(shown, smaller)
    put_store(tmp_path)

    printed = ["".join(call(tmp_path, line) for line in block.splitlines() if line) for block in script.split(MARK)[1:]]
    number = -1
    for language, text in blocks:
        if language == "bash":
            number += 1
            continue
        real = {label(line) for line in printed[number].splitlines()}
        missing = {label(line) for line in text.splitlines() if line != LEFT_OUT} - real
        assert not missing, printed[number]
