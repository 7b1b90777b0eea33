"""Reading and writing `.npz` files: whole files only, no pickle, and one clear line per error.

Files that we write carry a digest of all arrays and metadata, which is checked on reading. It detects changes, not
forgery: files without a digest load too.
"""

import json
import math
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError, reason
from pipeline.files import arrays_digest, check_zip, is_file, whole_file

Arrays = dict[str, NDArray[Any]]
METADATA = "metadata"  # the key that holds a JSON object as text
DIGEST = "content_sha256"  # in the metadata, of all but itself
LARGEST = 1e18  # the square of a number still fits into float32
BLOCK = 1 << 20  # numbers that are checked at a time
READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def write_npz(
    path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any], *, compressed: bool = False
) -> None:
    """Write arrays and a metadata object to `path`; the same content gives the same bytes."""
    sealed = {**metadata, DIGEST: _digest(arrays, metadata)}
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        content = {**arrays, METADATA: np.array(json.dumps(sealed, sort_keys=True))}
        (np.savez_compressed if compressed else np.savez)(stream, allow_pickle=False, **content)


@dataclass(frozen=True)
class Pieces:
    """An array that is not in memory: blocks of its rows, in their order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Iterable[NDArray[Any]]


def write_pieces(path: Path, columns: Mapping[str, Pieces], metadata: Mapping[str, Any]) -> None:
    """Write what `write_npz` would, in constant memory: arrays in the order of their names, block by block."""
    digest = sha256()
    text = np.array(_text(metadata))
    whole = {**columns, METADATA: Pieces(text.shape, text.dtype, [text])}  # for the digest, without the digest
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, column in sorted(whole.items()):
            digest.update(f"{name} {column.dtype} {column.shape}".encode())
            if name == METADATA:
                digest.update(text.tobytes())
                continue
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                descr = np.lib.format.dtype_to_descr(column.dtype)
                header = {"descr": descr, "fortran_order": False, "shape": column.shape}
                np.lib.format.write_array_header_1_0(stream, header)
                written = 0
                for block in column.blocks:
                    content = np.ascontiguousarray(block, column.dtype).tobytes()
                    written += len(content)
                    digest.update(content)
                    stream.write(content)
                assert written == math.prod(column.shape) * column.dtype.itemsize
        with archive.open(f"{METADATA}.npy", "w", force_zip64=True) as stream:
            sealed = np.array(json.dumps({**metadata, DIGEST: digest.hexdigest()}, sort_keys=True))
            np.lib.format.write_array(stream, sealed, allow_pickle=False)


def read_npz(path: Path, rebuild: str) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays of `path` and its metadata (empty if it has none).

    Raises `DataError` if the file is missing, truncated, not an npz, changed since we wrote it, a zip bomb, or holds
    Python objects; `rebuild` is the command that makes it, named in the message.
    """
    if not is_file(path):
        raise DataError(
            f"{path}: expected an .npz file, found none. Make it with '{rebuild}' for the same --task and --horizon, "
            "or name another file."
        )
    try:
        check_zip(path)
        with zipfile.ZipFile(path) as archive, warnings.catch_warnings(action="ignore"):  # of old header formats
            arrays = {member.filename.removesuffix(".npy"): _array(archive, member) for member in archive.infolist()}
        metadata = _metadata(arrays.pop(METADATA)) if METADATA in arrays else {}
        if DIGEST in metadata and metadata.pop(DIGEST) != _digest(arrays, metadata):
            raise ValueError(f"it has changed since it was written: its {DIGEST} does not match")
    except Exception as error:  # damage can surface as nearly anything
        raise DataError(
            f"{path}: expected an .npz file of plain arrays, found a damaged or foreign file "
            f"({reason(error).split('. ')[0][:200]}). "
            f"Make it again with '{rebuild}'."
        ) from error
    return arrays, metadata


@dataclass(frozen=True)
class Header:
    """What a member of the zip says of its array."""

    shape: tuple[int, ...]
    fortran: bool  # the first axis varies fastest
    dtype: np.dtype[Any]
    offset: int  # of the numbers, in the member


def read_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Header:
    """Read a header after checking that it claims as many bytes as there are; raises `ValueError`."""
    if not member.filename.endswith(".npy"):
        raise ValueError("a member that is not an array")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in READ_HEADER:
            raise ValueError(f"an array in the .npy format {version}")
        shape, fortran, dtype = READ_HEADER[version](stream)
        offset = stream.tell()
        claimed, held = math.prod(shape) * dtype.itemsize, member.file_size - offset
    if dtype.hasobject:
        raise ValueError("Object arrays are never loaded: they can run code")
    if claimed != held:
        raise ValueError(f"an array that claims {claimed:,} bytes and has {held:,}")
    return Header(shape, fortran, dtype, offset)


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays of `path` from their headers: the numbers are neither read nor checked.

    Raises `DataError` if it is not an npz.
    """
    try:
        with zipfile.ZipFile(path) as archive, warnings.catch_warnings(action="ignore"):
            found = {member.filename: read_header(archive, member).shape for member in archive.infolist()}
    except Exception as error:  # as in `read_npz`
        raise DataError(f"{path}: expected an .npz file of plain arrays, found {reason(error)[:200]}.") from error
    return {name.removesuffix(".npy"): shape for name, shape in found.items() if name != f"{METADATA}.npy"}


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    read_header(archive, member)
    with archive.open(member) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _metadata(array: NDArray[Any]) -> dict[str, Any]:
    """Parse the metadata; raises `ValueError`."""
    metadata = json.loads(array.item()) if array.shape == () and array.dtype.kind == "U" else None
    if not isinstance(metadata, dict):
        raise ValueError(f"'{METADATA}' is not a JSON object as text")
    for name, value in metadata.items():
        if name.endswith("_sha256") and not (isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)):
            raise ValueError(f"'{name[:100]}' in '{METADATA}' is not a sha256")
    return metadata


def _digest(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> str:
    return arrays_digest({**arrays, METADATA: np.array(_text(metadata))})


def _text(metadata: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in metadata.items() if name != DIGEST}, sort_keys=True)


def require(
    path: Path, arrays: Arrays, key: str, shape: tuple[int | None, ...], kind: str, rebuild: str
) -> NDArray[Any]:
    """Return `arrays[key]` after checking it; None in `shape` stands for any length of at least 1.

    `kind` is NumPy's kind letter: "i" for integers; "f" for floating-point, finite, returned as float32. Numbers beyond
    int64, or beyond 1e18, which float32 cannot square, are refused: converting them would change them silently.
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
        if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
            raise DataError(f"{path}: '{key}' must hold numbers of 64 bits with a sign, found {array.max()}.")
        return array
    with np.errstate(over="ignore"):  # beyond float32's range counts as infinite
        array = array.astype(np.float32, copy=False)
    if wrong := count_wrong(array):
        row = next(row for row, values in enumerate(array) if count_wrong(values))
        raise DataError(
            f"{path}: '{key}' must hold finite numbers up to {LARGEST:g}, found {wrong} NaN or infinite, "
            f"the first in row {row}. Remove those rows, or make the file with '{rebuild}'."
        )
    return array


def count_wrong(array: NDArray[np.floating[Any]]) -> int:
    """Count the numbers that are NaN, infinite, or too large to be squared, a block at a time."""
    flat = array.reshape(-1)
    blocks = (flat[first : first + BLOCK] for first in range(0, len(flat), BLOCK))
    return sum(len(block) - int(np.count_nonzero(np.abs(block) <= LARGEST)) for block in blocks)
