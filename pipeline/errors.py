"""The errors that users see. Each message is one line: where, expected, found, what to do.

`UserError` ends a command with exit code 2 (bad input, nothing was started), `RunError` with exit code 1
(a started run failed).
"""


class UserError(ValueError):
    """The input is invalid; no work was started."""


class SettingsError(UserError):
    """A setting is unknown, of the wrong type or out of range."""


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


class RunError(RuntimeError):
    """A run that was started could not be finished."""


class WriteError(RunError):
    """A file could not be written: a full disk, a folder that is read-only."""


def one_line(error: BaseException) -> str:
    """Return the message of `error` as one line, to quote a library's error in one of ours."""
    return " ".join(str(error).split()) or type(error).__name__
