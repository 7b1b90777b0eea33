"""The trade-off of FAST's scale and vocabulary: finer steps lose less, but need a larger alphabet and more tokens."""

from dataclasses import dataclass

import numpy as np

from pipeline.errors import TokenizerError
from pipeline.tokenizer.fast import Floats, fit_tokenizer

SCALES = (5.0, 10.0, 15.0, 20.0, 30.0, 40.0)
VOCABULARIES = (128, 256, 512, 1024)


@dataclass(frozen=True)
class Tradeoff:
    """One setting of the tokenizer, measured on chunks that it was not fitted on."""

    scale: float
    vocabulary: int
    alphabet: int  # integers of the training range
    tokens_mean: float  # per chunk, without BOS and EOS
    error_mean: float  # |decoded - original|, action units
    error_p99: float  # 99th percentile of the same


def measure_tradeoff(train: Floats, held_out: Floats, scale: float) -> list[Tradeoff]:
    """Fit on `train (N, H, A)` and measure on `held_out (M, H, A)`: a row per vocabulary that is large enough."""
    found = []
    for vocabulary in VOCABULARIES:
        try:
            tokenizer = fit_tokenizer(train, scale, vocabulary)
        except TokenizerError:
            continue
        integers, _ = tokenizer.quantise(held_out)
        error = np.abs(tokenizer.dequantise(integers) - held_out)
        found.append(
            Tradeoff(
                scale,
                vocabulary,
                alphabet=tokenizer.high - tokenizer.low + 1,
                tokens_mean=float(np.mean([len(sequence) for sequence in tokenizer.encode(integers)])),
                error_mean=float(error.mean()),
                error_p99=float(np.quantile(error, 0.99)),
            )
        )
    return found
