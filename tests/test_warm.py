"""Forks in place of new interpreters: to who starts them, they are `python`."""

import subprocess
import sys
import time
from pathlib import Path

from tests import warm
from tests.conftest import ROOT, environment
from tests.fork import WORKER

SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
SPAWN = """
import multiprocessing, os, signal, time
spawn = multiprocessing.get_context("spawn")
ends, sleeps = spawn.Process(target=os._exit, args=(7,)), spawn.Process(target=time.sleep, args=(60,))
ends.start(), sleeps.start(), ends.join()
os.kill(sleeps.pid, signal.SIGKILL), sleeps.join()
print(ends.exitcode, sleeps.exitcode)
"""


def start(code: str) -> tuple[subprocess.Popen[str], int]:
    """A program that sleeps, and the process id of its fork."""
    process = subprocess.Popen([warm.python(), "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_words_files_folder_and_exit_code_are_those_of_who_starts_it(tmp_path: Path) -> None:
    code = "import os, sys; print(sys.argv, sys.stdin.read(), os.getcwd(), os.environ['A']); sys.exit('no')"
    found = subprocess.run(
        [warm.python(), "-c", code, "a b"], cwd=tmp_path, env={"A": "x"}, input="y", capture_output=True, text=True
    )
    assert found.stdout == f"['-c', 'a b'] y {tmp_path} x\n" and (found.stderr, found.returncode) == ("no\n", 1)
    (tmp_path / "script.py").write_text("import sys; print(__name__, sys.argv); 1 / 0")
    found = subprocess.run([warm.python(), "script.py", "-m"], cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout == "__main__ ['script.py', '-m']\n" and found.returncode == 1
    assert found.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_signals_reach_it_and_it_dies_with_the_program() -> None:
    process, _ = start(SLEEP)
    process.terminate()
    assert process.wait(20) == -15
    process, fork = start(SLEEP)
    process.kill()
    assert process.wait(20) == -9
    end = time.monotonic() + 20
    while Path(f"/proc/{fork}").exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_has_our_modules_if_it_would_import_those(tmp_path: Path) -> None:
    code = "import sys; known = 'pipeline.config' in sys.modules; import pipeline; print(known, pipeline.__file__)"
    found = warm.run(tmp_path, ["-c", code], environment())
    assert found.stdout == f"True {ROOT}/pipeline/__init__.py\n", found.stderr
    other = tmp_path / "pipeline" / "__init__.py"
    other.parent.mkdir()
    other.touch()
    assert warm.run(tmp_path, ["-c", code], environment()).stdout == f"False {other}\n"


def test_its_surroundings_are_its_own(tmp_path: Path) -> None:
    code = "import os; from pipeline.cli.console import OUT; "
    code += "print(OUT.width, OUT.no_color, os.environ['GIT_PYTHON_REFRESH'])"
    for width, more in ((33, {}), (77, {"NO_COLOR": "1"})):
        found = warm.run(tmp_path, ["-c", code], environment(COLUMNS=str(width), **more))
        assert found.stdout == f"{width} {bool(more)} quiet\n", found.stderr


def test_what_a_worker_of_pytest_starts_is_a_new_interpreter(tmp_path: Path) -> None:
    code = "import sys; print(sys.executable)"
    assert warm.run(tmp_path, [WORKER, "-c", code], environment()).stdout == f"{sys.executable}\n"
    assert warm.run(tmp_path, ["-c", code], environment()).stdout == f"{warm.python()}\n"


def test_what_it_spawns_has_the_process_id_that_both_know(tmp_path: Path) -> None:
    found = warm.run(tmp_path, ["-c", SPAWN], environment())
    assert found.stdout == "7 -9\n", found.stderr
