"""Jobs on Ray with real processes: as on the pool, with files that go to workers and come back; what is refused."""

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
import torch
from filelock import Timeout

from pipeline.cli.main import COMMANDS, main
from pipeline.config import make
from pipeline.errors import RunError, SettingsError
from pipeline.executors import cluster, run
from pipeline.executors.cluster import joining
from pipeline.executors.job_files import InputFile, JobFolder, KeptFiles, digest_of, unpack
from pipeline.executors.jobs import ATTEMPTS, Done, Failed, Job, Planned, Report, Resources, Running
from pipeline.executors.on_ray import SEND_SECONDS, Mailbox, run_jobs
from pipeline.executors.run import machines_of, require_room, run_all
from pipeline.files import arrays_digest
from pipeline.locks import file_lock
from pipeline.methods.registry import METHODS
from pipeline.own_code import files_of
from pipeline.streams import global_torch_stream
from pipeline.studies.groups import device_for, plan_groups, together_groups
from pipeline.studies.settings import EnsembleSettings
from pipeline.tracking.mirror import KEPT_AT, reserve
from pipeline.tracking.owner import journal_place
from pipeline.training.fit import Epoch, fit, problem_of
from tests.conftest import ROOT
from tests.test_pool import always_fail, square

JOURNAL = Path("mlruns/journals/run")


def go_on_where_it_broke_off(report: Report) -> str:
    """Write what is kept of a run, and be killed; the second attempt finds it, and cleans up as a finished run does."""
    seen = Path("kept/snapshot").read_text() if Path("kept/snapshot").exists() else ""
    JOURNAL.mkdir(parents=True, exist_ok=True)
    with file_lock(JOURNAL / "lock"):
        (JOURNAL / "about").write_text("a run")
        Path("kept").mkdir(exist_ok=True)
        Path("kept/snapshot").write_text(f"{seen}{Path('data/input').read_text()}{os.environ['OURS']}")
        time.sleep(SEND_SECONDS + 0.1)
        report(0.5)
        if not seen:
            time.sleep(SEND_SECONDS + 0.1)
            os.kill(os.getpid(), signal.SIGKILL)
        (JOURNAL / "about").unlink()
        (JOURNAL / "lock").unlink()
        JOURNAL.rmdir()
    return f"{Path('kept/snapshot').read_text()} in {Path.cwd().parent.name}"


def what_it_got(report: Report) -> dict[str, float]:
    """The cores and GPUs that Ray has assigned to this job."""
    import ray

    got = ray.get_runtime_context().get_assigned_resources()
    return {name: got.get(name, 0.0) for name in ("CPU", "GPU")}


def train_one(data: Path, report: Report) -> str:
    """The digest of the weights of a small model."""
    torch.set_num_threads(1)
    method = METHODS["regression"]
    values = {"pairs": data / "training_pairs_original.npz", "epochs": 1, "width": 16, "layers": 1, "batch_size": 200}
    settings = make(method.settings_type, values)
    prepared = method.prepare(settings)
    with global_torch_stream(settings.seed, "weights"):
        network = method.build(settings, prepared.interface)
    events = fit(problem_of(method, network, prepared, settings), settings)
    weights = [event.weights for event in events if isinstance(event, Epoch) and event.weights]
    return arrays_digest({name: tensor.numpy() for name, tensor in weights[-1].items()})


def wait_for_interrupt(report: Report) -> None:
    try:
        while True:
            time.sleep(0.1)
            report(0.1)
    except KeyboardInterrupt:
        Path("cleaned up").write_text("yes")
        raise


def is_held(path: Path) -> bool:
    try:
        file_lock(path, timeout=0).acquire().lock.release()
    except Timeout:
        return True
    return False


@pytest.mark.slow(seconds=15)
def test_jobs_fail_go_on_and_are_interrupted_as_on_the_pool(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the functions of this file
    Path("data").mkdir()
    Path("data/input").write_text("7")
    jobs = [
        Job("goes on", "x", go_on_where_it_broke_off, files=(Path("data/input"),)),
        Job("never", "x", always_fail),
        *(Job(f"fine {n}", "x", partial(square, n)) for n in range(4)),
        Job("large", "x", what_it_got, Resources(2, 1)),
        Job("a training", "x", partial(train_one, data)),
    ]
    monkeypatch.setattr(ray, "init", partial(ray.init, num_gpus=1))  # a machine that says that it has a GPU
    monkeypatch.setattr(run, "ROOM_SECONDS", 0.5)
    before = signal.getsignal(signal.SIGTERM)
    held = []
    with joining("local", 2, shares=False, environment={"OURS": "!"}):
        assert signal.getsignal(signal.SIGTERM) == before
        a_study_uses_what_the_machines_have()
        events = []
        for event in run_jobs(jobs, workers=2):
            events.append(event)
            if isinstance(event, Running) and event.fractions.get(0) == 0.5:
                held.append(is_held(JOURNAL / "lock"))
            if isinstance(event, Failed) and event.number == 0:
                assert not is_held(JOURNAL / "lock") and Path("kept/snapshot").read_text() == "7!"
        waiting = run_jobs([Job("waits", "x", wait_for_interrupt)], workers=1)
        for event in waiting:
            if isinstance(event, Running) and event.fractions.get(0):
                break
        waiting.close()
    assert events[0] == Planned(tuple(job.name for job in jobs), ("x",) * 8, 2)
    done = {event.number: event.result for event in events if isinstance(event, Done)}
    squares = {number + 2: number * number for number in range(4)}
    here = train_one(data, lambda _share: None)
    assert done == {0: "7!7! in jobs", **squares, 6: {"CPU": 2.0, "GPU": 1.0}, 7: here}
    failed = [(event.number, event.reason, event.final) for event in events if isinstance(event, Failed)]
    assert [each for each in failed if each[0] == 1] == [(1, "no good", n == ATTEMPTS) for n in (1, 2)]
    assert [each for each in failed if each[0] == 0] == [
        (0, "its process, or the machine that it was on, is gone", False)
    ]
    assert events[-1] == Running({})
    assert held and all(held) and not JOURNAL.exists() and Path("kept/snapshot").read_text() == "7!7!"
    assert Path("cleaned up").read_text() == "yes"


def a_study_uses_what_the_machines_have() -> None:
    """On a cluster that says to have a GPU, given from a machine that has none."""
    assert machines_of("ray") == [Resources(2, 1)] and machines_of("pool") is None
    settings = make(EnsembleSettings, {"executor": "ray", "set": ("threads=2", "pi0.device=cpu")})
    cpu, gpu = plan_groups(settings)
    assert (cpu.device, gpu.device) == ("cpu", "cuda") == (cpu.settings.device, gpu.member(3).settings.device)
    assert (cpu.needs, gpu.needs) == (Resources(2), Resources(2, 1))
    assert together_groups(settings, [cpu, gpu]) == {"pi0_fast"}
    require_room("ray", [cpu.needs, gpu.needs])
    require_room("pool", [Resources(10_000)])
    with pytest.raises(SettingsError, match="expected a machine of the cluster with 3 cores and 0 GPUs, which a job"):
        run_all([Job("too large", "x", what_it_got, Resources(3))], lambda _event: None, "ray")


def test_a_cluster_without_a_gpu_trains_on_cores_and_one_machine_by_its_own_choice() -> None:
    settings = make(EnsembleSettings, {"methods": "pi0"})
    (group,) = plan_groups(settings)
    assert (group.device, group.settings.device) == ("cpu", "auto")
    assert device_for(group.settings, [Resources(8), Resources(1)])[1].device == "cpu"
    assert device_for(group.settings, [Resources(8), Resources(1, 0.5)])[0] == "cpu"
    assert device_for(group.settings, [Resources(8), Resources(1, 4)])[0] == "cuda"


def test_a_job_learns_that_it_is_to_end_from_its_messages() -> None:
    mailbox = Mailbox()
    mailbox.expect((0, 1))
    assert mailbox.put((0, 1), 0.5, {"a": b"a"}) and not mailbox.put((0, 2), 0.5, {})
    assert mailbox.take() == ({0: 0.5}, {0: {"a": b"a"}})
    mailbox.stop()
    assert not mailbox.put((0, 1), None, {"b": b"b"})
    assert mailbox.take() == (
        {},
        {0: {"b": b"b"}},
    )  # its last: it runs no more, and what it leaves is taken all the same


def test_what_a_job_reads_is_there_and_what_it_leaves_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, copies, home = tmp_path / "job", tmp_path / "copies", tmp_path / "home"
    home.mkdir()
    fetched = []

    def fetch(content: object) -> bytes:
        fetched.append(content)
        return b"data"

    file = InputFile("data/pairs.npz", digest_of(b"data"), "reference")
    for number in range(2):
        job = unpack(folder / str(number), [file], {"kept/a": b"old", "kept/lock": b""}, copies, fetch)
    assert fetched == ["reference"]  # once for all jobs of a machine
    assert (job.folder / "data/pairs.npz").read_bytes() == b"data" and not (job.folder / "kept/lock").exists()
    assert job.changed() == {}
    for name, content in {"kept/a": b"new", "b": b"b", "kept/lock": b"", ".part-1": b"half", ".s": b""}.items():
        (job.folder / name).write_bytes(content)
    assert job.changed() == {"kept/a": b"new", "b": b"b", "kept/lock": b""} and job.changed() == {}
    monkeypatch.chdir(home)
    kept = KeptFiles()
    kept.keep(3, {"kept/a": b"new", "b": b"b", "kept/lock": b""})
    assert is_held(Path("kept/lock")) and Path("kept/a").read_bytes() == b"new"
    assert kept.left(3, [Path("earlier")]) == {"b": b"b", "kept/a": b"new"}
    kept.keep(3, {"kept/a": None, "kept/lock": None})
    assert not Path("kept").exists() and kept.left(3, []) == {"b": b"b"}


def test_a_file_elsewhere_has_to_be_on_every_machine(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"data")
    same, other = (InputFile(str(tmp_path / "there"), digest_of(content), None) for content in (b"data", b"other"))
    assert unpack(tmp_path / "job", [same], {}, tmp_path / "copies", lambda _: b"").folder == tmp_path / "job"
    with pytest.raises(RunError, match="expected the same file on every machine, or one below the folder"):
        unpack(tmp_path / "job", [other], {}, tmp_path / "copies", lambda _: b"")


def test_a_removed_file_is_told(tmp_path: Path) -> None:
    job = JobFolder(tmp_path)
    (tmp_path / "a").write_text("a")
    assert job.changed() == {"a": b"a"}
    (tmp_path / "a").unlink()
    assert job.changed() == {"a": None}


def test_a_worker_elsewhere_names_its_files_alone_and_its_journals_by_who_keeps_them(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEPT_AT, "host:/folder/journals")
    now = datetime(2026, 1, 2, 3, 4)
    names = {reserve("x", now, workplace / str(number)).name for number in range(3)}
    assert len(names) == 3 and all(re.fullmatch(r"x_20260102_0304_[0-9a-f]{8}", name) for name in names)
    assert journal_place() == "host:/folder/journals"


def test_the_files_of_an_own_task_go_with_it(workplace: Path) -> None:
    for name in ("own/task.py", "own/model.xml", "own/.hidden", "own/below/other.py", "kit/__init__.py", "kit/a/b.xml"):
        (workplace / name).parent.mkdir(parents=True, exist_ok=True)
        (workplace / name).write_text(name)
    assert files_of("own/task.py:TASK") == (Path("own/model.xml"), Path("own/task.py"))
    assert files_of("kit.a:TASK") == (Path("kit/__init__.py"), Path("kit/a/b.xml"))
    assert files_of("pendulum") == files_of("installed.elsewhere:TASK") == ()


WORDS = ["evaluate", "--yardsticks", "--episodes", "1", "--executor", "ray"]


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(COMMANDS, [*WORDS, *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture
def mute() -> Iterator[str]:
    """An address that takes connections, as the system does for who listens, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_nobody_at_the_address(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"127.0.0.1:{server.getsockname()[1]}"
    wrong = f"error: ray_address: expected a Ray cluster at '{nobody}', found connection refused."
    assert refused(capsys, "--ray-address", nobody).startswith(wrong)
    monkeypatch.setenv("RAY_ADDRESS", nobody)
    assert refused(capsys).startswith(wrong)
    assert "no.such.host.invalid:1', found" in refused(capsys, "--ray-address", "no.such.host.invalid:1")
    wanted = "ray_address: expected executor=ray with it, found executor=pool. See --help."
    assert refused(capsys, "--executor", "pool", "--ray-address", "local") == f"error: {wanted}"
    assert "expected text like 'auto', 'local' or '10.0.0.1:6379', found" in refused(
        capsys, "--ray-address", "ray://here:1"
    )


def test_someone_else_at_the_address(
    mute: str, workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "HEALTH_SECONDS", 3.0)
    assert "found one that does not speak as Ray does" in refused(capsys, "--ray-address", mute)


def test_without_ray_the_extra_is_named(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [])
    monkeypatch.setattr("sys.path_importer_cache", {})
    monkeypatch.delitem(__import__("sys").modules, "ray", raising=False)
    assert refused(capsys).endswith("Install it with: pip install -e '.[ray]'")
