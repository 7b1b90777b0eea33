"""Checks of imported episodes, one after another: what is wrong is refused, what may be meant is a warning.

Shapes: T frames of an episode, S state, A action, N episodes.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.npz import LARGEST, count_wrong
from pipeline.data.sources.source import Episode, Source, fault, matching

Floats = NDArray[np.float32]
TOLERANCE = 1e-4  # s between two frames, as LeRobot's own


@dataclass
class Check:
    """The checks of all episodes of a source, and what they found so far."""

    path: Path
    source: Source
    states: Sequence[str]  # keys and groups, whose numbers are put side by side
    actions: Sequence[str]
    horizon: int
    orders: tuple[list[int], list[int]]  # the places in the source of states and of actions: they are put in this order
    limits: Floats  # (2, S + A) least and largest of each number, infinite where there is no limit
    out_of_limits: str  # how a warning calls numbers beyond them
    lengths: "array[int]" = field(default_factory=lambda: array("q"))  # (N,) of all that are kept
    origin: "array[int]" = field(default_factory=lambda: array("q"))  # (N,) their places in the source
    digests: "array[int]" = field(default_factory=lambda: array("Q"))  # (N,)
    short: tuple[int, str] = (0, "")  # episodes, and the first as a warning says it
    beyond: tuple[int, str, int] = (0, "", 0)  # and the number that is beyond its limits there
    frames: int = 0
    range: tuple[Floats, Floats] | None = None  # (S + A,) least and largest

    def episodes(self) -> Iterator[tuple[Floats, Floats]]:
        """The states `(T, S)` and actions `(T, A)` of the episodes that are long enough; raises `DataError`."""
        episodes = 0
        seen, acted = (matching(self.source.features, choices) for choices in (self.states, self.actions))
        for number, episode in enumerate(self.source.read([*self.states, *self.actions])):
            episodes += 1
            name = self.source.name(number)
            for key in acted:
                if (values := episode.values[key]).dtype.kind != "f":
                    raise fault(self.path, f"'{key}' to be continuous", f"{values.dtype} in {name}")
            states = self._floats(name, episode, seen, self.orders[0])
            actions = self._floats(name, episode, acted, self.orders[1])
            self._check_clock(name, episode)
            self.frames += len(states)
            if len(states) < self.horizon:
                self.short = self.short[0] + 1, self.short[1] or f"{name} with {len(states):,}"
                continue
            self._remember(name, number, states, actions)
            yield states, actions
        if (episodes, self.frames) != (self.source.episodes, self.source.frames):
            claimed = f"the {self.source.episodes:,} episodes and {self.source.frames:,} frames that it claims"
            raise fault(self.path, claimed, f"{episodes:,} and {self.frames:,}")
        if not self.lengths:
            raise fault(
                self.path,
                f"episodes of at least {self.horizon:,} frames, the length of a chunk",
                f"{self.short[0]:,} shorter ones, the first {self.short[1]}: choose a smaller --horizon",
            )

    def _floats(self, name: str, episode: Episode, keys: Sequence[str], order: list[int]) -> Floats:
        """Features side by side, finite, in this order."""
        columns = []
        for key in keys:
            values = episode.values[key]
            with np.errstate(over="ignore", invalid="ignore"):  # beyond float32's range counts as infinite
                column = values.astype(np.float32)
            if count_wrong(column):
                row = int(np.flatnonzero(~(np.abs(column) <= LARGEST).all(1))[0])
                raise fault(self.path, f"finite numbers in '{key}'", f"NaN, infinity or more in {name}, frame {row:,}")
            columns.append(column)
        found = columns[0] if len(columns) == 1 else np.concatenate(columns, 1)
        return found if order == sorted(order) else found[:, order]

    def _check_clock(self, name: str, episode: Episode) -> None:
        if (numbers := episode.numbers) is not None:
            wrong = numbers != np.arange(len(numbers))
            if numbers.dtype.kind not in "iu" or wrong.any():
                at = int(np.flatnonzero(wrong)[0]) if wrong.any() else 0
                raise fault(self.path, "frames numbered 0, 1, 2, ... without a gap", f"{numbers[at]} at {at} in {name}")
        if (seconds := episode.seconds) is not None and self.source.rate:
            seconds = seconds.astype(np.float64)
            rounding = 2 * np.spacing(np.abs(seconds[1:]).astype(np.float32)).astype(np.float64)
            good = np.abs(np.diff(seconds) - 1 / self.source.rate) <= TOLERANCE + rounding
            if not (np.isfinite(seconds[0]) and good.all()):
                at = int(np.flatnonzero(~good)[0]) if not good.all() else 0
                expected = f"{1 / self.source.rate:g} s between frames, for {self.source.rate:g} of them a second"
                raise fault(
                    self.path,
                    expected,
                    f"{seconds[at]:g} to {seconds[min(at + 1, len(seconds) - 1)]:g} s at frame {at:,} of {name}",
                )

    def _remember(self, name: str, number: int, states: Floats, actions: Floats) -> None:
        self.lengths.append(len(states))
        self.origin.append(number)
        content = blake2b(np.ascontiguousarray(states).data, digest_size=8)
        content.update(np.ascontiguousarray(actions).data)
        self.digests.append(int.from_bytes(content.digest(), "big"))
        both = [np.concatenate([extreme(states, 0), extreme(actions, 0)]) for extreme in (np.min, np.max)]
        before = self.range or (both[0], both[1])
        self.range = np.minimum(before[0], both[0]), np.maximum(before[1], both[1])
        excess = np.stack([self.limits[0] - both[0], both[1] - self.limits[1]])
        if (excess > 0).any():
            side, at = divmod(int(excess.argmax()), excess.shape[1])
            first = f"{name} with {both[side][at]:g}, the limit is {self.limits[side, at]:g}", at
            self.beyond = self.beyond[0] + 1, *(self.beyond[1:] if self.beyond[0] else first)

    def kept(self) -> NDArray[np.bool_]:
        """Which of the episodes are no copies of an earlier one `(N,)`."""
        first = np.zeros(len(self.digests), bool)
        first[np.unique(np.frombuffer(self.digests, np.uint64), return_index=True)[1]] = True
        return first

    def warnings(self, channels: Sequence[str]) -> list[str]:
        """What may be meant, one line each; `channels` are the names of states and actions `(S + A,)`."""
        found = []
        if self.short[0]:
            found.append(
                f"episodes shorter than a chunk of {self.horizon:,} frames, left out: {self.short[0]:,}, "
                f"the first {self.short[1]}; a smaller --horizon keeps them"
            )
        if not (first := self.kept()).all():
            at = int(np.flatnonzero(~first)[0])
            digests: NDArray[Any] = np.frombuffer(self.digests, np.uint64)
            of = int(np.flatnonzero(digests == digests[at])[0])
            names = [self.source.name(self.origin[each]) for each in (at, of)]
            found.append(
                f"copies of other episodes, left out: {int((~first).sum()):,}, the first {names[0]} of {names[1]}"
            )
        assert self.range is not None
        constant = [name for name, same in zip(channels, self.range[0] == self.range[1], strict=True) if same]
        if constant:
            more = f" and {len(constant) - 10} more" if len(constant) > 10 else ""
            found.append(f"constant in all frames: {', '.join(constant[:10])}{more}")
        if self.beyond[0]:
            found.append(
                f"episodes with {self.out_of_limits}: {self.beyond[0]:,}, the first {self.beyond[1]}, in "
                f"{channels[self.beyond[2]]}"
            )
        if len(self.source.tasks) > 1:
            found.append(
                f"what was to be done differs between episodes ({len(self.source.tasks):,} texts): no model reads it"
            )
        return found
