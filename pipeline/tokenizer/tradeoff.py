"""The trade-off of FAST's scale and vocabulary: finer steps lose less, but need a larger alphabet and more tokens."""

from dataclasses import dataclass

import numpy as np

from pipeline.errors import TokenizerError
from pipeline.tokenizer.fast import Floats
from pipeline.tokenizer.fit import fit_tokenizer

SCALES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)  # steps per standard unit
VOCABULARIES = (128, 256, 512, 1024)


@dataclass(frozen=True)
class Tradeoff:
    """One setting of the tokenizer, measured on chunks that it was not fitted on."""

    scale: float
    vocabulary: int
    alphabet: int  # integers of the training range
    tokens_mean: float  # per chunk, without BOS and EOS
    error_mean: float  # |decoded - original|, standard units
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
        error = np.abs(tokenizer.standardised(integers) - tokenizer.actions.apply(held_out))
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
