"""The tutorial's commands run, one after another in a fresh folder, and print what it shows (the numbers aside)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment

TEXT = (ROOT / "docs" / "tutorial.md").read_text()
FEWER = {"collect": "collect --trajectories 60", "--episodes 20": "--episodes 2"}  # all that follows is quick then
MARK = "=== block"
LEFT_OUT = "[...]"  # lines that the page leaves out


def label(line: str) -> str:
    """What stands first in a line, without the numbers: those depend on data, time and place."""
    return re.sub(r"[0-9a-f]{16,}|[\d.,+-]+", "#", re.split(r"  +", line.strip())[0])


@pytest.mark.slow
def test_every_command(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(bash|text)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    commands = [text for language, text in blocks if language == "bash"]
    assert len(commands) >= 6 and commands[0].startswith("python -m pipeline collect")
    script = "".join(f"echo '{MARK}'\n{command}" for command in commands)
    for shown, smaller in FEWER.items():
        assert shown in script
        script = script.replace(shown, smaller)
    env = environment(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", COLUMNS="110")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr

    printed = done.stdout.split(MARK)[1:]
    number = -1
    for language, text in blocks:
        if language == "bash":
            number += 1
            continue
        real = {label(line) for line in printed[number].splitlines()}
        missing = {label(line) for line in text.splitlines() if line != LEFT_OUT} - real
        assert not missing, printed[number]
