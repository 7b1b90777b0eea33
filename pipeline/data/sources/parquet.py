"""Reading parquet: columns of numbers, a block of rows at a time."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.sources.source import fault

ROWS = 4096  # that are decoded at a time


def blocks_of(file: Path, sizes: Mapping[str, int], count: int | None = None) -> Iterator[dict[str, NDArray[Any]]]:
    """Read columns of a parquet file, a block of rows at a time: `(rows, D)` by name.

    What the file claims is checked before it is decoded: `count` rows, and D numbers in each.
    """
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file, buffer_size=1 << 16) as stream:
        claimed = stream.metadata.num_rows
        if count is not None and claimed != count:
            raise fault(file, f"{count:,} frames, as meta/episodes says", f"{claimed:,}")
        if lacking := [key for key in sizes if key not in stream.schema_arrow.names]:
            raise fault(file, f"the column '{lacking[0]}'", f"only {', '.join(stream.schema_arrow.names)[:300]}")
        _check_sizes(file, stream.metadata, sizes)
        done = 0
        for batch in stream.iter_batches(ROWS, columns=[*sizes], use_threads=False):
            done += len(batch)
            yield {key: _numbers(file, key, batch.column(key), size) for key, size in sizes.items()}
        if done != claimed:
            raise fault(file, f"the {claimed:,} rows that it claims", f"{done:,}")


def _check_sizes(file: Path, metadata: Any, sizes: Mapping[str, int]) -> None:
    """Refuse lists of other lengths by the counts of each group of rows."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            key = column.path_in_schema.split(".list.")[0]
            if key in sizes and column.num_values != group.num_rows * sizes[key]:
                rows = f"{group.num_rows:,} rows of {sizes[key]} numbers in '{key}'"
                raise fault(file, rows, f"{column.num_values:,} numbers")


def _numbers(file: Path, key: str, column: Any, size: int) -> NDArray[Any]:
    """Return a column of numbers, or of lists of `size` of them, as `(rows, size)`."""
    import pyarrow

    values = column
    if lists := isinstance(column, pyarrow.ListArray | pyarrow.LargeListArray | pyarrow.FixedSizeListArray):
        values = column.flatten()
    kind = values.type
    if not (pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind) or pyarrow.types.is_boolean(kind)):
        raise fault(file, f"'{key}' to hold numbers", kind)
    if column.null_count or values.null_count:
        raise fault(file, f"'{key}' to hold numbers", "rows without one")
    lengths = {size} if not lists else set(column.value_lengths().unique().to_pylist())
    if lengths != {size} or (not lists and size != 1):
        raise fault(file, f"'{key}' to have {size} numbers in each row", f"{sorted(lengths)[:5] if lists else 1}")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), size)
