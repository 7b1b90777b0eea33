"""Arrays in an `.npz` file: all episodes of one length, or laid end to end with `episode_ends`.

Shapes: N episodes, T frames of one, F frames of all, D numbers of a frame.
"""

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.npz import METADATA, Header, read_header
from pipeline.data.sources.source import Episode, Feature, Format, Source, fault, matching, readable
from pipeline.data.trajectories import check_ends
from pipeline.files import check_zip

EXPECTED = "an .npz file of arrays"
ENDS = "episode_ends"
NUMBERS = "fiub"


def recognises(path: Path) -> bool:
    """Whether it is a file that ends in `.npz`."""
    return path.is_file() and path.suffix == ".npz"


def open_npz(path: Path, keys: Sequence[str]) -> Source:
    """Read the shapes of all arrays, and the ends of the episodes; raises `DataError`."""
    if not path.is_file():
        raise fault(path, EXPECTED, "none")
    with readable(path, EXPECTED), zipfile.ZipFile(path) as archive:
        check_zip(path)
        headers = {
            member.filename.removesuffix(".npy"): read_header(archive, member)
            for member in archive.infolist()
            if member.filename.endswith(".npy") and member.filename != f"{METADATA}.npy"
        }
        ends = _read_whole(archive, ENDS) if ENDS in headers else None
    if ends is not None:
        if ends.ndim != 1 or ends.dtype.kind not in "iu" or not len(ends) or int(ends.max()) > np.iinfo(np.int64).max:
            raise fault(path, f"'{ENDS}' to be whole numbers (N,)", f"{ends.dtype} of the shape {ends.shape}")
        ends = ends.astype(np.int64)
        check_ends(path, ends, int(ends[-1]))
    lengths, features = _features(path, headers, ends, keys)

    return Source(
        format="npz",
        features=features,
        ignored=tuple(key for key in headers if key not in features and key != ENDS),
        episodes=len(lengths),
        frames=int(lengths.sum()),
        name="episode {}".format,
        files=(path,),
        read=partial(_read, path, headers, features, lengths),
    )


def _read(
    path: Path,
    headers: Mapping[str, Header],
    features: Mapping[str, Feature],
    lengths: NDArray[np.int64],
    choices: Sequence[str],
) -> Iterator[Episode]:
    with readable(path, EXPECTED), zipfile.ZipFile(path) as archive, ExitStack() as stack:
        keys = matching(features, choices)
        columns = {key: _Rows(archive, key, headers[key], features[key].size, stack) for key in keys}
        for count in lengths.tolist():
            yield Episode({key: column.take(count) for key, column in columns.items()})


def _features(
    path: Path, headers: dict[str, Header], ends: NDArray[np.int64] | None, keys: Sequence[str]
) -> tuple[NDArray[np.int64], dict[str, Feature]]:
    """The lengths of the episodes `(N,)`, and the arrays that have a row for each frame.

    Without `ends` the arrays `(N, T, D)` that are called as in `keys` tell N and T; others may be of anything else.
    """
    for key in matching(headers, keys):
        if headers[key].dtype.kind not in NUMBERS:
            raise fault(path, f"numbers in '{key}'", str(headers[key].dtype))
    numeric = {
        key: header
        for key, header in headers.items()
        if header.dtype.kind in NUMBERS and key != ENDS and 0 not in header.shape and header.shape
    }
    if ends is None:
        numeric = {key: header for key, header in numeric.items() if len(header.shape) == 3}
        meant = [key for key in matching(headers, keys) if len(headers[key].shape) == 3] or [*numeric]
        leading = {headers[key].shape[:2] for key in meant}
        count, length = next(iter(leading)) if len(leading) == 1 else (0, 0)
        numeric = {key: header for key, header in numeric.items() if header.shape[:2] == (count, length)}
        lengths = np.full(count, length, dtype=np.int64)
        size = 2
    else:
        numeric = {key: header for key, header in numeric.items() if header.shape[0] == ends[-1]}
        lengths, size = np.diff(ends, prepend=0), 1
    if not len(lengths) or not numeric:
        found = ", ".join(f"{key} {header.shape}" for key, header in headers.items())[:300] or "nothing"
        raise fault(
            path,
            f"arrays (N, T, D) that agree in N and T, or arrays of as many rows as the last of '{ENDS}'",
            found,
        )
    features = {
        key: Feature(key, header.shape[size] if len(header.shape) > size else 1)
        for key, header in numeric.items()
        if len(header.shape) <= size + 1
    }
    return lengths, features


class _Rows:
    """Rows of a member, one episode after another: read on the way, or whole where columns lie end to end."""

    def __init__(self, archive: zipfile.ZipFile, key: str, header: Header, size: int, stack: ExitStack) -> None:
        self.dtype, self.size = header.dtype, size
        self.total = math.prod(header.shape) // size
        self.array = _read_whole(archive, key).reshape(-1, size) if header.fortran else None
        self.stream: IO[bytes] = stack.enter_context(archive.open(f"{key}.npy"))
        self.stream.read(header.offset)
        self.done = 0

    def take(self, count: int) -> NDArray[Any]:
        first, self.done = self.done, self.done + count
        if self.array is not None:
            return self.array[first : self.done]
        wanted = count * self.size * self.dtype.itemsize
        content = self.stream.read(wanted)
        if len(content) < wanted or (self.done == self.total and self.stream.read(1)):  # its end is checked there
            raise ValueError("an array of another length than it claims")
        return np.frombuffer(content, self.dtype).reshape(count, self.size)


def _read_whole(archive: zipfile.ZipFile, key: str) -> NDArray[Any]:
    with archive.open(f"{key}.npy") as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


NPZ = Format(
    about="a file .npz with states and actions",
    recognises=recognises,
    open=open_npz,
    state=("states", "state", "observations", "obs"),
    action=("actions", "action"),
)
