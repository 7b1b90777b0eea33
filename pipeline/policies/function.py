"""A controller that is a Python function: `function(states (B, S)) -> chunks (B, H, A)`. It runs the user's code."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from threading import Lock
from time import monotonic
from typing import Any

import numpy as np

from pipeline.errors import PolicyError, SettingsError, one_line
from pipeline.own_code import import_own, place_of, split_reference
from pipeline.policies.answers import LATE, Chunk, Fault, read_chunks
from pipeline.policies.states import Floats

ONE_AT_A_TIME = Lock()  # functions of a user may share what is not made for two threads, such as a connection


@dataclass(frozen=True)
class FunctionPolicy:
    """A function with the interface of `RemotePolicy`."""

    name: str  # the reference
    action_dim: int
    _where: str
    seconds: float  # for an answer
    _function: Callable[[Floats], Any]

    def chunks(self, states: Floats, horizon: int | None = None) -> list[Chunk]:
        """Plan for `states (B, S)`, which the function gets as a copy.

        An answer after more than `seconds` is late. So is one for which the function raises `TimeoutError`; for all
        else it raises, there is `PolicyError`. A call that does not return cannot be ended.
        """
        try:
            with ONE_AT_A_TIME:
                began = monotonic()
                answer = self._function(states.copy())
                took = monotonic() - began
        except TimeoutError as error:
            return [Fault(LATE, f"expected an answer, found that it is late: {one_line(error)}")] * len(states)
        except (Exception, SystemExit) as error:
            place = place_of(error, self._where)
            raise PolicyError(f"{self.name}{place}: it raised {type(error).__name__}: {one_line(error)}") from error
        if inspect.iscoroutine(answer):
            answer.close()
        elif took > self.seconds:
            late = f"expected an answer in {self.seconds:g} s, found one after {took:.3g} s"
            return [Fault(LATE, late)] * len(states)
        return read_chunks(answer, len(states), self.action_dim, horizon)


def find_function(reference: str, action_dim: int, seconds: float) -> FunctionPolicy:
    """Return the policy of a reference, `module:function` or `path/to/file.py:function`; the code is run.

    An answer may take `seconds`.

    Raises `SettingsError` if there is no such function.
    """
    own = split_reference(reference)
    if own is None:
        raise SettingsError(
            "policy: expected a server's address, module:function or path/to/file.py:function, "
            f"found '{reference}'. See --help."
        )
    return FunctionPolicy(reference, action_dim, own[0], seconds, _import_function(*own))


@cache
def _import_function(where: str, name: str) -> Callable[[Floats], Any]:
    module = import_own("policy", where)
    function = getattr(module, name, None)
    if not callable(function):
        found = type(function).__name__ if hasattr(module, name) else "nothing"
        raise SettingsError(f"policy: expected a function called '{name}' in {where}, found {found} of that name.")
    if isinstance(function, type) or inspect.iscoroutinefunction(function):
        what = "a class" if isinstance(function, type) else "an async function"
        raise SettingsError(
            f"policy: expected a function called '{name}' in {where}, found {what}. Name a function that takes states "
            "(B, S) and returns chunks (B, H, A)."
        )
    found_function: Callable[[np.ndarray], Any] = function
    return found_function
