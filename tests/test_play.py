"""Playing by the clock: what is executed when answers are late, and what a server may answer.

Lateness is tested in simulated time, so that a slow machine changes nothing; real threads, real servers and real
clocks only where no figure depends on them.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

import pipeline
from pipeline.cli.main import COMMANDS, main
from pipeline.config import make
from pipeline.errors import PolicyError, RunError, SettingsError
from pipeline.evaluation import realtime
from pipeline.evaluation.control import draw_episodes, evaluate_planner, policy_planner
from pipeline.evaluation.realtime import Answer, Played, ThreadAsking
from pipeline.evaluation.record import record_planner
from pipeline.methods.registry import METHODS
from pipeline.methods.settings import Pi0Settings
from pipeline.policies.checkpoint import Checkpoint, save_checkpoint
from pipeline.policies.remote import LARGEST, connect
from pipeline.stages import play as workflow
from pipeline.stages.settings import PlaySettings
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.pendulum.scores import score
from pipeline.tasks.pendulum.world import CONTROL_SECONDS, REST_ANGLE
from pipeline.tasks.project import TASKS
from pipeline.tasks.registry import find_task
from pipeline.tasks.task import Condition, Task
from tests.conftest import Run, files_of
from tests.test_animation import frames_of, nothing, planned_lqr

CONDITIONS = PENDULUM.conditions

HARD = Condition(0.05, 15)


def lqr_act(states: np.ndarray) -> np.ndarray:
    return planned_lqr(states).actions


class Simulated:
    """Someone whose answers take `steps[k]` control steps, by a clock that goes only when it is waited for."""

    def __init__(self, *steps: float, act: Callable = lqr_act) -> None:
        self._steps, self._act, self.time, self.comes = list(steps), act, 5.0, 0.0

    def ask(self, states: np.ndarray) -> None:
        steps = self._steps.pop(0) if self._steps else 0.1
        self._answer = Answer(self._act(states), steps * CONTROL_SECONDS)
        self.comes = self.time + self._answer.seconds

    def answer(self, until: float | None) -> Answer | None:
        if until is not None and self.comes > until:
            self.time = max(self.time, until)
            return None
        self.time = max(self.time, self.comes)
        return self._answer

    def now(self) -> float:
        return self.time

    def sleep(self, until: float) -> None:
        self.time = max(self.time, until)


def played(asking, replan: int = 10, **more) -> Played:
    """An episode from nearly rest and without noise: the pole stays up for long without a new plan."""
    return realtime.play(PENDULUM, asking, np.array([0.2, REST_ANGLE, 0, 0]), np.zeros((100, 1)), replan, **more)


@pytest.mark.parametrize("condition", [CONDITIONS[0], HARD])
def test_with_answers_in_time_it_is_the_evaluated_episode(condition: Condition) -> None:
    episodes = draw_episodes(PENDULUM, [condition], 2, seed=3)
    expected = record_planner(planned_lqr, episodes, [1], 1)[0]
    for lockstep, asking in ((False, Simulated(3.0, 0.9)), (True, Simulated(3.0, 30.0))):
        found = realtime.play(PENDULUM, asking, episodes.starts[1], episodes.noise[1], condition.replan, lockstep)
        for name, value in vars(expected).items():
            assert_array_equal(getattr(found.record, name), value, err_msg=name)
        assert found.late == 0 and not found.unanswered and len(found.latencies) == len(expected.chunks) - 1


def test_a_late_answer_is_executed_from_the_step_in_which_it_comes() -> None:
    found = played(Simulated(0.5, 2.5, 0.5))
    record = found.record
    assert record.asked.tolist() == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert record.taken.tolist() == [0, 12, 20, 30, 40, 50, 60, 70, 80, 90]
    assert found.late == 1
    assert found.latencies[:2] == pytest.approx([2.5 * CONTROL_SECONDS, 0.5 * CONTROL_SECONDS])
    assert_array_equal(record.actions[10:12], record.chunks[0, 10:12])  # the old plan goes on
    assert_array_equal(record.actions[12:20], record.chunks[1, 2:10])  # the new one, without what has passed
    assert_array_equal(record.actions[20:30], record.chunks[2, :10])


def test_while_an_answer_is_awaited_nothing_else_is_asked() -> None:
    found = played(Simulated(0.5, 22.5, 0.5))
    assert found.record.asked.tolist()[:4] == [0, 10, 33, 43]
    assert found.record.taken.tolist()[:4] == [0, 32, 33, 43] and found.late == 1


def test_an_answer_that_never_comes_is_counted() -> None:
    found = played(Simulated(*[0.5] * 9, 40.0))
    assert found.late == 1 and found.unanswered and len(found.record.chunks) == 9


def test_a_plan_that_is_used_up_ends_the_play() -> None:
    with pytest.raises(RunError, match=r"no answer for 2\.0 s: at step 50 the plan of step 0 is used up"):
        played(Simulated(0.5, 1000.0))


def test_after_a_fall_nothing_is_asked_or_waited_for() -> None:
    asking = Simulated(act=lambda states: nothing(states).actions)
    found = realtime.play(PENDULUM, asking, np.array([0, 0.3, 0, 0]), np.zeros((100, 1)), 10)
    fall = int(np.flatnonzero(np.abs(found.record.states[:, 1]) > np.pi / 4)[0])
    assert found.record.asked.max() < fall and (found.record.actions[fall:] == 0).all()
    assert asking.time == pytest.approx(5.0 + 0.1 * CONTROL_SECONDS + (fall - 1) * CONTROL_SECONDS)


def test_a_first_plan_must_come_and_be_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PolicyError, match="at most the 50 steps that this policy plans, found 51"):
        played(Simulated(), replan=51)
    monkeypatch.setattr(realtime, "FIRST_SECONDS", 0.2)
    with pytest.raises(PolicyError, match=r"no answer within 0\.2 s"):
        played(Simulated(1000.0))


def test_plans_that_are_not_finite_end_the_play() -> None:
    with pytest.raises(RunError, match="plan at step 0: expected finite actions"):
        played(Simulated(act=lambda states: lqr_act(states) * np.nan))


def test_a_policy_that_fails_in_mid_play_names_the_step() -> None:
    asked: list[np.ndarray] = []

    def act(states: np.ndarray) -> np.ndarray:
        asked.append(states)
        if len(asked) == 2:
            raise RunError("x: expected plans of finite actions, found NaN or infinity.")
        return lqr_act(states)

    with pytest.raises(RunError, match=r"^at step 1\d: x: expected plans of finite actions"):
        played(ThreadAsking(act), lockstep=True)


def test_a_planner_in_a_thread_by_the_real_clock() -> None:
    """Whatever the machine does, the whole episode is played, not faster than time, and its plans are the LQR's."""
    seen: list[int] = []
    began = time.monotonic()
    found = played(ThreadAsking(lqr_act), watch=lambda step, *_: seen.append(step))
    assert time.monotonic() - began >= 99 * CONTROL_SECONDS
    assert seen == list(range(100)) and found.behind >= 0
    for chunk, step in zip(found.record.chunks, found.record.asked, strict=True):
        assert_array_equal(chunk, lqr_act(found.record.states[step][None])[0])


def test_an_error_of_the_planner_ends_the_play() -> None:
    def fails(states: np.ndarray) -> np.ndarray:
        if calls.append(0) or len(calls) > 3:
            raise PolicyError("it is gone")
        return lqr_act(states)

    calls: list[int] = []
    with pytest.raises(RunError, match="at step 30: it is gone"):
        played(ThreadAsking(fails), lockstep=True)
    with pytest.raises(PolicyError, match="it is gone"):
        played(ThreadAsking(fails), lockstep=True)


Answering = Callable[[list], tuple[int, bytes]]


def good(states: list) -> tuple[int, bytes]:
    return 200, json.dumps({"predictions": lqr_act(np.array(states)).tolist()}).encode()


@contextmanager
def server(answering: Answering, keep_alive: bool = True) -> Iterator[str]:
    """A real HTTP server on loopback that answers states as `answering` says."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if keep_alive else "HTTP/1.0"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/invocations" and list(asked) == ["inputs"]
            status, content = answering(asked["inputs"])
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.daemon_threads = True
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_server_plans_as_the_policy_does(keep_alive: bool) -> None:
    states = np.random.default_rng(0).uniform(-0.3, 0.3, (3, 4)).astype(np.float32)
    with server(good, keep_alive) as url:
        for address in (url, f"{url}/", f"{url}/invocations"):
            policy = connect(address, 4, 1)
            for _ in range(2):
                assert_array_equal(policy.act(states), lqr_act(states.astype(np.float64)))


def test_a_connection_that_the_server_closed_is_opened_again() -> None:
    with server(good) as url:
        policy = connect(url, 4, 1)
        policy.act(np.zeros((1, 4)))
        assert policy._connection.sock is not None
        policy._connection.sock.shutdown(socket.SHUT_RDWR)  # as if it had been idle for too long
        assert policy.act(np.zeros((1, 4))).shape == (1, 50, 1)


@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        (
            400,
            b'{"error_code": "BAD_REQUEST", "message": "of 4\\nnumbers"}',
            "400: of 4 numbers",
        ),
        (422, b'{"detail": "no inputs"}', "422: no inputs"),
        (500, b"\x1b[31mred\x00", r"500: \[31mred"),
        (503, b"", "503: nothing"),
        (302, b"elsewhere", "302: elsewhere"),
        (200, b"not JSON", "found: not JSON"),
        (200, b"[1, 2]", "expected .*predictions"),
        (200, b'{"predictions": [[[1.0], [2.0, 3.0]]]}', "expected numbers .*, found list: .* inhomogeneous"),
        (200, b'{"predictions": [[["a"]]]}', r"expected numbers .*: \[\['a'\]\]"),
        (200, b'{"predictions": [[["1"]]]}', "found the type <U1"),
        (200, b'{"predictions": [[[null]]]}', "found the type object"),
        (200, b'{"predictions": [[[true]]]}', "found the type bool"),
        (200, b'{"predictions": {"a": 1}}', "expected numbers .*, found dict"),
        (200, b'{"predictions": 3.0}', "expected numbers .*, found float 3.0"),
        (200, b'{"predictions": [[1.0, 2.0]]}', r"shape \(steps, 1\) for each state, found \(2,\)"),
        (200, b'{"predictions": [[[1.0, 2.0]]]}', r"found \(1, 2\)"),
        (200, b'{"predictions": [[]]}', r"found \(0,\)"),
        (200, b'{"predictions": [[[1.0]], [[1.0]]]}', r"shape \(1, steps, 1\), one for each state, found 2 chunks"),
        (200, b'{"predictions": [[[NaN]]]}', "NaN or infinity"),
        (200, b'{"predictions": [[[1e39]]]}', "NaN or infinity"),
        (200, b"[" * 100_000, "expected .*predictions"),
        (200, b" " * (LARGEST + 1), "more than 1,048,576 bytes"),
    ],
)
def test_what_a_server_may_not_answer(status: int, content: bytes, expected: str) -> None:
    with server(lambda _: (status, content)) as url, pytest.raises(PolicyError, match=expected) as caught:
        connect(url, 4, 1).act(np.zeros((1, 4)))
    assert url in str(caught.value) and len(str(caught.value)) < 500 and str(caught.value).isprintable()


def test_a_server_that_hangs_up_is_silent_or_absent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(PolicyError, match=r"none within 0\.3 s"):
            connect(url, 4, 1, seconds=0.3).act(np.zeros((1, 4)))
    with pytest.raises(PolicyError, match="refused"):
        connect(url, 4, 1).act(np.zeros((1, 4)))


@pytest.mark.parametrize(
    "url",
    ["", "x", "127.0.0.1:5001", "ftp://127.0.0.1", "file:///etc/passwd", "http://", "http://h:99999", "http://h:x",
     "http://h/ x", "http://h/\r\nHost: y", "http://me:word@h", "http://h?x=1", "http://h#x", "http://[::1", "http://ü"],
)  # fmt: skip
def test_only_addresses_of_servers_are_taken(url: str) -> None:
    with pytest.raises(PolicyError, match="expected an address"):
        connect(url, 4, 1)


def test_one_policy_is_named() -> None:
    for values in ({}, {"checkpoint": "a.pth", "policy": "http://h"}):
        with pytest.raises(SettingsError, match="name a model file by --checkpoint, or a server by --policy"):
            make(PlaySettings, values)


@pytest.mark.parametrize("task", map(find_task, TASKS), ids=TASKS)
def test_what_is_left_open_is_as_in_the_tasks_middle_condition(task: Task) -> None:
    def condition(**given: object) -> Condition:
        return workflow.condition_of(task, make(PlaySettings, {"checkpoint": "a.pth", "task": task.name, **given}))

    middle = sorted({each.action_noise for each in task.conditions})[1]
    assert condition() in task.conditions and condition().action_noise == middle
    assert condition(action_noise="auto", replan="auto") == condition() == task.middle_condition
    assert condition(action_noise="0") == replace(condition(), action_noise=0)
    assert condition(replan=1) == replace(condition(), replan=1)
    assert condition(action_noise=50, replan=500) == Condition(50, 500), "a task may be in newtons"


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a small pi0, with the weights it begins with: it soon lets the pole fall."""
    settings = make(Pi0Settings, {**files_of("pi0", data), "width": 16, "layers": 1})
    method = METHODS["pi0"]
    interface = method.prepare(settings).interface
    torch.manual_seed(0)
    weights = method.build(settings, interface).state_dict()
    path = tmp_path_factory.mktemp("model") / "small.pth"
    save_checkpoint(path, Checkpoint(method, settings, interface, weights, {"name": "small"}))
    return path


def test_a_model_plays_in_process_the_same_every_time(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, episode in (("a", 2), ("b", 2), ("c", 3)):
        words = ["--checkpoint", model, "--lockstep", "--episode", episode, "--out", tmp_path / f"{name}.gif"]
        assert main(COMMANDS, ["play", *map(str, words)]) == 0
        text = capsys.readouterr().out
        assert f"episode {episode} of seed 0" in text and "lockstep" in text and f"{name}.gif" in text
    a, b, c = ((tmp_path / f"{name}.gif").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("export", [False, True])
def test_lockstep_plays_the_episode_that_evaluate_scores(model: Path, tmp_path: Path, export: bool) -> None:
    path = model
    if export:
        path = tmp_path / "small.onnx"
        assert main(COMMANDS, ["export", "--checkpoint", str(model), "--out", str(path)]) == 0
    policy = pipeline.load_policy(model)
    episodes = draw_episodes(PENDULUM, CONDITIONS, 3, seed=4)
    columns = evaluate_planner(policy_planner(policy, episodes, 0), episodes, 1).columns
    number = 3 * CONDITIONS.index(HARD) + 2
    settings = {"checkpoint": str(path), "action_noise": HARD.action_noise, "replan": HARD.replan, "seed": 4}
    shown = workflow.play(make(PlaySettings, settings | {"episode": 2, "lockstep": True, "out": "none"}), unseen)
    record = shown.played.record
    scores = score(record.states[None], record.actions[None])
    assert scores["return"][0] == columns["return"][number] < 100
    assert scores["converge_step"][0] == columns["converge_step"][number]
    assert scores["velocity_std"][0] == pytest.approx(columns["velocity_std"][number], rel=1e-3)
    assert f"fell after {(scores['return'][0] + 1) * CONTROL_SECONDS:.2f} s" in shown.verdict


def unseen(*_: object) -> None:
    pass


def test_a_server_balances_the_pendulum_in_real_time(run: Run, workplace: Path) -> None:
    with server(good) as url:
        result = run("pipeline", "play", "--policy", url)
    assert result.returncode == 0, result.stderr
    assert "played to the end; calm 0." in result.stdout and " late" in result.stdout
    assert all(name in result.stdout for name in ("first answer", "p50", "p90", "p99", "max", "of 7"))
    assert len(frames_of(workplace / "play.gif")[0]) == 101


def test_a_server_that_fails_in_mid_play_is_a_failed_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails_later(states: list) -> tuple[int, bytes]:
        answers.append(0)
        return good(states) if len(answers) < 3 else (500, b'{"message": "out of memory"}')

    answers: list[int] = []
    with server(fails_later) as url:
        words = ["play", "--policy", url, "--lockstep", "--out", str(tmp_path / "x.gif")]
        assert main(COMMANDS, words) == 1
        assert main(COMMANDS, words) == 2  # nothing was started
    later, at_once = capsys.readouterr().err.splitlines()
    assert "at step 26" in later and later.endswith("status 500: out of memory")
    assert at_once.endswith("status 500: out of memory") and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "by --checkpoint, or a server by --policy"),
        (["--policy", "http://h", "--out", "x.mp4"], "ending in .gif"),
        (["--policy", "http://h", "--out", "."], "ending in .gif"),
        (["--policy", "http://h", "--out", "play.gif/x.gif"], "expected a folder"),
        (["--policy", "http://h", "--replan", "0"], "replan: expected 1 or more"),
        (["--policy", "http://h", "--replan", "none"], "replan: expected a whole number, found 'none'"),
        (["--policy", "http://h", "--action-noise", "-1"], "action_noise: expected 0 or more"),
        (["--checkpoint", "none.pth"], "found none"),
        (["--policy", "gopher://h"], "expected an address"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(
    words: list[str], expected: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "play.gif").touch()
    assert main(COMMANDS, ["play", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line and (workplace / "play.gif").read_bytes() == b""
