"""Printing fails nothing that is done: whatever the encoding of the output, and where there is none."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT, environment

SAY = (
    "import sys; from pipeline.cli.console import OUT, be_normal; be_normal(); "
    "OUT.print('\\u00b10.03'); print(sys.argv[1])"
)
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NAME = "dätä".encode()
OPEN = (
    "import os, sys; from pipeline.cli.console import be_normal; be_normal(); print('lost'); sys.stdout.flush(); "
    "assert os.fstat(1).st_rdev == os.stat(os.devnull).st_rdev, 'a file that is opened now could get these lines'"
)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"PYTHONIOENCODING": "utf-8"}, "±0.03\n".encode() + NAME + b"\n"),
        ({"PYTHONIOENCODING": "ascii"}, rb"\xb10.03" + b"\n" + rb"d\xe4t\xe4" + b"\n"),
        (C_LOCALE, rb"\xb10.03" + b"\n" + NAME + b"\n"),  # a file's name whose bytes are no text there
    ],
)
def test_text_beyond_the_encoding_is_printed(env: dict[str, str], expected: bytes) -> None:
    command = [sys.executable, "-c", SAY, NAME]
    found = subprocess.run(command, env=environment(**env), cwd=ROOT, capture_output=True, timeout=60)
    assert (found.returncode, found.stdout, found.stderr) == (0, expected, b"")


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", ">&- 2>&-"])
@pytest.mark.parametrize("words", ["-c CODE", "-m pipeline completion bash"])
def test_without_outputs_commands_end_as_with_them(closed: str, words: str) -> None:
    line = f'exec "$0" {words.replace("CODE", chr(34) + "$1" + chr(34))} {closed}'
    command = ["sh", "-c", line, sys.executable, OPEN]
    found = subprocess.run(command, env=environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (found.returncode, found.stderr) == (0, "")
