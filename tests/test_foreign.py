"""Policies of others: servers and functions, those of the page as they stand there, and all that may be wrong."""

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from websockets.sync.server import ServerConnection, serve

from pipeline.cli.main import COMMANDS, main
from pipeline.config import make
from pipeline.errors import PolicyError, SettingsError
from pipeline.evaluation.control import ChunkExecutor, draw_episodes, evaluate_planner
from pipeline.methods.method import Plans
from pipeline.methods.registry import METHODS
from pipeline.own_code import import_own
from pipeline.policies.answers import LATE, MISSHAPEN, NOT_FINITE, UNDECODABLE, Fault, read_chunks
from pipeline.policies.checkpoint import Checkpoint, save_checkpoint
from pipeline.policies.remote import LARGEST, connect
from pipeline.stages.foreign import first_states, open_foreign
from pipeline.stages.recorded import read_recorded
from pipeline.stages.settings import AsksPolicies
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.project import TASKS
from pipeline.tasks.registry import find_task
from tests.conftest import ROOT, files_of

PAGE = (ROOT / "docs" / "how-to" / "foreign_policy.md").read_text()
FILES = dict(re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
CONDITIONS = PENDULUM.conditions
ASKS = AsksPolicies(timeout=0.5)

Capture = pytest.CaptureFixture[str]
Answering = Callable[[list, BaseHTTPRequestHandler], bytes | tuple[int, bytes] | None]


def good(states: list, horizon: int = 15) -> list:
    return (np.array(states)[:, 1, None, None] * np.ones((1, horizon, 1))).tolist()


def body(predictions: Any) -> bytes:
    return json.dumps({"predictions": predictions}).encode()


def first_number(value: Any) -> Callable[[list, object], bytes]:
    """Good chunks, but that `value` stands in the first one."""

    def answer(states: list, _handler: object) -> bytes:
        chunks = good(states)
        chunks[0][3][0] = value
        return body(chunks)

    return answer


def trickle(_states: list, handler: BaseHTTPRequestHandler) -> None:
    """An answer of which a byte arrives now and then, for ever."""
    handler.connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while handler.path in SLOW:
        handler.connection.sendall(b"x")
        time.sleep(0.05)


def hang_up(_states: list, handler: BaseHTTPRequestHandler) -> None:
    handler.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    handler.close_connection = True


SLOW = {"/trickle/invocations"}
ANSWERS: dict[str, Answering] = {
    "good": lambda states, _: body(good(states)),
    "nan": first_number(float("nan")),
    "huge number": first_number(1e39),
    "text": first_number("1.0"),
    "null": first_number(None),
    "truth": lambda states, _: body([[[True]] * 15] * len(states)),
    "ragged": lambda states, _: body([[[1.0], [1.0, 2.0]], *good(states)[1:]]),
    "html": lambda _states, _: b"<html><body>It works!</body></html>",
    "garbage": lambda _states, _: b'{"predictions": [[[1.0], ',
    "nothing": lambda _states, _: b"",
    "number": lambda _states, _: body(1.0),
    "elsewhere": lambda _states, _: b'{"outputs": []}',
    "deep": lambda _states, _: b"[" * 100_000,
    "flat": lambda states, _: body([[1.0] * 15] * len(states)),
    "wide": lambda states, _: body([[[1.0, 2.0]] * 15] * len(states)),
    "too many": lambda states, _: body(good(states) * 2),
    "empty": lambda states, _: body([[]] * len(states)),
    "short": lambda states, _: body(good(states, 14)),
    "one by one": lambda states, _: body(good(states)) if len(states) == 1 else (400, b'{"detail": "one, please"}'),
    "trickle": trickle,
    "hang up": hang_up,
    "long": lambda _states, _: b" " * (LARGEST + 1),
    "missing": lambda _states, _: (404, b"<html>Not found</html>"),
    "moved": lambda _states, _: (302, b"elsewhere"),
    "broken": lambda _states, _: (500, b'{"message": "out of\\nmemory"}'),
}
ASKED: list[int] = []  # states of each request


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    """A real server: `PLACE/NAME` answers as `ANSWERS[NAME]`, `PLACE/first/NAME` so after a good first answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version, wbufsize = "HTTP/1.1", -1

        def do_POST(self) -> None:
            states = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
            ASKED.append(len(states))
            *first, name, _ = self.path.strip("/").replace("%20", " ").split("/")
            if first and len(states) == 2:  # as only the first question has
                name = "good"
            answer = ANSWERS[name](states, self)
            if answer is None:
                return
            status, content = answer if isinstance(answer, tuple) else (200, answer)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if status == 302:
                self.send_header("Location", "/good/invocations")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(ConnectionError):
                super().handle()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.daemon_threads = True
        threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        SLOW.clear()
        found.shutdown()


@pytest.fixture
def own(workplace: Path) -> Path:
    """A folder outside the project with the page's files."""
    for name, text in FILES.items():
        (workplace / name).write_text(text)
    return workplace


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of ours, not trained, that draws no noise."""
    method = METHODS["regression"]
    settings = make(method.settings_type, {**files_of("regression", data), "width": 16, "layers": 1})
    interface = method.prepare(settings).interface
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("foreign") / "small.pth"
    weights = method.build(settings, interface).state_dict()
    save_checkpoint(path, Checkpoint(method, settings, interface, weights, {"name": "small"}))
    return path


def evaluated(capsys: Capture, *words: str) -> list[dict[str, Any]]:
    """The policies of the command's JSON."""
    assert main(COMMANDS, ["evaluate", *words, "--executor", "serial", "--json"]) == 0, capsys.readouterr().err
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["models"]
    return found


def refused(capsys: Capture, *words: str, code: int = 2) -> str:
    """The last line that a command ends with; before any work it is the only one."""
    assert main(COMMANDS, [*words]) == code
    said = capsys.readouterr()
    *before, line = said.err.splitlines()
    assert line.startswith("error: ") and not said.out and len(line) < 700 and (code == 1 or not before), said.err
    return line


def episodes_of(found: dict[str, Any], name: str) -> np.ndarray:
    return np.array([each["episodes"][name] for each in found["conditions"]])


def test_the_files_have_about_thirty_lines() -> None:
    assert list(FILES) == ["mine.py", "serve_policy.py", "openpi_bridge.py"]
    assert [text.count("\n") <= most for text, most in zip(FILES.values(), (20, 30, 45), strict=True)] == [True] * 3


def test_the_pages_server_answers_as_its_policy(own: Path) -> None:
    module = import_own("policy", str(own / "serve_policy.py"))
    with ThreadingHTTPServer(("127.0.0.1", 0), module.Handler) as found:
        threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
        policy = open_foreign(PENDULUM, f"http://127.0.0.1:{found.server_port}", ASKS)
        states = draw_episodes(PENDULUM, CONDITIONS[:1], 5, 0).starts
        plans = policy.plan(states, np.arange(5), 0)
        found.shutdown()
    assert plans.missing is not None and not plans.missing.any() and policy.horizon == 20
    with torch.inference_mode():
        expected = module.policy(torch.tensor(states.astype(np.float32))).view(5, 20, 1)
    assert_array_equal(plans.actions, expected.numpy())


class Websocket:
    """A server in openpi's manner: metadata first, then actions for each observation, by msgpack."""

    def __init__(self, infer: Callable[[dict[str, Any]], Any]) -> None:
        self.infer = infer
        self.seen: list[dict[str, Any]] = []

    def __call__(self, connection: ServerConnection) -> None:
        connection.send(msgpack.packb({"policy": "mine"}))
        for message in connection:
            self.seen.append(msgpack.unpackb(message, object_hook=self.unpack))
            answer = self.infer(self.seen[-1])
            if answer is not None:
                connection.send(answer if isinstance(answer, str) else msgpack.packb(answer, default=self.pack))

    @staticmethod
    def pack(array: np.ndarray) -> dict[bytes, Any]:
        return {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": array.dtype.str, b"shape": array.shape}

    @staticmethod
    def unpack(found: dict[Any, Any]) -> Any:
        if b"__ndarray__" not in found:
            return found
        return np.ndarray(buffer=found[b"data"], dtype=np.dtype(found[b"dtype"]), shape=found[b"shape"])


@pytest.fixture
def bridge(own: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Websocket, ModuleType]]:
    """The page's bridge to a real websocket server on loopback, which controls as the page's `mine.py`."""
    mine = import_own("policy", str(own / "mine.py"))
    server = Websocket(lambda seen: {"actions": mine.act(seen["observation/state"][None])[0], "server_timing": {}})
    with serve(server, "127.0.0.1", 0, compression=None) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        monkeypatch.setenv("POLICY_SERVER", f"ws://127.0.0.1:{found.socket.getsockname()[1]}")
        open_foreign(PENDULUM, "openpi_bridge.py:act", AsksPolicies(batch=1))  # imports it
        module = sys.modules[[name for name in sys.modules if name.startswith("tinypi_own_")][-1]]
        yield server, module
        for connection in module.kept:
            connection.close()
        found.shutdown()


def test_the_pages_bridge_controls_as_the_server_behind_it(
    bridge: tuple[Websocket, ModuleType], capsys: Capture
) -> None:
    words = "--policy", "mine.py:act", "openpi_bridge.py:act", "--episodes", "1", "--batch", "1"
    direct, bridged = evaluated(capsys, *words)
    assert [direct["name"], bridged["name"]] == ["mine.py:act", "openpi_bridge.py:act"]
    assert direct["conditions"] == bridged["conditions"] and "no_plan" not in bridged
    observation = bridge[0].seen[0]
    assert observation["prompt"] and observation["observation/state"].dtype == np.float32


def test_what_the_bridge_says_of_its_server(
    bridge: tuple[Websocket, ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    server, module = bridge
    compare = "compare", "mine.py:act", "openpi_bridge.py:act", "--batch", "1"
    good = server.infer
    server.infer = lambda seen: "Traceback ...\nKeyError: 'image'"
    line = refused(capsys, *compare)
    assert "openpi_bridge.py:act, line " in line and "it raised RuntimeError: Traceback ... KeyError: 'image'" in line
    server.infer = lambda seen: good(seen) if len(server.seen) < 6 else "Traceback"
    assert "error: in the middle of its episodes: openpi_bridge.py:act, line " in refused(capsys, *compare, code=1)
    monkeypatch.setattr(module, "SECONDS", 0.2)
    late = len(server.seen) + 3
    server.infer = lambda seen: None if len(server.seen) == late else good(seen)
    words = "--policy", "openpi_bridge.py:act", "--episodes", "1", "--batch", "1"
    (found,) = evaluated(capsys, *words)
    assert found["no_plan"] == {"late": 1} and episodes_of(found, "no_plan").sum() == 1
    server.infer = lambda seen: None
    assert "found that it is late" in refused(capsys, *compare)


def test_one_policy_as_a_file_a_function_and_a_server(own: Path, model: Path, place: str, capsys: Capture) -> None:
    """The same episodes: the same scores."""
    (own / "wrapped.py").write_text(f"import pipeline\nact = pipeline.load_policy({str(model)!r}).act\n")
    policy = import_own("policy", str(own / "wrapped.py"))
    ANSWERS["model"] = lambda states, _: body(policy.act(states).tolist())
    places = "wrapped.py:act", f"{place}/model"
    file, *others = evaluated(capsys, str(model), "--policy", *places, "--episodes", "3")
    assert [each["name"] for each in (file, *others)] == ["small", *places]
    for other in others:
        assert other["method"] == "foreign" and not episodes_of(other, "no_plan").any()
        for name in file["conditions"][0]["scores"]:
            assert_allclose(episodes_of(other, name), episodes_of(file, name), rtol=1e-4, atol=1e-6)


COUNTING = """
import numpy as np

asked = []


def act(states):
    asked.append(len(states))
    plans = np.zeros((len(states), 20, 1))
    plans[0] = np.nan if len(asked) in (2, 9) else 0
    return plans
"""


def test_to_a_file_it_is_opened_once_and_its_missing_plans_are_told(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("pipeline.stages.evaluate_to_file.BLOCK", 1)
    (own / "counting.py").write_text(COUNTING)
    words = "evaluate", "--policy", "counting.py:act", "--episodes", "1", "--executor", "serial", "--out", "a.parquet"
    assert main(COMMANDS, [*words]) == 0
    said = capsys.readouterr().out
    assert "2 episodes given up for want of a plan: 2 not finite." in said and "every episode: a.parquet" in said
    (asked,) = [module.asked for name, module in sys.modules.items() if "own_" in name and hasattr(module, "asked")]
    assert asked[0] == 2 and set(asked[1:]) == {1}


def test_an_episode_without_a_plan_is_given_up_and_the_others_go_on(own: Path) -> None:
    """From the missing plan on there is no action, no question, and no share; all other episodes keep their bits."""
    episodes = draw_episodes(PENDULUM, CONDITIONS[:2], 3, 0)
    asked: list[tuple[int, list[int]]] = []
    mine = import_own("policy", str(own / "mine.py"))

    def plan(states: np.ndarray, due: np.ndarray, step: int) -> Plans:
        asked.append((step, due.tolist()))
        chunks = (states[:, None] * mine.CHUNK).sum(-1, keepdims=True)  # in any company the same bits
        return Plans(chunks.astype(np.float32), missing=0 * due > 0)

    def fails(states: np.ndarray, due: np.ndarray, step: int) -> Plans:
        return Plans(plan(states, due, step).actions, missing=(due == 1) & (step == 10))

    whole, found = evaluate_planner(plan, episodes, 1).columns, evaluate_planner(fails, episodes, 1).columns
    assert found["no_plan"].tolist() == [False, True, False, False, False, False] and not whole["no_plan"].any()
    others = [0, 2, 3, 4, 5]
    for name in whole:
        assert_array_equal(whole[name][others], found[name][others])
        assert whole[name].dtype == found[name].dtype
    assert whole["success"][1] == 1 and found["success"][1] == found["calm"][1] == found["converge"][1] == 0
    executor = ChunkExecutor(PENDULUM, fails, np.full(6, 10))
    asked.clear()
    _, actions = PENDULUM.world.simulate(executor, episodes.starts, episodes.noise, 1)
    assert actions[1, :10].all() and not actions[1, 10:].any() and actions[0, 10:20].all()
    assert [1 in due for _, due in asked] == [step <= 10 for step, _ in asked]


@pytest.mark.parametrize(
    ("name", "kind", "all_of_them"),
    [
        ("good", None, False),
        ("nan", NOT_FINITE, False), ("huge number", NOT_FINITE, False), ("text", UNDECODABLE, False),
        ("null", UNDECODABLE, False), ("ragged", UNDECODABLE, False), ("truth", UNDECODABLE, True),
        ("html", UNDECODABLE, True), ("garbage", UNDECODABLE, True), ("nothing", UNDECODABLE, True),
        ("number", UNDECODABLE, True), ("elsewhere", UNDECODABLE, True), ("deep", UNDECODABLE, True),
        ("flat", MISSHAPEN, True), ("wide", MISSHAPEN, True), ("too many", MISSHAPEN, True),
        ("empty", MISSHAPEN, True), ("short", MISSHAPEN, True), ("trickle", LATE, True),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_later_answer_is_counted(
    name: str, kind: str | None, all_of_them: bool, place: str
) -> None:
    """And costs no other state its plan, where it is one chunk that is wrong."""
    policy = open_foreign(PENDULUM, f"{place}/first/{name}".replace(" ", "%20"), ASKS)
    states = draw_episodes(PENDULUM, CONDITIONS[:1], 3, 0).starts
    for _ in range(2):
        plans = policy.plan(states, np.arange(3), 0)
        assert plans.missing is not None and plans.missing.tolist() == [kind is not None, all_of_them, all_of_them]
        assert_allclose(plans.actions[~plans.missing, :, 0], np.tile(states[~plans.missing, 1:2], 15), rtol=1e-6)
    assert policy.faults == ({kind: 2 * (3 if all_of_them else 1)} if kind else {})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "status 500: out of memory"), ("missing", "status 404: <html>Not found</html>"),
        ("long", "more than 1,048,576 bytes"), ("hang up", "IncompleteRead(1 bytes read, 99 more expected)"),
    ],
)  # fmt: skip
def test_what_is_no_answer_ends_the_evaluation(name: str, said: str, place: str, capsys: Capture) -> None:
    url = f"{place}/first/{name}".replace(" ", "%20")
    line = refused(capsys, "evaluate", "--policy", url, "--episodes", "1", code=1)
    assert line.startswith(f"error: evaluation: 1 of 1 failed: {url}: in the middle of its episodes: {url}: expected ")
    assert said in line


def test_a_server_that_dies_in_the_middle(model: Path, workplace: Path, capsys: Capture) -> None:
    """It accepts, answers once, and is gone."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def answer_once() -> None:
            with door.accept()[0] as connection:
                connection.recv(10_000)
                content = body(good(np.zeros((2, 4)).tolist()))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))
            door.close()

        threading.Thread(target=answer_once, daemon=True).start()
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        line = refused(capsys, "compare", url, str(model), code=1)
    assert line.startswith(
        f"error: in the middle of its episodes: {url}: expected an answer of a policy server, found: "
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("html", 'expected {"predictions": [[[action], ...], ...]}, found: <html><body>It works!'),
        ("garbage", "found: {"), ("nothing", "found: nothing"), ("nan", "found NaN or infinity"),
        ("text", "expected numbers"), ("ragged", "expected numbers"), ("long", "more than 1,048,576 bytes"),
        ("moved", "status 302: elsewhere"), ("missing", "status 404"), ("broken", "status 500: out of memory"),
        ("wide", "expected a chunk of shape (steps, 1) for each state, found (15, 2)."),
        ("short", "at least 15 actions, the longest replan interval of the task 'pendulum', found 14."),
        ("one by one", "status 400: one, please It answers one state at a time: name --batch 1."),
        ("hang up", "IncompleteRead"), ("trickle", "found none within 0.5 s"),
    ],
)  # fmt: skip
def test_a_bad_first_answer_is_refused(name: str, said: str, place: str, capsys: Capture) -> None:
    url = f"{place}/{name}".replace(" ", "%20")
    line = refused(capsys, "evaluate", "--policy", url, "--timeout", "0.5")
    assert line.startswith(f"error: {url}: expected ") and said in line


def test_a_server_that_is_away_or_no_address(capsys: Capture, workplace: Path) -> None:
    away = "http://127.0.0.1:9"
    for command in (["evaluate", "--policy", away], ["compare", away, away]):
        assert refused(capsys, *command).startswith(f"error: {away}: expected an answer of a policy server, found: ")
    for url in ("ws://127.0.0.1:8000", "ftp://h", "http://", "http://h:x"):
        assert "policy: expected an address like http://" in refused(capsys, "evaluate", "--policy", url)
    assert main(COMMANDS, ["evaluate", "--verbose", "--policy", "http://ann:s3cret@127.0.0.1:9"]) == 2
    told = capsys.readouterr().err
    assert "found 'http://127.0.0.1:9' with a user" in told and "s3cret" not in told and "ann:" not in told


def test_no_answer_takes_longer_than_its_time(place: str) -> None:
    policy = connect(f"{place}/trickle", 4, 1, 0.3)
    began = time.monotonic()
    (fault,) = policy.chunks(np.zeros((1, 4), np.float32))
    assert isinstance(fault, Fault) and fault.kind == LATE and 0.3 <= time.monotonic() - began < 3


CODE = """
import time
import numpy as np
import torch

number = 3

class Policy:
    pass

def good(states):
    states[:] = 0
    return np.zeros((len(states), 15, 1))

def tensor(states):
    return torch.zeros(len(states), 15, 1)

def lists(states):
    return [[[0.0]] * 15] * len(states)

def whole(states):
    return np.zeros((len(states), 15, 1), int)

def raises(states):
    raise KeyError("no such\\nthing")

def ends(states):
    raise SystemExit("the end")

def late(states):
    raise TimeoutError("busy")

def slow(states):
    time.sleep(0.02 * len(states))
    return good(states)

def nan(states):
    return np.full((len(states), 15, 1), np.nan)

def numbers(states):
    return np.zeros(15)

def scalar(states):
    return np.float64(1)

def one(states):
    return np.zeros((1, 15, 1))

def ragged(states):
    return [[[1.0], [2.0, 3.0]]] * len(states)

def text(states):
    return [[["1"]] * 15] * len(states)

def complex_numbers(states):
    return np.zeros((len(states), 15, 1), complex)

def objects(states):
    return np.full((len(states), 15, 1), None)

def gradient(states):
    return torch.zeros(len(states), 15, 1, requires_grad=True)

def nothing(states):
    pass

def generator(states):
    yield 1

def hidden(states):
    return coroutine(states)

def two(states, more):
    pass

async def coroutine(states):
    return 1
"""


def test_a_function_that_takes_too_long_is_late(workplace: Path) -> None:
    Path("code.py").write_text(CODE)
    policy = open_foreign(PENDULUM, "code.py:slow", AsksPolicies(timeout=0.2))  # two states take 0.04 s
    states = draw_episodes(PENDULUM, CONDITIONS[:1], 11, 0).starts
    assert policy.plan(states, np.arange(11), 0).missing.all() and policy.faults == {LATE: 11}  # type: ignore[union-attr]
    with pytest.raises(PolicyError, match=r"code.py:slow: expected an answer in 0\.01 s, found one after 0\.0"):
        open_foreign(PENDULUM, "code.py:slow", AsksPolicies(timeout=0.01))


@pytest.mark.parametrize("name", ["good", "tensor", "lists", "whole"])
def test_functions_may_return_what_holds_numbers(name: str, workplace: Path) -> None:
    Path("code.py").write_text(CODE)
    states = draw_episodes(PENDULUM, CONDITIONS[:1], 3, 0).starts
    kept = states.copy()
    plans = open_foreign(PENDULUM, f"code.py:{name}", ASKS).plan(states, np.arange(3), 0)
    assert_array_equal(plans.actions, np.zeros((3, 15, 1), np.float32))
    assert_array_equal(states, kept)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("mine", "policy: expected a server's address, module:function or path/to/file.py:function, found 'mine'."),
        ("code.py", "policy: expected a server's address"),
        ("none.py:act", "none.py, found none."),
        ("no.such.module:act", "no.such.module does not import: ModuleNotFoundError"),
        ("broken.py:act", "broken.py, line 2 does not import: ZeroDivisionError: division by zero"),
        ("code.py:missing", "expected a function called 'missing' in "),
        ("code.py:number", "found int of that name."),
        ("code.py:Policy", "found a class. Name a function that takes states (B, S)"),
        ("code.py:coroutine", "found an async function."),
        ("code.py:raises", "code.py:raises, line 25: it raised KeyError: 'no such\\nthing'"),
        ("code.py:ends", "it raised SystemExit: the end"),
        ("code.py:late", "code.py:late: expected an answer, found that it is late: busy."),
        ("code.py:nan", "code.py:nan: expected finite actions, found NaN or infinity."),
        ("code.py:numbers", "expected chunks of shape (2, steps, 1), one for each state, found (15,)."),
        ("code.py:scalar", "one for each state, found ()."),
        ("code.py:one", "found (1, 15, 1). It answers one state at a time: name --batch 1."),
        ("code.py:ragged", "expected numbers (states, steps, actions), found list: "),
        ("code.py:text", "found the type <U1"),
        ("code.py:complex_numbers", "found the type complex128"),
        ("code.py:objects", "found the type object"),
        ("code.py:gradient", "found Tensor: Can't call numpy() on Tensor that requires grad"),
        ("code.py:nothing", "found NoneType."),
        ("code.py:generator", "found generator."),
        ("code.py:hidden", "found coroutine."),
        ("code.py:two", "it raised TypeError: two() missing 1 required positional argument: 'more'"),
    ],
)
def test_functions_that_do_not_plan(reference: str, message: str, workplace: Path, capsys: Capture) -> None:
    Path("code.py").write_text(CODE)
    Path("broken.py").write_text("\n1 / 0\n")
    assert message in refused(capsys, "evaluate", "--policy", reference)
    if ":" in reference:
        assert message in refused(capsys, "compare", "code.py:good", reference)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_asks_for_its_own_sizes(name: str, workplace: Path) -> None:
    task = find_task(name)
    Path("zeros.py").write_text(
        f"import numpy as np\ndef act(s):\n    return np.zeros((len(s), {task.longest_replan}, {task.action_dim}))\n"
        f"def wide(s):\n    return np.zeros((len(s), {task.longest_replan}, {task.action_dim + 1}))\n"
    )
    assert open_foreign(task, str(Path("zeros.py").absolute()) + ":act", ASKS).horizon == task.longest_replan
    with pytest.raises(PolicyError, match="expected a chunk of shape"):
        open_foreign(task, str(Path("zeros.py").absolute()) + ":wide", ASKS)
    states = first_states(task, 2)
    assert states.shape == (2, task.state_dim) and (states[0] != states[1]).any()


def test_requests_hold_many_states_but_not_too_many(place: str) -> None:
    states = draw_episodes(PENDULUM, CONDITIONS[:1], 450, 0).starts
    for batch, most in ((200, 200), (7, 7), (10_000, LARGEST // (32 * 15))):
        ASKED.clear()
        open_foreign(PENDULUM, f"{place}/good", AsksPolicies(batch=batch)).plan(states, np.arange(450), 0)
        assert ASKED[0] == 2 and sum(ASKED[1:]) == 450 and max(ASKED) <= most
        assert len(ASKED) == 1 + -(-450 // most)


def test_tables_and_files_name_the_policy(own: Path, model: Path, place: str, capsys: Capture) -> None:
    """Beside a model and a yardstick; what an evaluation writes can be compared."""
    url = f"{place}/first/garbage"
    words = str(model), str(model), "--policy", url, "mine.py:act", "--yardsticks", "--episodes", "2"
    assert main(COMMANDS, ["evaluate", *words, "--csv", "out/r.csv", "--executor", "serial"]) == 0
    said = capsys.readouterr().out
    assert "18 episodes given up for want of a plan: 18 not numbers." in said
    table = said.partition("Means over all conditions\n")[2].splitlines()
    assert re.split("  +", table[0])[:3] == ["policy", "calm", "success"] and table[0].endswith("no plan")
    rows = [re.split("  +", line) for line in table[2:]]
    assert [row[0] for row in rows] == ["small", "small", url, "mine.py:act", *PENDULUM.yardsticks]
    assert [row[-1] for row in rows[:4]] == ["-", "-", "1.000", "0.000"] and rows[2][1:4] == ["0.000"] * 3
    scores = read_recorded(Path("out/r.csv"))
    assert list(scores) == ["regression", url, "mine.py:act", *PENDULUM.yardsticks]
    assert scores["regression"].shape == (2, 9, 2) and not scores[url].any()
    assert f"{scores['mine.py:act'].mean():.3f}" == rows[3][1]
    assert main(COMMANDS, ["compare", "--csv", "out/r.csv"]) == 0
    capsys.readouterr()
    for path, message in ((".", "csv: expected a file, found the folder '.'"), ("mine.py/r.csv", "csv: expected a")):
        assert message in refused(capsys, "evaluate", "--policy", "mine.py:act", "--csv", path)
    assert "Name" not in refused(capsys, "evaluate", "--act", "start_noise=1", "--policy", "mine.py:act")


def test_a_verdict_between_a_function_and_a_model(own: Path, model: Path, capsys: Capture) -> None:
    """Which counts plans that are missing as zeros."""
    (own / "half.py").write_text(
        "import numpy as np\nfrom mine import act as good\n"
        "def act(states):\n    chunks = good(states)\n    chunks[states[:, 3] > 0.1] = np.nan\n    return chunks\n"
    )
    quick = "--margin", "0.3", "--score", "success", "--max-episodes", "180"
    assert main(COMMANDS, ["compare", "mine.py:act", str(model), *quick, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "better" and found["a"] == "mine.py:act" and "no_plan_a" not in found
    sys.path.insert(0, str(own))
    try:
        assert main(COMMANDS, ["compare", "half.py:act", "mine.py:act", *quick]) == 1
    finally:
        sys.path.remove(str(own))
    said = capsys.readouterr().out
    assert re.search(r"\nA +\d+ episodes given up for want of a plan: \d+ not finite\.\n", said)


def test_chunks_of_one_answer_have_one_length() -> None:
    first, second = read_chunks([[[1.0]] * 3, [[1.0]] * 4], 2, 1)
    assert not isinstance(first, Fault) and first.shape == (3, 1)
    assert isinstance(second, Fault) and second.kind == MISSHAPEN


def test_settings_have_bounds() -> None:
    for values in ({"timeout": 0}, {"batch": 0}, {"timeout": 3601}):
        with pytest.raises(SettingsError):
            make(AsksPolicies, values)
