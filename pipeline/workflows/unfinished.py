"""Runs that broke off: going on with them, and mending what they left."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.config import LATEST, TrainSettings, make
from pipeline.errors import DataError, SettingsError
from pipeline.methods.method import Method
from pipeline.tracking.journal import ENDED, Journal, journal_of, left_journals
from pipeline.tracking.mirror import MIRROR, Mirror
from pipeline.tracking.run import FAILURE, TrackedRun

GONE = "its process was gone"
LOOK = "'python -m pipeline doctor' lists those that broke off"


@dataclass(frozen=True)
class Unfinished:
    """A run that broke off, with its journal, which this process owns now."""

    journal: Journal
    name: str  # of its files
    settings: TrainSettings
    files: dict[str, str]  # digests of the data that it was trained on

    @property
    def run_id(self) -> str:
        return self.journal.run_id

    def require_same_data(self, digests: dict[str, str]) -> None:
        """Raise `DataError` if the data are others now than when the run was started."""
        for what, digest in digests.items():
            if digest != self.files.get(what):
                raise DataError(
                    f"resume: run {self.run_id} was trained on {what} {str(self.files.get(what))[:12]}, and the file "
                    f"is {digest[:12]} now. Put that file back, or train anew without --resume."
                )


def find_unfinished(method: Method, settings: TrainSettings) -> Unfinished:
    """The run that `settings.resume` names; its own settings count, and others that are asked for are refused.

    Raises `SettingsError` if there is none, if it is of another method, or if a process works on it.
    """
    journal = _latest(method) if settings.resume == LATEST else journal_of(settings.resume)
    if not journal.folder.is_dir():
        raise SettingsError(
            f"resume: expected a run that broke off, found none with the id '{settings.resume}'; {LOOK}."
        )
    if not journal.own():
        raise SettingsError(f"resume: expected a run that nobody works on, found a process at '{settings.resume}'.")
    try:
        return _unfinished(method, settings, journal)
    except BaseException:
        journal.release()
        raise


def can_resume(run_id: str, settings: TrainSettings) -> bool:
    """Whether a run broke off, nobody works on it, and it was started with these settings."""
    journal = journal_of(run_id)
    if not (journal.snapshot.exists() and journal.own()):
        return False
    journal.release()
    return bool((journal.about() or {}).get("settings") == settings.model_dump(mode="json"))


def _unfinished(method: Method, settings: TrainSettings, journal: Journal) -> Unfinished:
    about: dict[str, Any] = journal.about() or {}
    if about.get("method") != method.name:
        raise SettingsError(
            f"resume: expected a run of {method.name}, found one of {about.get('method', 'nothing readable')}: "
            f"'{journal.run_id}'; {LOOK}."
        )
    kept = make(method.settings_type, about["settings"])
    for name, field in type(settings).model_fields.items():
        asked, had = getattr(settings, name), getattr(kept, name)
        if name != "resume" and asked not in (field.default, had):
            raise SettingsError(
                f"resume: run '{journal.run_id}' was started with {name} {had}, found {asked}: a run goes on as it was "
                "started. Leave the setting out, or train anew without --resume."
            )
    return Unfinished(journal, about["name"], kept, about["files"])


def _latest(method: Method) -> Journal:
    left = left_journals()
    for journal in left:
        journal.release()
    fitting = [journal for journal in left if (journal.about() or {}).get("method") == method.name]
    if not fitting:
        raise SettingsError(f"resume: expected a run of {method.name} that broke off, found none; {LOOK}.")
    return fitting[-1]


def end_abandoned(run: TrackedRun, name: str, reason: str, status: str = "FAILED") -> None:
    """End a run whose process is gone, and show the log that it left hidden in the mirror."""
    journal = journal_of(run.run_id)
    if run.journal is None and journal.folder.is_dir() and journal.own():
        run.journal = journal
    mirror = Mirror(name, MIRROR)
    run.tags({FAILURE: reason})
    if mirror.hidden_log.exists():
        mirror.write(f"{status.lower()}: {reason}")
        mirror.publish_log()
        run.file(mirror.log)
    run.end(status, resumable=True)


def say_what_was_left(say: Callable[[str], None]) -> None:
    """Point to `doctor` if processes that died have left runs behind, or something still waits to be delivered."""
    left = left_journals()
    for journal in left:
        journal.release()
    if count := sum(journal.has_waiting or ENDED not in (journal.about() or {}) for journal in left):
        say(f"note: {count} earlier runs were left unfinished or undelivered: 'python -m pipeline doctor' mends them")
