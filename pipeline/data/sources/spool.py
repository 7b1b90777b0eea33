"""Episodes on their way from a source to our files: numbers in two plain files, read again a block at a time.

Shapes: F frames of all episodes, N episodes, P pairs of a block, H horizon, S state, A action.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.npz import Pieces, write_pieces

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
BLOCK = 1 << 16  # frames that are in memory at a time, or those of one episode
FLOAT, INT = np.dtype(np.float32), np.dtype(np.int32)


@dataclass(frozen=True)
class Spool:
    """The episodes that were spooled, without those to leave out."""

    files: tuple[Path, Path]  # states and actions
    sizes: tuple[int, int]  # S, A
    first: Ints  # (N,) the frame each begins with
    lengths: Ints  # (N,)

    def blocks(self) -> Iterator[slice]:
        """Episodes that lie side by side, so many that a block is not too long."""
        start = 0
        while start < len(self.lengths):
            stop, frames = start + 1, int(self.lengths[start])
            while stop < len(self.lengths) and self.first[stop] == self.first[start] + frames:
                if frames + self.lengths[stop] > BLOCK:
                    break
                frames += int(self.lengths[stop])
                stop += 1
            yield slice(start, stop)
            start = stop

    def read(self, which: int, part: slice) -> Floats:
        """States (0) or actions (1) of a block `(F, S)`, `(F, A)`."""
        size, count = self.sizes[which], int(self.lengths[part].sum())
        offset = int(self.first[part.start]) * size * FLOAT.itemsize
        return np.fromfile(self.files[which], FLOAT, count * size, offset=offset).reshape(count, size)

    def rows(self, which: int) -> Iterator[Floats]:
        """States (0) or actions (1) of all blocks."""
        for part in self.blocks():
            yield self.read(which, part)

    def starts(self, part: slice, horizon: int, every: int) -> tuple[Ints, Ints]:
        """The pairs of a block: the number of its episode and the frame in it, each `(P,)`."""
        counts = (self.lengths[part] - horizon) // every + 1
        trajectory = np.repeat(np.arange(part.start, part.stop), counts)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        return trajectory, (np.arange(len(trajectory)) - before) * every


def spool(folder: Path, episodes: Iterable[tuple[Floats, Floats]], done: Callable[[int], None]) -> tuple[Path, Path]:
    """Write all episodes to two files in the folder; `done` is told how many."""
    files = folder / "states", folder / "actions"
    with files[0].open("wb") as states, files[1].open("wb") as actions:
        for number, (seen, acted) in enumerate(episodes, 1):
            states.write(np.ascontiguousarray(seen).data)
            actions.write(np.ascontiguousarray(acted).data)
            if number % 100 == 0:
                done(number)
    return files


def write_trajectories(path: Path, source: Spool, metadata: dict[str, Any]) -> None:
    """Write the record of the episodes: `(N, T, D)` if all are of one length, else end to end with `episode_ends`."""
    length, count = int(source.lengths[0]), len(source.lengths)
    equal = bool((source.lengths == length).all())
    leading = (count, length) if equal else (int(source.lengths.sum()),)
    columns = {
        name: Pieces((*leading, source.sizes[which]), FLOAT, source.rows(which))
        for name, which in (("states", 0), ("actions", 1))
    }
    if not equal:
        ends = np.cumsum(source.lengths)
        columns["episode_ends"] = Pieces(ends.shape, ends.dtype, [ends])
    write_pieces(path, columns, metadata)


def write_pairs(path: Path, source: Spool, horizon: int, every: int, metadata: dict[str, Any]) -> int:
    """Write the pairs that `save_action_pairs` would, and return their number. No chunk leaves its episode."""
    count = int(((source.lengths - horizon) // every + 1).sum())
    size = max(1, BLOCK // horizon)  # pairs at a time

    def frames(which: int, after: Ints) -> Iterator[Floats]:
        """For each pair the frames `after` its start, `(P, len(after), D)`."""
        for part in source.blocks():
            values = source.read(which, part)
            trajectory, step = source.starts(part, horizon, every)
            place = source.first[trajectory] - source.first[part.start] + step
            for first in range(0, len(place), size):
                yield values[place[first : first + size, None] + after]

    def origin(which: int) -> Iterator[Ints]:
        return (source.starts(part, horizon, every)[which] for part in source.blocks())

    state_dim, action_dim = source.sizes
    shape = (count, horizon) if action_dim == 1 else (count, horizon, action_dim)
    columns = {
        "state": Pieces((count, state_dim), FLOAT, frames(0, np.zeros(1, np.int64))),
        "action_chunk": Pieces(shape, FLOAT, frames(1, np.arange(horizon))),
        "trajectory": Pieces((count,), INT, origin(0)),
        "step": Pieces((count,), INT, origin(1)),
    }
    write_pieces(path, columns, metadata)
    return count
