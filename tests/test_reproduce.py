"""A run is trained again from its record in MLflow; differences are named."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.pairs import ActionPairs, load_action_pairs, save_action_pairs
from pipeline.upkeep.reproduce import lock_differences
from tests import warm
from tests.conftest import Run, mlflow_command, put_store, runs_of, store

SMALL = ("--epochs", 2, "--width", 16, "--layers", 1, "--seed", 3)


@pytest.mark.slow(seconds=12)
@pytest.mark.usefixtures("with_store")
@pytest.mark.parametrize("module", ["train_pi0", pytest.param("train_pi0_fast", marks=pytest.mark.long)])
def test_a_run_is_reproduced_to_the_bit(run: Run, run_anew: Run, workplace: Path, module: str) -> None:
    assert run(f"train.{module}", *SMALL).returncode == 0
    (made,) = runs_of(workplace)
    result = run_anew("pipeline", "reproduce", made.info.run_id)
    assert result.returncode == 0 and "match bit for bit" in result.stdout, result.stderr
    assert result.stdout.count(made.data.tags["weights_sha256"]) == 2 and "other " not in result.stdout
    assert len(runs_of(workplace)) == 1  # it leaves nothing
    for device in ("mps", "toaster"):  # it is not trained again on whatever there is
        store(workplace).set_tag(made.info.run_id, "device", device)
        result = run("pipeline", "reproduce", made.info.run_id)
        assert result.returncode == 2 and f"trained on {device}. Reproduce it where there is one." in result.stderr
    store(workplace).set_tag(made.info.run_id, "device", "cpu")
    settings = store(workplace).download_artifacts(made.info.run_id, "settings.json", str(workplace))
    own = json.dumps(json.loads(Path(settings).read_text()) | {"task": "evil.py:TASK"})
    (workplace / "evil.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    for name, content in (
        ("lock.json", "{}"), ("settings.json", '{"lr": '), ("settings.json", "[1]"), ("settings.json", own)
    ):  # fmt: skip
        (file,) = (workplace / "mlruns").rglob(f"{made.info.run_id}/artifacts/{name}")
        file.write_text(content)
        result = run("pipeline", "reproduce", made.info.run_id)
        said = "is of your own task 'evil.py:TASK': name it by --task" if content == own else f"error: {name} of "
        assert result.returncode == 2 and said in result.stderr, "what a record names is not run"
        assert result.stderr.count("\n") == 1
    assert not (workplace / "ran").exists()


@pytest.mark.usefixtures("with_store")
def test_other_data_are_named(run: Run, workplace: Path, data: Path) -> None:
    found = load_action_pairs(data / "training_pairs_original.npz")
    mine = workplace / "mine.npz"
    save_action_pairs(mine, found)
    assert run("train.train_pi0", *SMALL, "--pairs", mine).returncode == 0
    (made,) = runs_of(workplace)
    chunks = found.action_chunk + np.float32(0.01)
    save_action_pairs(mine, ActionPairs(found.state, chunks, found.trajectory, found.step, found.metadata))
    result = run("pipeline", "reproduce", made.info.run_id)
    assert result.returncode == 1 and "note: data file has changed" in result.stdout
    assert result.stderr.startswith("error: run ") and "changed since then: data file. " in result.stderr


@pytest.mark.usefixtures("with_store")
def test_what_cannot_be_reproduced_is_refused(run: Run, workplace: Path) -> None:
    for words, message in (((), "Missing argument"), (("nowhere",), "expected a run of this store")):
        result = run("pipeline", "reproduce", *words)
        assert result.returncode == 2 and message in result.stderr


def test_locks_are_compared() -> None:
    then = {
        "processor": "one", "code": {"sha256": "a" * 64, "commit": "c", "tree": "clean"}, "data": {"data": "d" * 64},
        "versions": {"python": "3.11", "platform": "p", "machine": "m"}, "packages": {"torch": "1", "gone": "2"},
        "command": ["x"],
    }  # fmt: skip
    now = then | {"processor": "two", "packages": {"torch": "1", "new": "3"}, "command": ["y"]}
    assert lock_differences(then, then) == ()
    assert lock_differences(then, now) == (
        ("processor", "one", "two"),
        ("package gone", "2", "absent"),
        ("package new", "absent", "3"),
    )


@pytest.mark.slow(seconds=12)
def test_what_mlflow_run_has_started_ends_with_it(workplace: Path) -> None:
    put_store(workplace)
    command, env = mlflow_command(workplace)  # what it starts is a new interpreter, and its child
    process = warm.Command(workplace, [*command[1:], "-e", "train_pi0", "-P", "epochs=100000"], env)
    while not re.search("^ +1 ", process.printed(), re.MULTILINE):
        assert process.returncode is None, "the training ended by itself"
        time.sleep(0.05)
    (child,) = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    while Path(f"/proc/{child}").exists() and time.monotonic() - begun < 60:
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists()
    process.communicate(timeout=20)
    (killed,) = store(workplace).search_runs(["0"])
    assert killed.info.status == "KILLED"
