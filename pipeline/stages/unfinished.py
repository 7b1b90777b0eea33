"""Unfinished runs: going on with them, and mending what they left."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.config import LATEST, NONE, make
from pipeline.errors import DataError, ResumeError
from pipeline.methods.settings import TrainSettings
from pipeline.names import DEVICE, FAILURE, METHOD, NAME, TOGETHER
from pipeline.stages.say import Say
from pipeline.tasks.registry import is_own
from pipeline.tracking.journal import ENDED, Journal, journal_of, left_journals
from pipeline.tracking.mirror import MIRROR, Mirror
from pipeline.tracking.owner import is_of_elsewhere, owner_elsewhere
from pipeline.tracking.query import fetch
from pipeline.tracking.run import TrackedRun

if TYPE_CHECKING:  # it imports torch
    from pipeline.methods.method import Method

GONE = "its process was gone"
DYING_SECONDS = 20.0  # that a process whose study is gone has to end its run
LOOK = "'python -m pipeline doctor' lists the unfinished ones"


@dataclass(frozen=True)
class Unfinished:
    """An unfinished run, with its journal, which this process owns now."""

    journal: Journal
    name: str  # of its files
    settings: TrainSettings
    files: dict[str, str]  # digests of the data that it was trained on
    code: str  # digest of the code that started it

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


def find_unfinished(method: "Method", settings: TrainSettings, together: bool = False) -> Unfinished:
    """The run that `settings.resume` names, with its journal, ours now; its own settings count.

    Raises `ResumeError` if there is none, if it is of another method, if a process works on it, if other settings are
    asked for than it has, or if it was trained together with others and is to go on alone.
    """
    journal = _latest(method) if settings.resume == LATEST else journal_of(settings.resume)
    if journal is None or not journal.about():
        raise ResumeError(
            f"resume: expected an unfinished run of {method.name}, found none for '{settings.resume}'; {LOOK}."
        )
    if not journal.own():
        raise ResumeError(
            f"resume: expected a run that nobody works on, found a process at '{journal.run_id}'. Wait for it."
        )
    try:
        return _unfinished(method, settings, journal, together)
    except BaseException:
        journal.release()
        raise


@contextmanager
def going_on(method: "Method", settings: TrainSettings, together: bool = False) -> Iterator[Unfinished | None]:
    """The run that `settings.resume` names, see `find_unfinished`, ours until the end; None where it names none."""
    unfinished = None if settings.resume == NONE else find_unfinished(method, settings, together)
    try:
        yield unfinished
    finally:
        if unfinished is not None:
            unfinished.journal.release()  # also of one that was not taken up


def can_resume(run_id: str, settings: TrainSettings, together: bool = False) -> bool:
    """Whether a run is unfinished, nobody works on it, and it was started with these settings, alone or together.

    The device that it was started on counts, not the word for it.
    """
    journal = journal_of(run_id)
    if not (journal.snapshot.exists() and journal.own()):
        return False
    journal.release()
    about = journal.about()
    had, asked = about.get("settings"), settings.model_dump(mode="json")
    if had is None or not _is_same_device(about, settings) or (TOGETHER in about) != together:
        return False
    return bool(had | {"device": ""} == asked | {"device": ""})


def _is_same_device(about: Mapping[str, Any], settings: TrainSettings) -> bool:
    """Whether settings mean the device that a run was begun on: "auto" means one of the others."""
    from pipeline.training.device import find_device  # it imports torch

    if DEVICE not in about:  # an early version began it
        return bool(about["settings"]["device"] == settings.device)
    return bool(about[DEVICE] == find_device(settings).type)


def _unfinished(method: "Method", settings: TrainSettings, journal: Journal, together: bool) -> Unfinished:
    about = journal.about()
    if TOGETHER in about and not together:
        raise ResumeError(
            f"resume: expected a run that was trained alone, found '{journal.run_id}', one of {about[TOGETHER]} that "
            "are trained together. Give the command of its study again: they go on together."
        )
    if about.get(METHOD) != method.name or about.get(ENDED) == "FINISHED":
        raise ResumeError(
            f"resume: expected an unfinished run of {method.name}, found '{journal.run_id}', which is one of "
            f"{about.get(METHOD, 'a study')}{', and finished' if about.get(ENDED) == 'FINISHED' else ''}; {LOOK}."
        )
    kept = make(method.settings_type, about["settings"])
    if is_own(kept.task) and settings.task != kept.task:  # what a file names is not run
        raise ResumeError(
            f"resume: run '{journal.run_id}' is of your own task '{kept.task}', found --task {settings.task}: name it "
            "again by --task, for its code is run."
        )
    if _is_same_device(about, settings):
        kept = kept.model_copy(update={"device": settings.device})
    for name, field in type(settings).model_fields.items():
        asked, had = getattr(settings, name), getattr(kept, name)
        if name != "resume" and asked not in (field.default, had):
            raise ResumeError(
                f"resume: run '{journal.run_id}' was started with {name} {had}, found {asked}: a run goes on as it was "
                "started. Leave the setting out, or train anew without --resume."
            )
    return Unfinished(journal, about[NAME], kept, about["files"], about["code"])


def _latest(method: "Method") -> Journal | None:
    """The youngest unfinished run of a method, of those that were trained alone."""
    found = None
    for journal in left_journals():
        about = journal.about()
        if about.get(METHOD) == method.name and about.get(ENDED) != "FINISHED" and TOGETHER not in about:
            found = journal
    return found


def end_abandoned(run: TrackedRun, name: str, reason: str, status: str = "FAILED") -> bool:
    """End a run whose process is gone, and show the log that it left hidden in the mirror.

    Returns False, and does nothing, if it is not RUNNING, or if a process has it, here or on another machine: one whose
    study is gone ends itself.
    """
    journal = journal_of(run.run_id)
    if run.journal is None and journal.about():
        if not journal.own(DYING_SECONDS):
            return False
        run.journal = journal
    known = fetch(run.client, run.run_id)
    if known.status != "RUNNING" or owner_elsewhere(known) is not None:
        if run.journal:
            run.journal.release()
        return False
    mirror = Mirror(name, MIRROR)
    run.tags({FAILURE: reason})
    if (run.journal is not None or not is_of_elsewhere(known)) and mirror.hidden_log.exists():
        mirror.write(f"{status.lower()}: {reason}")
        mirror.publish_log()
        run.file(mirror.log)
    run.end(status, resumable=run.journal is not None and METHOD in run.journal.about())
    return True


def say_what_was_left(say: Say) -> None:
    """Point to `doctor` if processes that died have left runs behind, or something still waits to be delivered."""
    try:
        count = sum(journal.has_waiting or ENDED not in journal.about() for journal in left_journals())
    except OSError:  # journals that are closed to us are not ours to mend
        return
    if count:
        runs = "run was" if count == 1 else "runs were"
        say(f"note: {count} earlier {runs} left unfinished or undelivered: 'python -m pipeline doctor' mends that")
