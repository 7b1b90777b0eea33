"""Reading tokenizers: ours of both formats, and the reference system's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import BPE

from pipeline.data.normalisation import Normalisation
from pipeline.errors import TokenizerError, one_line, reason
from pipeline.files import is_file
from pipeline.tokenizer.fast import (
    FIRST_SYMBOL,
    FORMAT,
    IN_OWN_UNITS,
    MAX_ALPHABET,
    MAX_CHUNK,
    MAX_INTEGER,
    REBUILD,
    SPECIALS,
    UNKNOWN,
    FastTokenizer,
    Ints,
)

MAX_FILE_BYTES = 16 * 2**20
MAX_TABLE = 2**27  # vocabulary times coefficients, the size of a table for decoding
MIN_SCALE, MAX_SCALE = 1e-6, 1e9
ORIGINAL_SCALE, ORIGINAL_HORIZON = 10.0, 50


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
            f"({reason(error)[:200]}). Make it again with '{REBUILD}'."
        ) from error


def parse_tokenizer(text: str) -> FastTokenizer:
    """Rebuild a tokenizer from its JSON text.

    Raises `ValueError` naming the part that does not fit, or if the digest does not match; damage can also raise nearly
    any other exception.
    """
    fields: Any = json.loads(text)
    if isinstance(fields, dict) and fields.keys() == {"vocab", "merges"}:
        fields = _translate_original(fields)
    if not isinstance(fields, dict) or fields.get("format") not in (FORMAT, IN_OWN_UNITS):
        raise ValueError(f"'format' is neither {FORMAT} nor {IN_OWN_UNITS}")
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
    actions = _parse_actions(fields, action_dim)
    try:
        bpe = Tokenizer.from_str(json.dumps(fields.get("bpe")))
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"'bpe' is not a tokenizer: {one_line(error)}") from error
    if _without_content(bpe) != _without_content(Tokenizer(BPE())):
        raise ValueError("'bpe' is not a plain BPE")
    ranges = _parse_ranges(fields.get("ranges"), low, high, horizon * action_dim)
    tokenizer = FastTokenizer(
        scale=scale,
        actions=actions,
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


def _parse_actions(fields: dict[str, Any], action_dim: int) -> Normalisation:
    """Files of `IN_OWN_UNITS` have none: the identity."""
    if fields["format"] == IN_OWN_UNITS:
        return Normalisation(np.zeros(action_dim, np.float32), np.ones(action_dim, np.float32))
    columns = [fields.get("mean"), fields.get("std")]
    if not all(
        isinstance(column, list) and [type(each) for each in column] == action_dim * [float] for column in columns
    ):
        raise ValueError(f"'mean' and 'std' must be {action_dim} decimal numbers each")
    mean, std = np.array(columns, dtype=np.float64)
    if not (np.abs((mean, std)) <= np.finfo(np.float32).max).all() or not (std >= np.finfo(np.float32).tiny).all():
        raise ValueError("'mean' and 'std' must be finite numbers of 32 bits, 'std' positive")
    return Normalisation(mean.astype(np.float32), std.astype(np.float32))


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
        "format": IN_OWN_UNITS,
        "scale": ORIGINAL_SCALE,
        "horizon": ORIGINAL_HORIZON,
        "action_dim": 1,
        "low": low,
        "high": high,
        "bpe": json.loads(bpe.to_str()),
    }
