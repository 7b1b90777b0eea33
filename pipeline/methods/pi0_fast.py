"""pi0-FAST: the action chunk as FAST tokens, generated one after another (Pertsch et al. 2025, arXiv 2501.09747).

Shapes: B batch, H horizon, A action, C = H*A coefficients, L tokens, V vocabulary, S state.
"""

import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.data.lock import data_lock
from pipeline.data.normalisation import Normalisation
from pipeline.data.pairs import TokenPairs, load_token_pairs
from pipeline.data.split import split_pairs
from pipeline.errors import DataError
from pipeline.files import file_digest
from pipeline.methods.method import (
    Interface,
    Method,
    Noise,
    Plans,
    Prepared,
    Rows,
    Source,
    Stacked,
    draw_nothing,
    prepare_rows,
    refuse_unused,
)
from pipeline.methods.pi0_fast_graph import MIN_P, pi0_fast_graph
from pipeline.methods.pi0_fast_stacked import stacked_loss
from pipeline.methods.settings import BinningSettings, Pi0FastSettings, TokenActing, TokenSettings
from pipeline.models.original import OriginalTokenTransformer
from pipeline.models.token_transformer import TokenTransformer
from pipeline.names import PAIRS_SHA256, TOKENIZER_SHA256
from pipeline.tokenizer.fast import BOS, EOS, PAD, FastTokenizer
from pipeline.tokenizer.stored import load_tokenizer

Ints = NDArray[np.int64]

SHRINK = 0.8  # if fewer than this share of a batch still generates, the finished ones are dropped from it
BELOW_ONE = 1 - 1e-6
FOREIGN_SHORT = 0.5  # foreign files may have incomplete sequences; a larger share means another tokenizer


def prepare(settings: TokenSettings) -> Prepared:
    """Load token pairs and their tokenizer, and check that they fit; raises `UserError` kinds."""
    refuse_unused(settings)
    files = {"data": settings.pairs, "tokenizer": settings.tokenizer}
    with data_lock(settings.pairs.parent):
        tokenizer = load_tokenizer(settings.tokenizer)
        pairs = load_token_pairs(settings.pairs)
        digests = {what: file_digest(path) for what, path in files.items()}
    sequences, warnings = check_tokens(pairs, tokenizer, settings)
    split = split_pairs(pairs.trajectory, len(pairs.state))
    state = Normalisation.of(pairs.state[split.train])
    interface = Interface(tokenizer.horizon, state, tokenizer.actions, tokenizer, pairs.task)
    arrays: dict[str, NDArray[Any]] = {"state": pairs.state, "token_seq": pairs.token_seq}
    source = Source(files, digests, arrays, pairs.metadata.get(PAIRS_SHA256))
    prepared = prepare_rows(settings, pairs, torch.from_numpy(sequences), split, interface, source)
    return replace(prepared, warnings=(*prepared.warnings, *warnings))


def check_tokens(pairs: TokenPairs, tokenizer: FastTokenizer, settings: TokenSettings) -> tuple[Ints, tuple[str, ...]]:
    """Return the bare sequences `(N, L)`, without BOS and EOS and padded with PAD, and warnings.

    Raises `DataError` for ids outside the vocabulary, specials in the middle, another tokenizer's file, and, in files
    that name their tokenizer, a sequence that does not encode a full chunk.
    """
    path, tokens = settings.pairs, pairs.token_seq
    remedy = "Rebuild it with 'python -m pipeline tokenize', or pass the tokenizer it was made with by --tokenizer."
    outside = (tokens < 0) | (tokens >= tokenizer.vocabulary)
    if outside.any():
        raise DataError(
            f"{path}: 'token_seq' holds id {tokens[outside][0]}, but {settings.tokenizer} has "
            f"{tokenizer.vocabulary} entries (0-{tokenizer.vocabulary - 1}). {remedy}"
        )
    made_with = pairs.metadata.get(TOKENIZER_SHA256)
    if made_with is not None and made_with != tokenizer.digest:
        raise DataError(
            f"{path}: was made with the tokenizer {str(made_with)[:12]}, but {settings.tokenizer} is "
            f"{tokenizer.digest[:12]}. {remedy}"
        )

    bare = tokens[:, 1:] if (tokens[:, 0] == BOS).all() else tokens
    ended = np.logical_or.accumulate((bare == EOS) | (bare == PAD), axis=1)
    sequences = np.where(ended, PAD, bare)
    misplaced = ended & (bare != PAD) & ~((bare == EOS) & (ended.cumsum(1) == 1))
    misplaced |= ~ended & (tokenizer.lengths[bare] == 0)
    if misplaced.any():
        row = int(misplaced.any(1).argmax())
        raise DataError(
            f"{path}: row {row} of 'token_seq' is not [BOS], tokens, EOS, PAD ..., "
            f"found {tokens[row].tolist()}. {remedy}"
        )
    short = tokenizer.lengths[sequences].sum(1) != tokenizer.coefficients
    longest = int((~ended).sum(1).max())
    if short.mean() > FOREIGN_SHORT or longest > tokenizer.coefficients or (short.any() and made_with is not None):
        raise DataError(
            f"{path}: row {int(short.argmax())} of 'token_seq' does not encode {tokenizer.coefficients} "
            f"coefficients ({int(short.sum())} such rows). {remedy}"
        )
    sequences = sequences[:, : max(1, longest)]
    if short.any():
        return sequences, (
            f"{path}: {int(short.sum())} of {len(tokens)} token sequences do not encode exactly "
            f"{tokenizer.coefficients} coefficients; they are used unchanged.",
        )
    return sequences, ()


def build(settings: TokenSettings, interface: Interface) -> nn.Module:
    """Make the next-token network. Every token is at least one coefficient, so BOS + C positions fit any chunk."""
    tokenizer, state_dim = _tokenizer(interface), len(interface.state.mean)
    if settings.arch == "original":
        return OriginalTokenTransformer(state_dim, tokenizer.vocabulary, tokenizer.coefficients + 1)
    return TokenTransformer(
        state_dim,
        tokenizer.pieces,
        np.repeat(tokenizer.steps, tokenizer.action_dim),
        width=settings.width,
        layers=settings.layers,
        heads=settings.heads,
        dropout=settings.dropout,
    )


def loss(network: nn.Module, settings: TokenSettings, rows: Rows, generator: torch.Generator) -> tuple[Tensor, int]:
    """Sum and count over real tokens for `state (B, S)` and bare `sequences (B, L)`: cross-entropy, plus the term of
    `expectation_weight`.

    The network reads BOS and all but the last token, and predicts the sequence. PAD and EOS are neither read nor
    predicted: a chunk ends when it is full. The added term is the squared error of the expected next coefficient (the
    first of the next token) in standard units, whatever the steps are. Acting uses this expectation, which is less
    exact if only likelihood is trained.
    """
    state, sequences = rows
    sequences = sequences[:, : int((sequences != PAD).sum(1).max())]
    real = sequences != PAD
    targets = sequences[real]
    log_p = network(state, F.pad(sequences[:, :-1], (1, 0), value=BOS), real).log_softmax(1)
    total = F.nll_loss(log_p, targets, reduction="sum")
    first = cast(Tensor | None, network.first)  # the first integer of each token; None: likelihood only
    if settings.expectation_weight and first is not None:
        lengths, steps = cast(Tensor, network.lengths)[sequences], cast(Tensor, network.steps)
        next_up = (lengths.cumsum(1) - lengths)[real].clamp(max=len(steps) - 1)  # coefficients before each token
        miss = (log_p.exp() @ first - first[targets]) / steps[next_up]
        total = total + settings.expectation_weight * miss.square().sum()
    return total, len(targets)


def decode(
    network: nn.Module, tokenizer: FastTokenizer, state: Tensor, expected: bool, chance: Tensor | None = None
) -> list[list[int]]:
    """Generate tokens for `state (B, S)`, one per step, until every chunk is full; ids without BOS and EOS.

    Greedy decoding takes the likeliest token. `expected` decoding takes the likeliest token that begins with the
    integer nearest to the expectation of the next coefficient: the peak of a broad distribution is random, its mean is
    well determined. (In flow matching, the equivalent is to start from zero instead of noise.) With `chance (B, C)`,
    numbers in [0, 1], token i is drawn by number i of its row.
    Tokens are masked that do not fit (`FastTokenizer.fits`). EOS comes exactly when the chunk is full. So every
    sequence decodes to C coefficients; it has C tokens at most, and the network has a position for each.
    """
    lengths = torch.from_numpy(tokenizer.lengths).to(state.device)
    first = torch.from_numpy(tokenizer.first).to(state.device).float()
    fits = torch.from_numpy(tokenizer.fits).to(state.device)
    mask = torch.zeros(fits.shape, device=state.device).masked_fill_(~fits, -torch.inf)  # by coefficients remaining
    token = torch.full((len(state),), BOS, device=state.device)
    remaining = torch.full_like(token, tokenizer.coefficients)
    cache = network.start(state)  # type: ignore[operator]  # both token networks have start and next_logits
    generated = torch.full((len(state), tokenizer.coefficients), EOS, device=state.device)
    rows = torch.arange(len(state), device=state.device)  # the sequences still in progress
    for position in range(tokenizer.coefficients):
        logits = network.next_logits(token, cache) + mask[remaining]  # type: ignore[operator]
        if expected:
            logits = near_expectation(logits, first)
        chosen = logits.argmax(1) if chance is None else drawn(logits, chance[rows, position])
        token = torch.where(remaining > 0, chosen, EOS)
        remaining = remaining - lengths[token]
        generated[rows, position] = token
        unfinished = remaining.nonzero()[:, 0]
        if len(unfinished) == 0:
            break
        if len(unfinished) < SHRINK * len(rows):
            rows, token, remaining = rows[unfinished], token[unfinished], remaining[unfinished]
            cache.keep(unfinished)
    return [[token for token in row if token != EOS] for row in generated.tolist()]


def near_expectation(logits: Tensor, first: Tensor) -> Tensor:
    """Keep the logits `(B, V)` of tokens that begin with the integer nearest to the next coefficient's expectation.

    Tokens less likely than `MIN_P` times the likeliest are excluded from the expectation and from the choice.
    `first (V,)` are the first integers of the tokens.
    """
    least = logits.amax(1, keepdim=True) + math.log(MIN_P)
    logits = torch.where(logits >= least, logits, -torch.inf)
    mean = logits.softmax(1) @ first  # NaN if no token is allowed: the sequence has ended
    distance = torch.where(logits == -torch.inf, torch.inf, (first - mean[:, None]).abs_())
    return torch.where(first == first[distance.argmin(1)][:, None], logits, -torch.inf)


def drawn(logits: Tensor, chance: Tensor) -> Tensor:
    """Draw a token `(B,)` from each row of `logits (B, V)` by `chance (B,)` in [0, 1]: where the cumulative sum is."""
    below = logits.softmax(1).cumsum(1)
    wanted = chance.clamp(max=BELOW_ONE) * below[:, -1]  # below the last sum, so no token without probability is drawn
    return torch.searchsorted(below, wanted[:, None], right=True)[:, 0]


def act(
    network: nn.Module,
    acting: TokenActing,
    interface: Interface,
    states: NDArray[np.float32],
    noise: Noise,
) -> Plans:
    """Plan chunks for `states (B, S)`; noise is drawn only for sampled tokens."""
    tokenizer = _tokenizer(interface)
    state = torch.from_numpy(interface.state.apply(states)).to(next(network.parameters()).device)
    chance = None
    if acting.decoding == "sampled":
        chance = torch.special.ndtr(noise((len(states), tokenizer.coefficients))).to(state.device)
    sequences = decode(network, tokenizer, state, acting.decoding == "expected", chance)
    actions = tokenizer.dequantise(tokenizer.decode(sequences))  # raises if a sequence is not a full chunk
    return Plans(actions, np.array([len(sequence) for sequence in sequences]), np.zeros(len(sequences), dtype=bool))


def _tokenizer(interface: Interface) -> FastTokenizer:
    assert interface.tokenizer is not None, "pi0-FAST's interface carries a tokenizer"
    return interface.tokenizer


PI0_FAST = Method(
    name="pi0_fast",
    prefix="tinypi0fast",
    loss_label="cross-entropy and squared error of expectation",
    settings_type=Pi0FastSettings,
    acting_type=TokenActing,
    prepare=prepare,
    build=build,
    loss=loss,
    act=act,
    graph=pi0_fast_graph,
    stacked=Stacked(stacked_loss, draw_nothing, ("expectation_weight",)),
)

BINNING = replace(PI0_FAST, name="binning", prefix="tinybinning", settings_type=BinningSettings)
"""The baseline without FAST: the same network and decoding, one token per action."""
