"""A controller behind HTTP: an MLflow scoring server (`mlflow models serve`) of one of our models. Never needs torch.

request   POST URL/invocations  {"inputs": [[number, ...], ...]}          B states, physical units
answer    200                   {"predictions": [[[a], ...], ...]}        B chunks of H actions (A,), physical units
"""

import json
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Lock
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import ArrayLike

from pipeline.errors import PolicyError, one_line
from pipeline.policies.states import Floats, checked_states

LARGEST = 2**20  # bytes of an answer; a chunk of 50 actions takes about one thousand
SECONDS = 10.0  # timeout of each read
START = "Start one with: mlflow models serve -m models:/pi0@champion --env-manager local --port PORT"


@dataclass(frozen=True)
class RemotePolicy:
    """A policy server with the interface of `Policy`. It keeps one connection and sends one request at a time."""

    url: str
    state_dim: int
    action_dim: int
    _connection: HTTPConnection
    _path: str
    _one_at_a_time: Lock = field(default_factory=Lock)

    def act(self, states: ArrayLike) -> Floats:
        """Plan chunks of actions `(B, H, A)` for `states (B, S)`, both in physical units.

        Raises `ValueError` for states that `checked_states` refuses, `PolicyError` if the server is unreachable,
        refuses, or does not answer with plans.
        """
        array = checked_states(self.url, self.state_dim, states)
        if not len(array):  # JSON has no shape of an empty array: plan for another state to get the horizon
            return self.act(np.zeros((1, self.state_dim)))[:0]
        body = json.dumps({"inputs": array.tolist()})
        with self._one_at_a_time:
            status, content = self._post(body)
        if status != 200:
            raise PolicyError(f"{self.url}: expected plans, found status {status}: {_reason(content)}")
        return self._plans(content, len(array))

    def _post(self, body: str) -> tuple[int, bytes]:
        """Return the answer's status and content. Reconnect once: the server may have closed an idle connection."""
        kept = self._connection.sock is not None
        try:
            self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            content = answer.read(LARGEST + 1)
        except (OSError, HTTPException) as error:
            self._connection.close()
            if kept and isinstance(error, ConnectionError):
                return self._post(body)
            found = f"none within {SECONDS:g} s" if isinstance(error, TimeoutError) else one_line(error)[:200]
            raise PolicyError(f"{self.url}: expected an answer of a policy server, found: {found}. {START}") from error
        if len(content) > LARGEST:
            self._connection.close()
            raise PolicyError(f"{self.url}: expected plans, found an answer of more than {LARGEST:,} bytes.")
        return answer.status, content

    def _plans(self, content: bytes, count: int) -> Floats:
        try:
            predictions = json.loads(content)["predictions"]
            with np.errstate(over="ignore"):  # values too large for float32 become infinity, refused below
                actions = np.asarray(predictions, dtype=np.float32)
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            raise PolicyError(
                f'{self.url}: expected {{"predictions": [[[action], ...], ...]}}, found: {_shown(content)}'
            ) from error
        if actions.ndim != 3 or actions.shape[::2] != (count, self.action_dim) or not actions.shape[1]:
            raise PolicyError(
                f"{self.url}: expected predictions of shape ({count}, steps, {self.action_dim}), found {actions.shape}."
            )
        if not np.isfinite(actions).all():
            raise PolicyError(f"{self.url}: expected finite actions, found NaN or infinity.")
        return actions


def connect(url: str, state_dim: int, action_dim: int) -> RemotePolicy:
    """Return a policy at `url`; nothing is sent yet. Raises `PolicyError` if that is not a server's address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        plain = url.isascii() and url.isprintable() and " " not in url
    except ValueError:  # of the port, or of brackets
        parts, host, port, plain = urlsplit(""), None, None, False
    more = parts.query or parts.fragment or parts.username
    if not (host and plain) or parts.scheme not in ("http", "https") or more:
        raise PolicyError(f"policy: expected an address like http://127.0.0.1:5001, found {url[:200]!r}. See --help.")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    path = f"{parts.path.removesuffix('/').removesuffix('/invocations')}/invocations"
    return RemotePolicy(url, state_dim, action_dim, kind(host, port, timeout=SECONDS), path)


def _reason(content: bytes) -> str:
    """Return the server's reason of a refusal: MLflow's `message`, FastAPI's `detail`, or the plain text."""
    try:
        found = json.loads(content)
        return _shown(str(found.get("message") or found["detail"]).encode())
    except (ValueError, KeyError, AttributeError, RecursionError):
        return _shown(content)


def _shown(content: bytes) -> str:
    text = " ".join(content.decode(errors="replace").split())
    return "".join(letter for letter in text[:300] if letter.isprintable()) or "nothing"
