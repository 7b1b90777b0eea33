"""Reading HDF5: plain arrays within one file; links and what lies outside it are refused."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.sources.source import Feature, fault, matching, natural, readable
from pipeline.errors import MissingExtraError
from pipeline.files import MOST_RATIO, MOST_SMALL

SIGNATURE = b"\x89HDF\r\n\x1a\n"
CACHE = 2**20  # bytes of groups and headers that HDF5 keeps; some twenty times as many in memory
LARGEST_CACHE = 2**27  # the most that HDF5 takes
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
        keep(file, CACHE)
        yield file


def keep(file: Any, size: int) -> None:
    """Let HDF5 keep so many bytes of groups and headers at most."""
    cache = file.id.get_mdc_config()
    cache.max_size = cache.initial_size = size
    cache.set_initial_size = True
    file.id.set_mdc_config(cache)


def make_room(group: Any) -> None:
    """Let HDF5 keep the names of a group whose members will be looked up one by one, and little else.

    It reads all names at once, for each look-up anew where they are not kept.
    """
    keep(group.file, LARGEST_CACHE)
    _ = "any name" in group  # looks it up among all names, which are kept from now on
    keep(group.file, min(CACHE + group.file.id.get_mdc_size()[2], LARGEST_CACHE))


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
    """The arrays at or below `name`, with their keys in the group; those of tuples in the order of their numbers."""
    import h5py

    *above, last = name.split("/")
    for each in above:
        group = subgroup(path, group, each)
    found = child(path, group, last)
    if isinstance(found, h5py.Dataset):
        yield name, found
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
    stored = array.id.get_storage_size()
    if array.nbytes > MOST_SMALL + MOST_RATIO * stored:
        raise fault(path, f"'{array.name}' to hold what it claims", f"{array.nbytes:,} bytes claimed, {stored:,} there")
    return array


def feature_of(key: str, array: Any) -> Feature | None:
    """Describe numbers of each row; None for pictures, texts and arrays of more axes."""
    if array.dtype.kind not in NUMBERS or array.ndim not in (1, 2) or array.shape[1:] == (0,):
        return None
    return Feature(key, 1 if array.ndim == 1 else array.shape[1])


def described(path: Path, episode: Any, groups: Iterable[str]) -> tuple[dict[str, Feature], tuple[str, ...]]:
    """The features of an episode at or below these names, and the keys of what holds no numbers of each row."""
    features, ignored = {}, []
    for group in groups:
        for key, array in leaves(path, episode, group):
            if feature := feature_of(key, array):
                checked(path, array)
                features[key] = feature
            else:
                ignored.append(key)
    return features, tuple(ignored)


def values(
    path: Path,
    episode: Any,
    features: Mapping[str, Feature],
    choices: Sequence[str],
    count: int,
    with_last: Sequence[str] = (),
) -> dict[str, NDArray[Any]]:
    """Read the first `count` rows `(count, D)` of the chosen features of an episode, which has these and no others.

    Arrays in the groups `with_last` may have one row more. Raises `DataError` naming the episode.
    """
    found = {}
    for choice in choices:
        arrays = {key: array for key, array in leaves(path, episode, choice) if feature_of(key, array)}
        expected = matching(features, [choice])
        if wrong := arrays.keys() ^ set(expected):
            lacking = wrong - arrays.keys()
            seen = f"no {_list(lacking)}" if lacking else f"also {_list(wrong)}"
            raise fault(path, f"in '{episode.name}' the numbers that the first episode has in '{choice}'", seen)
        for key in expected:
            more = 1 if key.split("/")[0] in with_last else 0
            found[key] = _rows(path, arrays[key], features[key].size, count, more)
    return found


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names, key=natural))[:200]


def _rows(path: Path, array: Any, size: int, count: int, more: int) -> NDArray[Any]:
    found = feature_of(array.name, checked(path, array))
    if found is None or found.size != size or not count <= array.shape[0] <= count + more:
        rows = f"{count:,}{f' or {count + more:,}' if more else ''} rows of {size} numbers"
        raise fault(path, f"'{array.name}' to have {rows}", f"{array.dtype} of the shape {array.shape}")
    return np.asarray(array[:count]).reshape(count, size)


def number_of(path: Path, group: Any, name: str) -> Any:
    """Return an attribute that holds one number, as Python's."""
    value = group.attrs.get(name)
    if value is None:
        raise fault(path, f"the attribute '{name}' of '{group.name}'", f"only {', '.join(sorted(group.attrs)[:20])}")
    array = np.asarray(value)
    return array.item() if array.size == 1 else value
