"""Fitting a tokenizer on the chunks of the training split.

Shapes: N chunks, H horizon, A action, C = H*A coefficients.
"""

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from pipeline.data.normalisation import Normalisation
from pipeline.errors import TokenizerError
from pipeline.tokenizer.fast import (
    FIRST_SYMBOL,
    MAX_ALPHABET,
    SPECIALS,
    FastTokenizer,
    Floats,
    Ints,
    steps_of,
    texts,
    to_integers,
)

MERGES = 128  # of a vocabulary whose size is not chosen


def fit_tokenizer(
    chunks: Floats, scale: float, vocabulary: int = 0, fine_scale: float = 1.0, fine: int = 0
) -> FastTokenizer:
    """Fit FAST on `chunks (N, H, A)` of the training split, in physical units.

    `scale` is in steps per standard unit, `fine_scale` that of the `fine` lowest frequencies of each dimension; the
    alphabet is the range of integers that occur in `chunks`. The vocabulary is as large as chosen, or 0: as these
    integers, the specials and `MERGES` merges need.
    Raises `TokenizerError` if the vocabulary cannot hold alphabet and specials with at least one merge.
    """
    _, horizon, action_dim = chunks.shape
    actions = Normalisation.of(chunks)
    integers = to_integers(actions.apply(chunks), steps_of(scale, fine_scale, fine, horizon), frequencies=True)
    low, high = int(integers.min()), int(integers.max())
    alphabet = high - low + 1
    vocabulary = vocabulary or alphabet + len(SPECIALS) + MERGES
    largest = max(scale, fine_scale) if fine else scale
    if alphabet > MAX_ALPHABET:
        raise TokenizerError(
            f"scale: expected at most {MAX_ALPHABET:,} integers, found {alphabet:,}, from {low} to {high}, at scale "
            f"{largest:g}. Lower the scales."
        )
    if alphabet + len(SPECIALS) >= vocabulary:
        raise TokenizerError(
            f"vocabulary: expected more than {alphabet + len(SPECIALS)} entries at scale {largest:g} ({alphabet} "
            f"integers from {low} to {high}, and {len(SPECIALS)} specials), found {vocabulary}. "
            "Raise --vocabulary or lower the scales."
        )
    unmerged = fine * action_dim
    bpe = _train_bpe(integers[:, unmerged:], low, high, vocabulary)
    return FastTokenizer(
        scale=float(scale),
        actions=actions,
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
    """Make plain bins of `1 / scale` standard units over the range of `chunks (N, H, A)`: one token per action.

    The range is that of all dimensions in standard units. Raises `TokenizerError` for too many bins.
    """
    _, horizon, action_dim = chunks.shape
    actions = Normalisation.of(chunks)
    integers = to_integers(actions.apply(chunks), steps_of(scale, 1, 0, horizon), frequencies=False)
    low, high = int(integers.min()), int(integers.max())
    if (alphabet := high - low + 1) > MAX_ALPHABET:
        raise TokenizerError(f"bins: expected at most {MAX_ALPHABET}, found {alphabet}. Lower --fine-scale.")
    bpe = _train_bpe(integers, low, high, alphabet + len(SPECIALS))
    return FastTokenizer(
        scale=float(scale),
        actions=actions,
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
    """Fit byte-pair encoding on `integers (N, ..)`; a vocabulary of only low..high and the specials has no merges."""
    bpe = Tokenizer(BPE())
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIALS),
        initial_alphabet=[chr(FIRST_SYMBOL + offset) for offset in range(high - low + 1)],
        show_progress=False,
    )
    bpe.train_from_iterator(texts(integers, low), trainer)
    return bpe
