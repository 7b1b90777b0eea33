"""A controller behind HTTP: `mlflow models serve` of one of our models, or any server that answers so. Needs no torch.

The protocol, with limits and errors, is written down in docs/how-to/foreign_policy.md:

request   POST URL/invocations  {"inputs": [[number, ...], ...]}          B states, physical units
answer    200                   {"predictions": [[[a], ...], ...]}        B chunks of H actions (A,), physical units
"""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection, IncompleteRead
from threading import Event, Lock, Timer
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import ArrayLike

from pipeline.errors import PolicyError, reason, shown_uri
from pipeline.policies.answers import LATE, UNDECODABLE, Chunk, Fault, read_chunks, require_chunks, shown
from pipeline.policies.states import Floats, checked_states

LARGEST = 2**20  # bytes of an answer; a chunk of 50 actions takes about one thousand
SECONDS = 10.0  # for connecting, and for an answer from the request to its last byte
START = "Start one with: mlflow models serve -m models:/pi0@champion --env-manager local --port PORT"


@dataclass(frozen=True)
class RemotePolicy:
    """A policy server with the interface of `Policy`. It keeps one connection and sends one request at a time."""

    url: str
    state_dim: int
    action_dim: int
    seconds: float  # for an answer
    _connection: HTTPConnection
    _path: str
    _one_at_a_time: Lock = field(default_factory=Lock)

    @property
    def name(self) -> str:
        """The address."""
        return self.url

    def act(self, states: ArrayLike) -> Floats:
        """Plan chunks of actions `(B, H, A)` for `states (B, S)`, both in physical units.

        Raises `ValueError` for states that `checked_states` refuses, `PolicyError` if the server is unreachable,
        refuses, or does not answer with plans.
        """
        array = checked_states(self.url, self.state_dim, states)
        if not len(array):  # JSON has no shape of an empty array: plan for another state to get the horizon
            return self.act(np.zeros((1, self.state_dim)))[:0]
        return require_chunks(self.url, self.chunks(array))

    def chunks(self, states: Floats, horizon: int | None = None) -> list[Chunk]:
        """Ask for plans for one or more `states (B, S)`: a chunk, or a fault, for each; see `read_chunks`.

        Raises `PolicyError` if the server is unreachable or refuses: these are no answers of a policy.
        """
        body = json.dumps({"inputs": states.tolist()})
        with self._one_at_a_time:
            answer = self._post(body)
        if isinstance(answer, Fault):
            return [answer] * len(states)
        status, content = answer
        if status != 200:
            raise PolicyError(f"{self.url}: expected plans, found status {status}: {_reason(content)}")
        try:
            predictions = json.loads(content)["predictions"]
        except (ValueError, TypeError, KeyError, RecursionError):
            found = shown(content.decode(errors="replace"))
            wrong = Fault(UNDECODABLE, f'expected {{"predictions": [[[action], ...], ...]}}, found: {found}')
            return [wrong] * len(states)
        return read_chunks(predictions, len(states), self.action_dim, horizon)

    def _post(self, body: str) -> tuple[int, bytes] | Fault:
        """Return the answer's status and content. Reconnect once: the server may have closed an idle connection."""
        kept = self._connection.sock is not None
        late = Fault(LATE, f"expected an answer of a policy server, found none within {self.seconds:g} s")
        too_late = Event()
        if not kept:
            self._connect()
        try:
            with self._deadline(too_late):
                self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
                answer = self._connection.getresponse()
                content = answer.read(LARGEST + 1)
            if answer.length and len(content) <= LARGEST:
                raise IncompleteRead(content, answer.length)
        except (OSError, HTTPException) as error:
            self._connection.close()
            if too_late.is_set() or isinstance(error, TimeoutError):
                return late
            if kept and isinstance(error, ConnectionError):
                return self._post(body)
            raise self._away(error) from error
        if too_late.is_set():  # what ends with its connection looks whole
            self._connection.close()
            return late
        if len(content) > LARGEST:
            self._connection.close()
            raise PolicyError(f"{self.url}: expected plans, found an answer of more than {LARGEST:,} bytes.")
        return answer.status, content

    def _connect(self) -> None:
        try:
            self._connection.connect()
            self._connection.sock.settimeout(self.seconds)
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise self._away(error) from error

    def _away(self, error: Exception) -> PolicyError:
        found = f"none within {SECONDS:g} s" if isinstance(error, TimeoutError) else reason(error)[:200]
        return PolicyError(f"{self.url}: expected an answer of a policy server, found: {found}. {START}")

    @contextmanager
    def _deadline(self, too_late: Event) -> Iterator[None]:
        """End the connection if the body takes longer than `seconds`: a socket's timeout is for each read alone."""
        connected = self._connection.sock

        def end() -> None:
            too_late.set()
            with suppress(OSError):
                socket.socket.shutdown(connected, socket.SHUT_RDWR)  # also of TLS, whose own would wait for the reader

        timer = Timer(self.seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def connect(url: str, state_dim: int, action_dim: int, seconds: float = SECONDS) -> RemotePolicy:
    """Return a policy at `url` that has `seconds` for an answer; nothing is sent yet.

    Raises `PolicyError` if that is not a server's address.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        plain = url.isascii() and url.isprintable() and " " not in url
    except ValueError:  # of the port, or of brackets
        parts, host, port, plain = urlsplit(""), None, None, False
    more = parts.query or parts.fragment or parts.username
    if not (host and plain) or parts.scheme not in ("http", "https") or more:
        raise PolicyError(
            f"policy: expected an address like http://127.0.0.1:5001, found {shown_uri(url)[:200]!r}"
            f"{' with a user' if parts.username else ''}. See --help."
        )
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    path = f"{parts.path.removesuffix('/').removesuffix('/invocations')}/invocations"
    return RemotePolicy(url, state_dim, action_dim, seconds, kind(host, port, timeout=SECONDS), path)


def _reason(content: bytes) -> str:
    """Return the server's reason of a refusal: MLflow's `message`, FastAPI's `detail`, or the plain text."""
    text = content.decode(errors="replace")
    try:
        found = json.loads(content)
        return shown(str(found.get("message") or found["detail"]))
    except (ValueError, KeyError, AttributeError, RecursionError):
        return shown(text)
