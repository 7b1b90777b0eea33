"""The copy of a run's files in `train/`: log, model and loss picture under one unique name. Never read back.

The folders may be symbolic links, to a larger disk for example. In the place of a file a link is never followed: a name
that is taken by one is taken, and one that appears later is replaced by the file.
"""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pipeline.errors import StoreError, reason
from pipeline.files import write_text, writing

MIRROR = Path("train")
KEPT_AT = "TINYPI_KEPT_AT"  # set for a worker on another machine: the host and the folder where its journals are kept
LOGS, MODELS, PICTURES = "logs", "trained_models", "loss_pics"


@dataclass(frozen=True)
class Mirror:
    """A reserved name and the run's growing log. The log is hidden until `publish_log`, which ends the reservation."""

    name: str
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / LOGS / f"{self.name}.txt"

    @property
    def model(self) -> Path:
        return self.folder / MODELS / f"{self.name}.pth"

    @property
    def picture(self) -> Path:
        return self.folder / PICTURES / f"{self.name}.png"

    @property
    def hidden_log(self) -> Path:
        return self.log.with_name(f".{self.log.name}")

    def write(self, line: str) -> None:
        """Add a line to the hidden log, which goes on where a published one ends."""
        if self.log.exists() and not self.hidden_log.exists():
            self.rewrite(self.log.read_text(encoding="utf-8").splitlines())
        with writing(self.log), open(self.hidden_log, "a", encoding="utf-8", opener=_open_no_link) as log:
            log.write(line + "\n")

    def rewrite(self, lines: Sequence[str]) -> None:
        """Begin the hidden log again with these lines."""
        write_text(self.hidden_log, "".join(line + "\n" for line in lines))

    def publish_log(self) -> None:
        """Show the log under its name."""
        if self.hidden_log.exists():
            self.hidden_log.replace(self.log)


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o644)


def reserve(prefix: str, now: datetime, folder: Path = MIRROR) -> Mirror:
    """Reserve `PREFIX_YYYYMMDD_HHMM`, or that with `_2`, `_3`, ... if a run has it; safe between processes.

    Creating the hidden log is the reservation: only one process can. A worker that does not see the folder where its
    files go adds a random part to the name. Raises `StoreError` if `folder` cannot be written.
    """
    stem = f"{prefix}_{now:%Y%m%d_%H%M}"
    if KEPT_AT in os.environ:
        stem += f"_{secrets.token_hex(4)}"
    try:
        for name in (LOGS, MODELS, PICTURES):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    number = 1
    while True:
        mirror = Mirror(stem if number == 1 else f"{stem}_{number}", folder)
        try:
            mirror.hidden_log.touch(exist_ok=False)
        except FileExistsError:
            number += 1
            continue
        except OSError as error:
            raise _unwritable(folder, error) from error
        # A finished run published its files before it gave up the hidden log, so this look misses none.
        if not any(os.path.lexists(kept) for kept in (mirror.log, mirror.model, mirror.picture)):
            return mirror
        mirror.hidden_log.unlink()
        number += 1


def _unwritable(folder: Path, error: OSError) -> StoreError:
    return StoreError(f"{folder}: expected a folder to write the run's files to, found: {reason(error)}.")
