"""FAST: a chunk of actions as a short sequence of tokens (Pertsch et al. 2025, arXiv 2501.09747).

    chunk (H, A) --standardise, DCT-II per dimension--> coefficients --x scale, round--> integers (H*A,) --BPE--> tokens

Actions are standardised a dimension by mean and deviation of the training split, as those of all methods are: so scales
mean the same for any task and any unit, and no dimension is coarser than another. (The paper scales by quantiles. These
coincide if an action is nearly always the same, such as a gripper's; a deviation is zero for constants only.)

The lowest frequencies may have a finer scale than the others, because an unstable system integrates their rounding
errors. Their integers are never merged: after a token that could have been merged with the next integer, this integer
is impossible, so its expectation would be biased. The paper has one scale for all and merges anywhere (`fine = 0`).
Without the DCT and without merges, this is plain binning, one token per action (as in RT-2, Brohan et al. 2023, arXiv
2307.15818): the baseline.

Integers are flattened lowest frequency first across dimensions. Byte-pair encoding (the `tokenizers` library) works
on them as one-character symbols. Every integer of the training range is a symbol, so no chunk is unknown; a
coefficient outside the range is clipped to it, and counted. Encoding loses only the rounding. When a chunk is generated
token by token, `fits` gives the tokens that may come next: those that fit into the chunk, with integers within the
training split's range of these coefficients. A network gives every token some probability.

`fit.py` fits a tokenizer, `stored.py` reads one.

Shapes: N chunks, H horizon, A action, C = H*A coefficients, V vocabulary, L tokens.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct, idct
from tokenizers import Tokenizer

from pipeline.data.normalisation import Normalisation
from pipeline.errors import TokenizerError
from pipeline.files import write_text

BOS, EOS, PAD = 0, 1, 2
SPECIALS = ("[BOS]", "[EOS]", "[PAD]")
UNKNOWN = "[UNK]"  # only in the reference system's tokenizers; ours knows every integer
FIRST_SYMBOL = 0x4E00  # the code point of the lowest integer; a long range of plain letters follows
BLOCK = 10_000  # chunks that are encoded at a time
MAX_ALPHABET = 20_000  # the length of that range
MAX_CHUNK = 100_000  # numbers in a chunk
MAX_INTEGER = 2**53  # float64 is exact up to here
FORMAT = "tinypi-fast-2"
IN_OWN_UNITS = "tinypi-fast-1"  # the format without mean and deviation: actions are in their own units
REBUILD = "python -m pipeline tokenize"

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class FastTokenizer:
    """A fitted tokenizer. `pieces[id]` are the integers that a token encodes; specials encode none."""

    scale: float  # steps per standard unit
    actions: Normalisation  # of the training split; the identity in files of `IN_OWN_UNITS`
    horizon: int
    action_dim: int
    low: int  # the alphabet: integers low..high
    high: int
    bpe: Tokenizer
    fine_scale: float = 1.0  # of the `fine` lowest frequencies of each dimension
    fine: int = 0
    frequencies: bool = True  # integers are coefficients of the DCT; otherwise they are actions
    unmerged: int = 0  # number of first integers of a chunk that are never merged
    ranges: Ints | None = None  # (C, 2), lowest and highest integer of each coefficient in the training split

    @property
    def coefficients(self) -> int:
        """C, the number of integers in a chunk."""
        return self.horizon * self.action_dim

    @property
    def vocabulary(self) -> int:
        """V, specials included."""
        return int(self.bpe.get_vocab_size())

    @property
    def summary(self) -> str:
        """Return the settings as text."""
        if not self.frequencies:
            return f"bins, {self.scale:g} per standard unit"
        fine = f", {self.fine_scale:g} for the {self.fine} lowest frequencies" if self.fine else ""
        return f"scale {self.scale:g}{fine}, vocabulary {self.vocabulary}"

    @cached_property
    def pieces(self) -> list[tuple[int, ...]]:
        """The integers of each token id, `V` tuples."""
        names = [self.bpe.id_to_token(token) or "" for token in range(self.vocabulary)]
        shift = self.low - FIRST_SYMBOL
        return [() if name in (*SPECIALS, UNKNOWN) else tuple(ord(symbol) + shift for symbol in name) for name in names]

    @cached_property
    def lengths(self) -> Ints:
        """The number of coefficients of each token id, `(V,)`; 0 for specials."""
        return np.array([len(piece) for piece in self.pieces])

    @cached_property
    def first(self) -> Ints:
        """The first integer of each token id, `(V,)`; 0 for specials."""
        return np.array([piece[0] if piece else 0 for piece in self.pieces])

    @cached_property
    def fits(self) -> NDArray[np.bool_]:
        """The tokens that may come next when r coefficients are missing, for r = 0..C: `(C + 1, V)`.

        Excluded are tokens that overfill the chunk, tokens of several integers among the unmerged ones, integers out of
        their coefficient's range, and specials.
        """
        missing = np.arange(self.coefficients + 1)[:, None]
        alone = self.coefficients - missing < self.unmerged
        fits = (self.lengths > 0) & (self.lengths <= np.where(alone, np.minimum(missing, 1), missing))
        if self.ranges is not None:
            low, high = self.ranges.T[..., None]
            for place in range(int(self.lengths.max())):  # of an integer in its token
                long = np.flatnonzero(self.lengths > place)
                integers = np.array([self.pieces[token][place] for token in long])
                outside = (integers < low[place:]) | (integers > high[place:])
                fits[self.coefficients - np.arange(len(outside))[:, None], long] &= ~outside
        return fits

    @cached_property
    def steps(self) -> NDArray[np.float64]:
        """Steps per standard unit of each frequency, `(H, 1)`."""
        return steps_of(self.scale, self.fine_scale, self.fine, self.horizon)

    @cached_property
    def digest(self) -> str:
        """sha256 of the tokenizer's JSON text without its own field `sha256`, 64 hex digits."""
        return sha256(_json(self._fields()).encode()).hexdigest()

    def quantise(self, chunks: Floats) -> tuple[Ints, int]:
        """Turn `chunks (N, H, A)` in physical units into integers `(N, C)` and the count of clipped ones."""
        integers = to_integers(self.actions.apply(chunks), self.steps, self.frequencies)
        clipped = integers.clip(self.low, self.high)
        return clipped, int((clipped != integers).sum())

    def dequantise(self, integers: Ints) -> Floats:
        """Turn integers `(N, C)` into chunks `(N, H, A)` in physical units."""
        return self.actions.invert(self.standardised(integers))

    def standardised(self, integers: Ints) -> Floats:
        """Turn integers `(N, C)` into chunks `(N, H, A)` in standard units: a linear map."""
        coefficients = integers.reshape(-1, self.horizon, self.action_dim) / self.steps
        chunks = idct(coefficients, norm="ortho", axis=1) if self.frequencies else coefficients
        return chunks.astype(np.float32)

    def encode(self, integers: Ints) -> list[list[int]]:
        """Turn integers `(N, C)` into token ids, without BOS and EOS.

        Raises `TokenizerError` for an integer that has no token.
        """
        foreign = ~np.isin(integers, [piece[0] for piece in self.pieces if len(piece) == 1])
        if foreign.any():
            raise TokenizerError(
                f"coefficients: expected integers of the tokenizer's alphabet, found {integers[foreign][0]}, which "
                f"has no token. Fit a tokenizer on these data with '{REBUILD}'."
            )
        single = np.zeros(self.high - self.low + 1, dtype=np.int64)
        for token, piece in enumerate(self.pieces):
            if len(piece) == 1:
                single[piece[0] - self.low] = token
        first = single[integers[:, : self.unmerged] - self.low].tolist()
        blocks = np.split(integers[:, self.unmerged :], range(BLOCK, len(integers), BLOCK))  # an encoding takes 1 kB
        rest = (merged.ids for block in blocks for merged in self.bpe.encode_batch_fast(texts(block, self.low)))
        return [alone + merged for alone, merged in zip(first, rest, strict=True)]

    def decode(self, ids: list[list[int]]) -> Ints:
        """Turn token ids (specials are skipped) back into integers `(N, C)`.

        Raises `TokenizerError` if a sequence encodes more or fewer than C coefficients.
        """
        rows = [[integer for token in sequence for integer in self.pieces[token]] for sequence in ids]
        for number, row in enumerate(rows):
            if len(row) != self.coefficients:
                raise TokenizerError(
                    f"token sequence {number}: expected {self.coefficients} coefficients, found {len(row)}. "
                    f"It was not made by this tokenizer; rebuild the pairs with '{REBUILD}'."
                )
        return np.array(rows, dtype=np.int64).reshape(len(rows), self.coefficients)

    def to_json(self) -> str:
        """Return the tokenizer as JSON text, with its digest; equal tokenizers give equal text."""
        return _json(self._fields() | {"sha256": self.digest})

    def _fields(self) -> dict[str, Any]:
        mean, std = self.actions.mean.tolist(), self.actions.std.tolist()
        scaled = any(mean) or any(each != 1 for each in std)
        fields = {
            "format": FORMAT if scaled else IN_OWN_UNITS,
            **({"mean": mean, "std": std} if scaled else {}),
            "scale": self.scale,
            "horizon": self.horizon,
            "action_dim": self.action_dim,
            "low": self.low,
            "high": self.high,
            "fine_scale": self.fine_scale,
            "fine": self.fine,
            "frequencies": self.frequencies,
            "unmerged": self.unmerged,
            "bpe": json.loads(self.bpe.to_str()),
        }
        return fields if self.ranges is None else fields | {"ranges": self.ranges.tolist()}

    def save(self, path: Path) -> None:
        """Write the JSON text to `path`."""
        write_text(path, self.to_json())


def _json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=True, indent=1)


def steps_of(scale: float, fine_scale: float, fine: int, horizon: int) -> NDArray[np.float64]:
    """Steps per standard unit of each frequency, `(H, 1)`: `fine_scale` for the `fine` lowest, `scale` for others."""
    return np.where(np.arange(horizon) < fine, fine_scale, scale)[:, None]


def to_integers(chunks: Floats, steps: NDArray[np.float64], frequencies: bool) -> Ints:
    """Quantise `chunks (N, H, A)` in standard units to integers `(N, C)`, at most `MAX_INTEGER` in size."""
    values = chunks.astype(np.float64)
    values = dct(values, norm="ortho", axis=1) if frequencies else values
    return np.rint(values * steps).clip(-MAX_INTEGER, MAX_INTEGER).astype(np.int64).reshape(len(chunks), -1)


def texts(integers: Ints, low: int) -> list[str]:
    """Return each row of `integers (N, ..)` as text, one character per integer."""
    count, width = integers.shape
    whole = (integers - low + FIRST_SYMBOL).astype("<u4").tobytes().decode("utf-32-le")
    return [whole[row * width : (row + 1) * width] for row in range(count)]
