"""Reading and writing `.npz` files: whole files only, no pickle, and every fault as one clear line."""

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, one_line
from pipeline.files import whole_file

Arrays = dict[str, NDArray[Any]]
METADATA = "metadata"  # the key that holds a JSON object as text


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> None:
    """Write arrays and a metadata object to `path`; the same content gives the same bytes."""
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        content = {**arrays, METADATA: np.array(json.dumps(metadata, sort_keys=True))}
        np.savez(stream, allow_pickle=False, **content)


def read_npz(path: Path, rebuild: str) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays of `path` and its metadata (empty if it has none).

    Raises `DataError` if the file is missing, truncated, not an npz, or holds Python objects;
    `rebuild` is the command that makes it, named in the message.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected an .npz file, found none. Make it with '{rebuild}', or name another file.")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("a single .npy array")
        with archive:
            arrays = {key: archive[key] for key in archive.files}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("a member that is not an array")
        metadata = json.loads(str(arrays.pop(METADATA))) if METADATA in arrays else {}
        if not isinstance(metadata, dict):
            raise ValueError(f"'{METADATA}' is not a JSON object")
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: expected an .npz file of plain arrays, found a damaged or foreign file "
            f"({one_line(error).split('. ')[0]}). "
            f"Make it again with '{rebuild}'."
        ) from error
    return arrays, metadata


def require(
    path: Path, arrays: Arrays, key: str, shape: tuple[int | None, ...], kind: str, rebuild: str
) -> NDArray[Any]:
    """Return `arrays[key]` after checking it; None in `shape` stands for any length of at least 1.

    `kind` is NumPy's kind letter: "i" for integers; "f" for floating-point, finite, returned as float32.
    """
    if key not in arrays:
        raise DataError(f"{path}: expected the key '{key}', found only {sorted(arrays)}. Make it with '{rebuild}'.")
    array = arrays[key]
    wanted = "(" + ", ".join("N" if length is None else str(length) for length in shape) + ")"
    fits = array.ndim == len(shape) and all(
        found == length if length is not None else found >= 1 for found, length in zip(array.shape, shape, strict=True)
    )
    if not fits:
        raise DataError(f"{path}: '{key}' must have the shape {wanted}, found {array.shape}. Make it with '{rebuild}'.")
    if array.dtype.kind not in {"i": "iu", "f": "f"}[kind]:
        name = {"i": "integers", "f": "floating-point numbers"}[kind]
        raise DataError(f"{path}: '{key}' must hold {name}, found {array.dtype}. Make it with '{rebuild}'.")
    if kind == "i":
        return array
    with np.errstate(over="ignore"):  # beyond float32's range counts as infinite
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise DataError(
            f"{path}: '{key}' must hold finite numbers, found {int((~np.isfinite(array)).sum())} NaN or infinite, "
            f"the first in row {row}. Remove those rows, or make the file with '{rebuild}'."
        )
    return array
