"""The errors that users see. Each message is one line: where, expected, found, what to do.

`UserError` ends a command with exit code 2 (bad input, nothing was started), `RunError` with exit code 1
(a started run failed).
"""

import os
import re
from errno import errorcode
from urllib.parse import unquote

STORES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")  # their addresses may hold a password
NUMBER = re.compile(r"\[[Ee]rrno -?\d+\] ")  # of an error of the system, before its text
SHORTEST_SECRET = 4  # characters; a shorter one would be found in any text


class UserError(ValueError):
    """The input is invalid; no work was started."""


class SettingsError(UserError):
    """A setting is unknown, of the wrong type or out of range."""


class ResumeError(SettingsError):
    """A run cannot be gone on with: somebody works on it, it is gone, or it was begun otherwise."""


class DataError(UserError):
    """Trajectories or training pairs are missing, damaged, or do not fit the settings."""


class TokenizerError(UserError):
    """A tokenizer file is missing or damaged, or does not fit its chunks."""


class CheckpointError(UserError):
    """A model file is missing, damaged, hostile or of another kind."""


class PolicyError(UserError):
    """A policy server is unreachable, refuses, or does not answer with plans."""


class MissingExtraError(UserError):
    """A package that only some commands need is not installed."""


class StoreError(UserError):
    """The MLflow tracking store cannot be reached or opened."""


class LockError(UserError):
    """A file cannot be locked."""


class RunError(RuntimeError):
    """A run that was started could not be finished."""


class DivergedError(RunError):
    """A training, or the plans of what it left, became infinite or no number. It would again."""


class WriteError(RunError):
    """A file could not be written: a full disk, a folder that is read-only."""


def one_line(error: BaseException) -> str:
    """Return the message of `error` as one line without secrets, to quote a library's error in one of ours."""
    return without_secrets(NUMBER.sub("", " ".join(str(error).split()))) or type(error).__name__


def reason(error: BaseException) -> str:
    """Return why a file or an address that our message names could not be used: it is not named a second time."""
    if isinstance(error, OSError) and error.errno and error.errno in errorcode:
        said = os.strerror(error.errno)  # its own text may be a library's, with the name
        return f"{said[:1].lower()}{said[1:]}"
    return one_line(error)


def shown_uri(uri: str) -> str:
    """The address of a store or server as others may read it: without user, password and query."""
    scheme, mark, rest = uri.partition("://")
    if not mark or rest.startswith("/"):  # a file
        return uri
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"


def without_secrets(text: str) -> str:
    """A text as others may read it: the passwords in the addresses of the stores are left out."""
    for uri in filter(None, map(os.environ.get, STORES)):
        shown = shown_uri(uri)
        if shown == uri:
            continue
        user = uri.partition("://")[2].rpartition("@")[0]
        query = uri.rpartition("@")[2].partition("?")[2]
        password = user.partition(":")[2]
        text = text.replace(uri, shown).replace(f"{user}@", "") if user else text.replace(uri, shown)
        for secret in (query, password, unquote(password)):
            if len(secret) >= SHORTEST_SECRET:
                text = text.replace(secret, "***")
    return text
