"""Tokenize: fit FAST on the training split, encode every chunk, check that decoding is exact, write."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.data.lock import data_lock
from pipeline.data.pairs import ActionPairs, TokenPairs, load_action_pairs, save_token_pairs
from pipeline.data.split import split_pairs
from pipeline.errors import DataError, RunError
from pipeline.files import check_folder, file_digest
from pipeline.names import PAIRS_SHA256, SPLIT_DIGEST, TOKENIZER_SHA256
from pipeline.stages.settings import TokenizeSettings
from pipeline.tasks.facts import KEY, facts_of, require_fit, require_length
from pipeline.tasks.settings import WithHorizon, settle
from pipeline.tasks.task import Task
from pipeline.tokenizer.fast import BOS, EOS, PAD, FastTokenizer, Floats
from pipeline.tokenizer.fit import fit_bins, fit_tokenizer

STAGES = logging.getLogger(__name__)

REBUILD = "Name the task by --task, or make its pairs with 'python -m pipeline collect --task NAME'."
SCHEMES = {"fast": "FAST", "one_scale": "one-scale FAST", "bins": "binning"}
"""What makes tokens, and its name in a message."""


@dataclass(frozen=True)
class Tokenized:
    """Statistics of the tokenizer over all pairs; also stored in the pairs' metadata."""

    scheme: str
    vocabulary: int
    alphabet: int  # integers of the training range
    vocabulary_used: int  # entries that occur in some sequence
    tokens_mean: float  # per chunk, without BOS and EOS
    tokens_max: int
    clipped: int  # coefficients outside the training range
    error_mean: float  # |decoded - original|, standard units
    error_max: float
    by_trajectory: bool  # whether the split is by trajectory


PUBLISHED_SCALE = 4.3
"""The one scale of FAST as published (Pertsch et al. 2025, arXiv 2501.09747): 10 steps from the mean to the 1st or 99th
percentile, which of a normal distribution are 2.33 standard deviations apart."""


def tokenize(settings: TokenizeSettings) -> tuple[Tokenized, tuple[Path, ...]]:
    """Write the tokenizer and the token pairs to `settings.out`; the same input gives the same bytes."""
    settings, task = settle(settings)
    check_folder(settings.out, "tokens")
    pairs, digest = pairs_of_task(settings.pairs, task)
    require_horizon(str(settings.pairs), pairs.action_chunk.shape[1], settings, task)
    STAGES.debug("%s read", settings.pairs)
    split = split_pairs(pairs.trajectory, len(pairs.state))
    tokenizer = fit(pairs.action_chunk[split.train], settings)
    STAGES.debug("tokenizer fitted")
    integers, clipped = tokenizer.quantise(pairs.action_chunk)
    sequences = tokenizer.encode(integers)
    if not np.array_equal(tokenizer.decode(sequences), integers):
        raise RunError(
            f"{settings.pairs}: tokens do not decode to the coefficients they were made from; nothing written."
        )

    STAGES.debug("chunks encoded; they decode exactly")
    error = np.abs(tokenizer.standardised(integers) - tokenizer.actions.apply(pairs.action_chunk))
    lengths = np.array([len(sequence) for sequence in sequences])
    summary = Tokenized(
        scheme=settings.scheme,
        vocabulary=tokenizer.vocabulary,
        alphabet=tokenizer.high - tokenizer.low + 1,
        vocabulary_used=len(set().union(*sequences)),
        tokens_mean=float(lengths.mean()),
        tokens_max=int(lengths.max()),
        clipped=clipped,
        error_mean=float(error.mean()),
        error_max=float(error.max()),
        by_trajectory=split.by_trajectory,
    )
    files = token_files(settings.out, settings.scheme)
    metadata = {
        "made_by": "tinypi tokenize",
        TOKENIZER_SHA256: tokenizer.digest,
        PAIRS_SHA256: digest,
        SPLIT_DIGEST: split.digest,
        KEY: facts_of(task).values(),
        "summary": json.loads(json.dumps(asdict(summary))),
    }
    rows = pad_sequences(sequences)
    settings.out.mkdir(parents=True, exist_ok=True)
    with data_lock(settings.out):
        tokenizer.save(files[0])
        save_token_pairs(files[1], TokenPairs(pairs.state, rows, pairs.trajectory, pairs.step, metadata))
    return summary, files


def pairs_of_task(path: Path, task: Task) -> tuple[ActionPairs, str]:
    """Return the action pairs in a file, and its sha256; raises `DataError` if they are not of the task."""
    with data_lock(path.parent):
        pairs, digest = load_action_pairs(path), file_digest(path)
    sizes = pairs.state.shape[1], pairs.action_chunk.shape[2]
    require_fit(str(path), pairs.task, sizes, task, DataError, REBUILD)
    return pairs, digest


def require_horizon(where: str, found: int, settings: WithHorizon, task: Task) -> None:
    """Raise `DataError` unless the chunks of a file are as long as the settings ask, and as the task needs at least."""
    asked = settings.horizon
    if asked and found != asked:
        raise DataError(
            f"{where}: expected chunks of {asked} actions, for the task '{task.name}', found {found}. {REBUILD}"
        )
    require_length(where, found, task, DataError, REBUILD)


def token_files(folder: Path, scheme: str) -> tuple[Path, Path]:
    """Return the tokenizer and the token pairs of a scheme in a folder."""
    return folder / f"{scheme}_tokenizer.json", folder / f"training_pairs_{scheme}.npz"


def fit(chunks: Floats, settings: TokenizeSettings) -> FastTokenizer:
    """Fit the tokenizer that the settings name on `chunks (N, H, A)`."""
    if settings.scheme == "bins":
        return fit_bins(chunks, settings.fine_scale)
    if settings.scheme == "one_scale":
        return fit_tokenizer(chunks, PUBLISHED_SCALE, settings.vocabulary)
    return fit_tokenizer(chunks, settings.scale, settings.vocabulary, settings.fine_scale, settings.fine)


def pad_sequences(sequences: list[list[int]]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Arrange sequences as rows `[BOS] tokens [EOS] [PAD] ...`, padded to the longest: `(N, L)`."""
    width = max(map(len, sequences)) + 2
    rows = np.full((len(sequences), width), PAD, dtype=np.int64)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence) + 2] = [BOS, *sequence, EOS]
    return rows
