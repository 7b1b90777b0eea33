"""The tutorial's commands run, one after another in a fresh folder, and print what it shows (the numbers aside)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment

TEXT = (ROOT / "docs" / "tutorial.md").read_text()
SMALLER = "--trajectories 60"  # instead of 4,000: all that follows is quick then
MARK = "=== block"


def words_of(line: str) -> list[str]:
    """The words of a line that do not depend on data, time and place."""
    return [word for word in re.findall(r"[^\s]+", line) if re.fullmatch(r"[A-Za-z|(),:;]+", word)]


@pytest.mark.slow
def test_every_command(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(bash|text)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    commands = [text for language, text in blocks if language == "bash"]
    assert len(commands) >= 6 and commands[0].startswith("python -m pipeline collect")
    script = "".join(f"echo '{MARK}'\n{command}" for command in commands).replace("collect", f"collect {SMALLER}", 1)
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
        for line in filter(None, map(str.strip, text.splitlines())):
            shown = words_of(line)
            assert any(shown == words_of(real)[: len(shown)] for real in printed[number].splitlines()), line
