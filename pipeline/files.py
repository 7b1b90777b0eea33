"""Files that appear whole or not at all, and their digests."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it takes the name `path` only if the body succeeds.

    What stood under `path` before stays readable until then, and stays for good if the body raises.
    The temporary file is hidden (leading dot), keeps the ending of `path`, and is removed on failure.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)  # mkstemp gives 0600; results are to be read by others
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """Return the sha256 of the file's bytes as 64 hex digits (the same as `sha256sum` prints)."""
    return sha256(path.read_bytes()).hexdigest()
