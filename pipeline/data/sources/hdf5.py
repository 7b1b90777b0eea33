"""Reading HDF5: plain arrays within one file; links and what lies outside it are refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.sources.source import Feature, fault, natural, readable
from pipeline.errors import MissingExtraError
from pipeline.files import MOST_RATIO, MOST_SMALL

SIGNATURE = b"\x89HDF\r\n\x1a\n"
DEEPEST = 10  # groups within groups
NUMBERS = "fiub"  # kinds of arrays


def is_hdf5(path: Path) -> bool:
    """Whether it is a file that begins as HDF5 does."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(SIGNATURE)) == SIGNATURE


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file for reading; what fails in this context is one line."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(f"{path}: h5py is not installed. Install it: pip install -e '.[hdf5]'.") from error
    with readable(path, "an HDF5 file"), h5py.File(path, "r") as file:
        yield file


def child(path: Path, group: Any, name: str) -> Any:
    """Return what is called `name` in the group itself; raises `DataError` for nothing and for links."""
    import h5py

    where = f"{group.name.rstrip('/')}/{name}"
    link = group.get(name, getlink=True)  # not followed
    if link is None:
        raise fault(path, f"'{where}'", f"only {', '.join(sorted(group)[:20]) or 'an empty group'}")
    if not isinstance(link, h5py.HardLink):
        raise fault(path, f"'{where}' in the file itself", "a link: copy the data into one file with h5repack")
    return group[name]


def subgroup(path: Path, group: Any, name: str) -> Any:
    """Return a group within a group."""
    import h5py

    found = child(path, group, name)
    if not isinstance(found, h5py.Group):
        raise fault(path, f"'{found.name}' to be a group", "an array")
    return found


def leaves(path: Path, group: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The arrays at or below `name`, with their keys from there; those of tuples in the order of their numbers."""
    import h5py

    found = child(path, group, name)
    if isinstance(found, h5py.Dataset):
        yield name, checked(path, found)
        return
    if depth == DEEPEST:
        raise fault(path, f"at most {DEEPEST} groups within one another", found.name[:100])
    for each in sorted(found, key=natural):
        for key, array in leaves(path, found, each, depth + 1):
            yield f"{name}/{key}", array


def checked(path: Path, array: Any) -> Any:
    """Return an array after checking that its numbers are in the file, and are as many as it says."""
    if array.is_virtual or array.external:
        raise fault(path, f"'{array.name}' in the file itself", "one that lies in other files")
    if array.shape is None:
        raise fault(path, f"'{array.name}' to be an array", "an empty one")
    stored = array.id.get_storage_size()
    if array.nbytes > MOST_SMALL + MOST_RATIO * stored:
        raise fault(path, f"'{array.name}' to hold what it claims", f"{array.nbytes:,} bytes claimed, {stored:,} there")
    return array


def feature_of(key: str, array: Any) -> Feature | None:
    """Describe numbers of each row; None for pictures, texts and arrays of more axes."""
    if array.dtype.kind not in NUMBERS or array.ndim not in (1, 2):
        return None
    return Feature(key, 1 if array.ndim == 1 else array.shape[1], str(array.dtype))


def rows(path: Path, group: Any, feature: Feature, count: int, more: int = 0) -> NDArray[Any]:
    """Read the first `count` rows `(count, D)` of an array that has so many, or up to `more` of them more."""
    array = group
    for name in feature.key.split("/"):
        array = child(path, array, name)
    found = checked(path, array)
    expected = feature_of(feature.key, found)
    good = expected is not None and expected.size == feature.size and count <= found.shape[0] <= count + more
    if not good:
        size = f"{count:,}{f' or {count + more:,}' if more else ''} rows of {feature.size} numbers"
        raise fault(path, f"'{found.name}' to have {size}", f"{found.dtype} of the shape {found.shape}")
    values: NDArray[Any] = np.asarray(found[:count]).reshape(count, feature.size)
    return values


def number_of(path: Path, group: Any, name: str) -> Any:
    """Return an attribute that holds one number, as Python's."""
    value = group.attrs.get(name)
    if value is None:
        raise fault(path, f"the attribute '{name}' of '{group.name}'", f"only {', '.join(sorted(group.attrs)[:20])}")
    array = np.asarray(value)
    return array.item() if array.size == 1 else value
