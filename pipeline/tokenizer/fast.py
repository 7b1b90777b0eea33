"""FAST: a chunk of actions as a short sequence of tokens (Pertsch et al. 2025, arXiv 2501.09747).

    chunk (H, A) --DCT-II per dimension--> coefficients --x scale, round--> integers (H*A,) --BPE--> tokens

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
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from pipeline.errors import TokenizerError, one_line
from pipeline.files import is_file, whole_file

BOS, EOS, PAD = 0, 1, 2
SPECIALS = ("[BOS]", "[EOS]", "[PAD]")
UNKNOWN = "[UNK]"  # only in the reference system's tokenizers; ours knows every integer
FIRST_SYMBOL = 0x4E00  # the code point of the lowest integer; a long range of plain letters follows
MAX_ALPHABET = 20_000  # the length of that range
MAX_FILE_BYTES = 16 * 2**20
MAX_CHUNK = 100_000  # numbers in a chunk
MAX_TABLE = 2**27  # vocabulary times coefficients, the size of a table for decoding
MAX_INTEGER = 2**53  # float64 is exact up to here
MIN_SCALE, MAX_SCALE = 1e-6, 1e9
FORMAT = "tinypi-fast-1"
ORIGINAL_SCALE, ORIGINAL_HORIZON = 10.0, 50
REBUILD = "python -m pipeline tokenize"

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class FastTokenizer:
    """A fitted tokenizer. `pieces[id]` are the integers that a token encodes; specials encode none."""

    scale: float  # steps per action unit
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
            return f"bins, {self.scale:g} per action unit"
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
    def fewest(self) -> Ints:
        """The smallest number of tokens that fill r missing coefficients, for r = 0..C: `(C + 1,)`."""
        fewest = [0]
        for missing in range(1, self.coefficients + 1):
            usable = np.unique(self.lengths[self.fits[missing]])
            fewest.append(1 + min((fewest[missing - length] for length in usable), default=self.coefficients))
        return np.array(fewest)

    @cached_property
    def steps(self) -> NDArray[np.float64]:
        """Steps per action unit of each frequency, `(H, 1)`."""
        return steps_of(self.scale, self.fine_scale, self.fine, self.horizon)

    @cached_property
    def digest(self) -> str:
        """sha256 of the tokenizer's JSON text without its own field `sha256`, 64 hex digits."""
        return sha256(_json(self._fields()).encode()).hexdigest()

    def quantise(self, chunks: Floats) -> tuple[Ints, int]:
        """Turn `chunks (N, H, A)` in action units into integers `(N, C)` and the count of clipped ones."""
        integers = to_integers(chunks, self.steps, self.frequencies)
        clipped = integers.clip(self.low, self.high)
        return clipped, int((clipped != integers).sum())

    def dequantise(self, integers: Ints) -> Floats:
        """Turn integers `(N, C)` into chunks `(N, H, A)` in action units."""
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
        rest = self.bpe.encode_batch(_texts(integers[:, self.unmerged :], self.low))
        return [alone + merged.ids for alone, merged in zip(first, rest, strict=True)]

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
        fields = {
            "format": FORMAT,
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
        with whole_file(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")


def _json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=True, indent=1)


def steps_of(scale: float, fine_scale: float, fine: int, horizon: int) -> NDArray[np.float64]:
    """Steps per action unit of each frequency, `(H, 1)`: `fine_scale` for the `fine` lowest, `scale` for the others."""
    return np.where(np.arange(horizon) < fine, fine_scale, scale)[:, None]


def to_integers(chunks: Floats, steps: NDArray[np.float64], frequencies: bool) -> Ints:
    """Quantise `chunks (N, H, A)` to integers `(N, C)`, at most `MAX_INTEGER` in size."""
    values = chunks.astype(np.float64)
    values = dct(values, norm="ortho", axis=1) if frequencies else values
    return np.rint(values * steps).clip(-MAX_INTEGER, MAX_INTEGER).astype(np.int64).reshape(len(chunks), -1)


def fit_tokenizer(
    chunks: Floats, scale: float, vocabulary: int, fine_scale: float = 1.0, fine: int = 0
) -> FastTokenizer:
    """Fit FAST on `chunks (N, H, A)` of the training split.

    `scale` is in steps per action unit, `fine_scale` that of the `fine` lowest frequencies; the alphabet is the range
    of integers that occur in `chunks`.
    Raises `TokenizerError` if the vocabulary cannot hold alphabet and specials with at least one merge.
    """
    _, horizon, action_dim = chunks.shape
    integers = to_integers(chunks, steps_of(scale, fine_scale, fine, horizon), frequencies=True)
    low, high = int(integers.min()), int(integers.max())
    alphabet = high - low + 1
    if alphabet > MAX_ALPHABET or alphabet + len(SPECIALS) >= vocabulary:
        largest = max(scale, fine_scale) if fine else scale
        raise TokenizerError(
            f"vocabulary: expected more than {alphabet + len(SPECIALS)} entries at scale {largest:g} ({alphabet} "
            f"integers from {low} to {high}, and {len(SPECIALS)} specials; at most {MAX_ALPHABET} integers), "
            f"found {vocabulary}. "
            "Raise --vocabulary or lower the scales."
        )
    unmerged = fine * action_dim
    bpe = _train_bpe(integers[:, unmerged:], low, high, vocabulary)
    return FastTokenizer(
        scale=float(scale),
        horizon=horizon,
        action_dim=action_dim,
        low=low,
        high=high,
        bpe=bpe,
        fine_scale=float(fine_scale),
        fine=fine,
        unmerged=unmerged,
        ranges=_ranges(integers),
    )


def fit_bins(chunks: Floats, scale: float) -> FastTokenizer:
    """Make plain bins of `1 / scale` action units over the range of `chunks (N, H, A)`: one token per action."""
    _, horizon, action_dim = chunks.shape
    integers = to_integers(chunks, steps_of(scale, 1, 0, horizon), frequencies=False)
    low, high = int(integers.min()), int(integers.max())
    if (alphabet := high - low + 1) > MAX_ALPHABET:
        raise TokenizerError(f"bins: expected at most {MAX_ALPHABET}, found {alphabet}. Lower --fine-scale.")
    bpe = _train_bpe(integers, low, high, alphabet + len(SPECIALS))
    return FastTokenizer(
        scale=float(scale),
        horizon=horizon,
        action_dim=action_dim,
        low=low,
        high=high,
        bpe=bpe,
        frequencies=False,
        ranges=_ranges(integers),
    )


def _ranges(integers: Ints) -> Ints:
    """Return the minimum and maximum of each column of `integers (N, C)`, as `(C, 2)`."""
    return np.stack((integers.min(0), integers.max(0)), axis=1)


def _train_bpe(integers: Ints, low: int, high: int, vocabulary: int) -> Tokenizer:
    """Fit byte-pair encoding on `integers (N, C)`; a vocabulary of only low..high and the specials has no merges."""
    bpe = Tokenizer(BPE())
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIALS),
        initial_alphabet=[chr(FIRST_SYMBOL + offset) for offset in range(high - low + 1)],
        show_progress=False,
    )
    bpe.train_from_iterator(_texts(integers, low), trainer)
    return bpe


def _texts(integers: Ints, low: int) -> list[str]:
    """Return each row of `integers (N, ..)` as text, one character per integer."""
    return ["".join(map(chr, row)) for row in (integers - low + FIRST_SYMBOL).tolist()]


def load_tokenizer(path: Path) -> FastTokenizer:
    """Read a tokenizer written by `save`, or one of the reference system's; raises `TokenizerError`."""
    if not is_file(path):
        raise TokenizerError(f"{path}: expected a FAST tokenizer, found no file. Make it with '{REBUILD}'.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise TokenizerError(f"{path}: expected a tokenizer of at most {MAX_FILE_BYTES} bytes, found a larger file.")
    try:
        return parse_tokenizer(path.read_text(encoding="utf-8"))
    except Exception as error:  # damage can surface as nearly anything
        raise TokenizerError(
            f"{path}: expected a FAST tokenizer in the format {FORMAT}, found a damaged or foreign file "
            f"({one_line(error)[:200]}). Make it again with '{REBUILD}'."
        ) from error


def parse_tokenizer(text: str) -> FastTokenizer:
    """Rebuild a tokenizer from its JSON text.

    Raises `ValueError` naming the part that does not fit, or if the digest does not match; damage can also raise nearly
    any other exception.
    """
    fields: Any = json.loads(text)
    if isinstance(fields, dict) and fields.keys() == {"vocab", "merges"}:
        fields = _translate_original(fields)
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise ValueError(f"'format' is not {FORMAT}")
    scale: Any = fields.get("scale")
    sizes: list[Any] = [fields.get(key) for key in ("horizon", "action_dim", "low", "high")]
    if not _is_scale(scale) or not all(type(size) is int for size in sizes):
        raise ValueError("'scale', 'horizon', 'action_dim', 'low' and 'high' must be numbers in range")
    horizon, action_dim, low, high = sizes
    # older files without these are plain FAST
    defaults = {"fine_scale": 1.0, "fine": 0, "frequencies": True, "unmerged": 0}
    fine_scale, fine, frequencies, unmerged = (fields.get(name, default) for name, default in defaults.items())
    if not _is_scale(fine_scale) or type(fine) is not int or fine < 0:
        raise ValueError("'fine_scale' and 'fine' must be numbers in range")
    if type(unmerged) is not int or unmerged < 0:
        raise ValueError("'unmerged' must be a number in range")
    if type(frequencies) is not bool:
        raise ValueError("'frequencies' must be true or false")
    ordered = -MAX_INTEGER <= low <= high <= MAX_INTEGER and high - low < MAX_ALPHABET
    if not (horizon > 0 and 1 <= horizon * action_dim <= MAX_CHUNK and ordered):
        raise ValueError("'horizon', 'action_dim', 'low' or 'high' is out of range")
    try:
        bpe = Tokenizer.from_str(json.dumps(fields.get("bpe")))
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"'bpe' is not a tokenizer: {one_line(error)}") from error
    if _without_content(bpe) != _without_content(Tokenizer(BPE())):
        raise ValueError("'bpe' is not a plain BPE")
    ranges = _parse_ranges(fields.get("ranges"), low, high, horizon * action_dim)
    tokenizer = FastTokenizer(
        scale=scale,
        horizon=horizon,
        action_dim=action_dim,
        low=low,
        high=high,
        bpe=bpe,
        fine_scale=fine_scale,
        fine=fine,
        frequencies=frequencies,
        unmerged=unmerged,
        ranges=ranges,
    )
    if any(bpe.token_to_id(name) != token for token, name in enumerate(SPECIALS)):
        raise ValueError(f"'bpe' does not have {', '.join(SPECIALS)} as ids 0, 1, 2")
    if sorted(bpe.get_vocab().values()) != list(range(tokenizer.vocabulary)):
        raise ValueError("'bpe' does not have the ids from 0 on, each once")
    if max(tokenizer.vocabulary, int(tokenizer.lengths.sum())) * tokenizer.coefficients > MAX_TABLE:
        raise ValueError(f"vocabulary, or integers of all tokens, times coefficients is more than {MAX_TABLE:,}")
    if any(not all(low <= integer <= high for integer in piece) for piece in tokenizer.pieces):
        raise ValueError("'bpe' has tokens outside its range")
    if 1 not in tokenizer.lengths:
        raise ValueError("'bpe' has no token for a single integer")
    if ranges is not None and not (tokenizer.fits[1:] & (tokenizer.lengths == 1)).any(1).all():
        raise ValueError("'bpe' has no token for any single integer of some of 'ranges'")
    if "sha256" in fields and fields["sha256"] != tokenizer.digest:
        raise ValueError("it has changed since it was written: its sha256 does not match")
    return tokenizer


def _parse_ranges(ranges: Any, low: int, high: int, coefficients: int) -> Ints | None:
    """Older files have none."""
    if ranges is None:
        return None
    pairs = isinstance(ranges, list) and len(ranges) == coefficients and all(_is_range(pair) for pair in ranges)
    if not pairs or not all(low <= bottom <= top <= high for bottom, top in ranges):
        raise ValueError(f"'ranges' must be {coefficients} pairs of integers, each a range within 'low' and 'high'")
    return np.array(ranges, dtype=np.int64)


def _is_range(pair: Any) -> bool:
    return isinstance(pair, list) and [type(end) for end in pair] == [int, int]


def _is_scale(value: Any) -> bool:
    return isinstance(value, float) and MIN_SCALE <= value <= MAX_SCALE


def _without_content(bpe: Tokenizer) -> dict[str, Any]:
    """Return a library tokenizer's configuration without its vocabulary: ours have no steps before or after the BPE."""
    parts: dict[str, Any] = json.loads(bpe.to_str())
    model = {name: value for name, value in parts["model"].items() if name not in ("vocab", "merges")}
    return parts | {"model": model, "added_tokens": []}


def _translate_original(fields: dict[str, Any]) -> dict[str, Any]:
    """Convert the reference system's `{"vocab": {"0,0": id}, "merges": [[["0", "0"], "0,0"]]}`, keeping the ids."""
    names = [name for name in fields["vocab"] if name not in (*SPECIALS, UNKNOWN)]
    integers = [int(value) for name in names for value in name.split(",")]
    low, high = min(integers), max(integers)

    def symbols(name: str) -> str:
        return (
            name if name in (*SPECIALS, UNKNOWN) else "".join(chr(int(v) - low + FIRST_SYMBOL) for v in name.split(","))
        )

    vocabulary = {symbols(name): token for name, token in fields["vocab"].items()}
    merges = [(symbols(left), symbols(right)) for (left, right), _ in fields["merges"]]
    try:
        bpe = Tokenizer(BPE(vocabulary, merges))
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"'vocab' and 'merges' do not fit together: {one_line(error)}") from error
    return {
        "format": FORMAT,
        "scale": ORIGINAL_SCALE,
        "horizon": ORIGINAL_HORIZON,
        "action_dim": 1,
        "low": low,
        "high": high,
        "bpe": json.loads(bpe.to_str()),
    }
