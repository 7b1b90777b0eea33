"""What a tokenizer costs on chunks that it was not fitted on: error, tokens, use of its vocabulary.

Shapes: N chunks, H horizon and number of frequencies, A action, C = H*A coefficients, V vocabulary.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

from pipeline.tokenizer.fast import FastTokenizer, Floats, Ints

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Cost:
    """What encoding and decoding costs; errors are decoded minus original, in standard deviations of the action."""

    error: Array  # (A,) root mean square over chunks and steps
    error_most: Array  # (A,) largest size
    error_by_frequency: Array  # (H, A) root mean square over chunks, of the coefficients of the orthonormal DCT
    spectrum: Array  # (H, A) the same of the chunks themselves: what there is to lose
    tokens: Ints  # (N,) of each chunk, without BOS and EOS
    uses: Ints  # (V,) how often each token occurs
    clipped: int  # coefficients outside the range that the alphabet covers, which are clipped to it
    out_of_place: int  # within it, but outside the training split's range of their coefficient: never generated

    @property
    def used(self) -> int:
        """The number of tokens that occur."""
        return int((self.uses > 0).sum())

    @property
    def entropy(self) -> float:
        """The entropy of the tokens' frequencies, bits a token; 2 to its power is the number used in effect."""
        share = self.uses[self.uses > 0] / self.uses.sum()
        return float(-(share * np.log2(share)).sum()) + 0.0

    @property
    def overall(self) -> float:
        """The root mean square error of all dimensions."""
        return float(np.sqrt(np.square(self.error).mean()))


def measure_cost(tokenizer: FastTokenizer, chunks: Floats) -> Cost:
    """Encode and decode `chunks (N, H, A)`, in physical units, with N at least 1."""
    standard = tokenizer.actions.apply(chunks).astype(np.float64)
    integers, clipped = tokenizer.quantise(chunks)
    error = tokenizer.standardised(integers) - standard
    sequences = tokenizer.encode(integers)
    outside = 0
    if tokenizer.ranges is not None:
        low, high = tokenizer.ranges.T
        outside = int(((integers < low) | (integers > high)).sum())
    return Cost(
        error=np.sqrt(np.square(error).mean((0, 1))),
        error_most=np.abs(error).max((0, 1)),
        error_by_frequency=_by_frequency(error),
        spectrum=_by_frequency(standard),
        tokens=np.array([len(sequence) for sequence in sequences]),
        uses=np.bincount(np.concatenate([*sequences, []]).astype(np.int64), minlength=tokenizer.vocabulary),
        clipped=clipped,
        out_of_place=outside,
    )


def _by_frequency(chunks: Array) -> Array:
    """Return the root mean square coefficients `(H, A)` of `chunks (N, H, A)`."""
    found: Array = np.sqrt(np.square(dct(chunks, norm="ortho", axis=1)).mean(0))
    return found
