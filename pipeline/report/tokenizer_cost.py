"""What FAST costs on given demonstrations: tables, a recommendation by a stated rule, and values.

Shapes: H horizon and number of frequencies, A action.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.report.tables import Table
from pipeline.tasks.task import Channel
from pipeline.tokenizer.fast import FastTokenizer
from pipeline.tokenizer.measure import Cost

ENOUGH = 0.1  # standard deviations: a larger root mean square error of an action dimension is too much
NOTICED = 0.001  # a share of clipped coefficients that the recommendation names
RULE = f"the root mean square error is at most {ENOUGH:g} standard deviations in every action dimension"


@dataclass(frozen=True)
class Fitted:
    """A fitted tokenizer and what it costs."""

    tokenizer: FastTokenizer
    cost: Cost
    control: float | None  # the mean primary score of the expert's plans, encoded and decoded; None: not measured

    @property
    def options(self) -> str:
        """The options of `tokenize` that make it."""
        made = self.tokenizer
        fine = f" --fine-scale {made.fine_scale:g}" if made.fine else ""
        return f"--scale {made.scale:g}{fine} --fine {made.fine}"


@dataclass(frozen=True, kw_only=True)
class TokenizerCost:
    """Tokenizers of several scales on the same chunks."""

    task: str
    channels: tuple[Channel, ...]  # of the action, A
    control_seconds: float
    pairs: str
    pairs_sha256: str
    train: int  # chunks
    held_out: int
    by_trajectory: bool  # whether no episode is in both
    rows: tuple[Fitted, ...]
    expert: str | None  # the yardstick whose plans are executed; None: the task has none, or no simulator
    score: str  # label of the primary score
    short: str  # its heading in a table
    alone: float | None  # of the expert's plans themselves
    episodes: int  # in all conditions

    @cached_property
    def recommended(self) -> Fitted | None:
        """The tokenizer with the fewest tokens a chunk of those that are exact enough; None if none is."""
        good = [row for row in self.rows if row.cost.error.max() <= ENOUGH]
        return min(good, key=lambda row: row.cost.tokens.mean()) if good else None

    @cached_property
    def shown(self) -> Fitted:
        """The tokenizer that is shown in detail: the recommended one, or the most exact."""
        return self.recommended or min(self.rows, key=lambda row: row.cost.overall)

    @property
    def recommendation(self) -> str:
        """What to take by the rule, and what it costs in control, where that was measured."""
        row = self.shown
        if self.recommended is None:
            advice = (
                f"None of these is exact enough, where {RULE}: the most exact, '{row.options}', has "
                f"{row.cost.error.max():.3f}. Try finer scales, or pi0, which needs no tokens."
            )
        else:
            advice = (
                f"Take '{row.options}', {row.cost.tokens.mean():.1f} tokens a chunk: the fewest of those where {RULE}."
            )
        if self.alone is not None and row.control is not None:
            advice += (
                f" The plans of '{self.expert}' have {self.short} {self.alone:.3f}, and {row.control:.3f} as this "
                "tokenizer returns them."
            )
        if row.cost.clipped > NOTICED * self.coefficients:
            advice += (
                f" {row.cost.clipped / self.coefficients:.1%} of the coefficients lie outside the training range and "
                "are clipped: more demonstrations are needed."
            )
        return advice

    @property
    def coefficients(self) -> int:
        """The number of coefficients that were encoded."""
        return self.held_out * self.shown.tokenizer.coefficients

    def tables(self) -> tuple[Table, ...]:
        """All tokenizers; then of the one that is shown, errors by action dimension, by frequency, and by both."""
        both = (self._both(),) if len(self.channels) > 1 else ()
        return self._overview(), self._dimensions(), self._frequencies(), *both

    def _overview(self) -> Table:
        heads: tuple[str, ...] = (
            "scale",
            "fine",
            "vocab.",
            "used",
            "bits",
            "tokens",
            "99%",
            "most",
            "error",
            "clipped",
            "unseen",
        )
        rows = []
        for row in self.rows:
            made, cost = row.tokenizer, row.cost
            fine = f"{made.fine} at {made.fine_scale:g}" if made.fine else "-"
            cells = [
                f"{made.scale:g}", fine, str(made.vocabulary), str(cost.used), f"{cost.entropy:.2f}",
                f"{cost.tokens.mean():.1f}", f"{np.quantile(cost.tokens, 0.99):.0f}", str(cost.tokens.max()),
                f"{cost.overall:.4f}", str(cost.clipped), str(cost.out_of_place),
            ]  # fmt: skip
            rows.append((*cells, *(() if row.control is None else (f"{row.control:.3f}",))))
        note = (
            "used, bits: tokens that occur, entropy of a token. error: root mean square, standard deviations. clipped: "
            f"of {self.coefficients:,} coefficients, those outside the alphabet. unseen: those outside the training "
            "split's range of their own place, which a model never generates."
        )
        if self.expert is not None and self.alone is not None:
            heads = (*heads, self.short)
            note += (
                f" Last column: {self.score}, of '{self.expert}' over {self.episodes:,} episodes, whose plans are "
                f"executed as the tokenizer returns them; {self.alone:.3f} as planned."
            )
        return Table(f"FAST on {self.held_out:,} held-out chunks of {self.task}", heads, rows, note)

    def _dimensions(self) -> Table:
        cost, std = self.shown.cost, self.shown.tokenizer.actions.std
        rows = [
            (channel.label, channel.unit or "-", f"{each:.4g}", f"{rms:.4f}", f"{rms * each:.4g}", f"{most * each:.4g}")
            for channel, each, rms, most in zip(self.channels, std, cost.error, cost.error_most, strict=True)
        ]
        heads = ("action", "unit", "std", "error, std", "error, unit", "largest, unit")
        return Table(f"Error by action dimension, {self.shown.options}", heads, rows)

    def _frequencies(self) -> Table:
        cost, horizon = self.shown.cost, self.shown.tokenizer.horizon
        rows = []
        for first, last in bands(horizon):
            there, lost = (_mean_square(part[first : last + 1]) for part in (cost.spectrum, cost.error_by_frequency))
            high = last / (2 * horizon * self.control_seconds)
            rows.append(
                (_band((first, last)), f"{high:.2f}", f"{there**0.5:.4f}", f"{lost**0.5:.4f}", _share(lost, there))
            )
        heads = ("frequencies", "up to, Hz", "chunks", "error", "lost")
        note = "Root mean square of a coefficient, standard deviations; lost: the error's share of the square."
        return Table(f"Error by frequency, {self.shown.options}", heads, rows, note)

    def _both(self) -> Table:
        cost = self.shown.cost
        edges = bands(self.shown.tokenizer.horizon)
        lost = [
            [
                _share(
                    *(_mean_square(part[first : last + 1, number]) for part in (cost.error_by_frequency, cost.spectrum))
                )
                for first, last in edges
            ]
            for number in range(len(self.channels))
        ]
        rows = [(channel.label, *cells) for channel, cells in zip(self.channels, lost, strict=True)]
        note = "The error's share of the square of the coefficients."
        return Table(
            f"Lost by action dimension and frequency, {self.shown.options}", ("action", *map(_band, edges)), rows, note
        )

    def markdown(self) -> str:
        """Return the report as Markdown."""
        split = "episode" if self.by_trajectory else "pair"
        about = (
            f"`{self.pairs}`, sha256 {self.pairs_sha256[:12]}: fitted on {self.train:,} chunks, measured on "
            f"{self.held_out:,} others, split by {split}."
        )
        body = "\n\n".join(table.markdown() for table in self.tables())
        picture = "![Tokens, errors, spectrum and use of the vocabulary](tokenizer_report.png)"
        return f"# What FAST costs: {self.task}\n\n{self.recommendation}\n\n{about}\n\n{picture}\n\n{body}\n"

    def values(self) -> dict[str, Any]:
        """Return everything as JSON values; errors in standard deviations."""
        rows = [
            {
                "scale": row.tokenizer.scale,
                "fine_scale": row.tokenizer.fine_scale,
                "fine": row.tokenizer.fine,
                "vocabulary": row.tokenizer.vocabulary,
                "used": row.cost.used,
                "entropy_bits": row.cost.entropy,
                "tokens_mean": float(row.cost.tokens.mean()),
                "tokens_p99": float(np.quantile(row.cost.tokens, 0.99)),
                "tokens_max": int(row.cost.tokens.max()),
                "error": row.cost.overall,
                "error_by_dimension": row.cost.error.tolist(),
                "largest_error_by_dimension": row.cost.error_most.tolist(),
                "error_by_frequency": row.cost.error_by_frequency.tolist(),
                "clipped": row.cost.clipped,
                "unseen": row.cost.out_of_place,
                "control": row.control,
            }
            for row in self.rows
        ]
        return {
            "task": self.task,
            "pairs": self.pairs,
            "pairs_sha256": self.pairs_sha256,
            "chunks": {"train": self.train, "held_out": self.held_out},
            "actions": [{"name": each.name, "unit": each.unit} for each in self.channels],
            "std": self.shown.tokenizer.actions.std.tolist(),
            "spectrum": self.shown.cost.spectrum.tolist(),
            "expert": self.expert,
            "score": self.score if self.expert else None,
            "expert_alone": self.alone,
            "episodes": self.episodes if self.expert else 0,
            "rows": rows,
            "rule": RULE,
            "recommended": self.recommended.options if self.recommended else None,
            "recommendation": self.recommendation,
        }


def bands(horizon: int) -> list[tuple[int, int]]:
    """Return the first and last frequency of each band: 0, 1, 2-3, 4-7, ... up to `horizon - 1`."""
    starts = [0, *(2**power for power in range(horizon.bit_length()) if 2**power < horizon)]
    return [(first, last - 1) for first, last in zip(starts, [*starts[1:], horizon], strict=True)]


def _band(band: tuple[int, int]) -> str:
    first, last = band
    return str(first) if first == last else f"{first}-{last}"


def _mean_square(values: NDArray[np.float64]) -> float:
    return float(np.square(values).mean())


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.2%}" if whole > 0 else "-"


def family(rows: Sequence[Fitted], mixed: bool) -> list[Fitted]:
    """Return the tokenizers with two scales, or those with one, coarse to fine."""
    return sorted((row for row in rows if bool(row.tokenizer.fine) == mixed), key=lambda row: row.tokenizer.scale)
