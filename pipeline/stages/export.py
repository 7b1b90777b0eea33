"""Export a checkpoint to an ONNX file, and verify that both act alike."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import AUTO
from pipeline.errors import RunError, SettingsError
from pipeline.files import check_file, whole_file
from pipeline.policies.checkpoint import load_checkpoint
from pipeline.policies.export import onnx_bytes
from pipeline.policies.exported import ExportedPolicy, load_exported
from pipeline.policies.policy import Policy, policy_of
from pipeline.stages.settings import ExportSettings
from pipeline.streams import numpy_stream

STAGES = logging.getLogger(__name__)

STATES, SINGLE = 256, 16  # number of states of the comparison, and how many of them also one at a time
RANGE = 2.0  # the states are within so many standard deviations of the training states' mean
TOLERANCE = 1e-5  # of an action dimension's deviation, or of a chunk's largest action in it if that is larger
NUDGES, ROUNDING = 64, 1e-6  # perturbed copies of a state, and the perturbation in standard deviations

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Exported:
    """The written file, and the deviation of its actions from the model's."""

    name: str
    path: Path
    states: int
    deviation: float  # the largest, in the units of `TOLERANCE`
    ties: int  # states for which rounding decides between two plans of the model


def export(settings: ExportSettings) -> Exported:
    """Write the file and compare it with the model; raises `UserError` kinds, and `RunError` if they differ."""
    checkpoint = load_checkpoint(settings.checkpoint).acting_by(settings.acting)
    path = settings.checkpoint.with_suffix(".onnx") if settings.out == AUTO else Path(settings.out)
    _check_out(path, settings.checkpoint)
    content, policy = onnx_bytes(settings.checkpoint, checkpoint), policy_of(checkpoint)
    STAGES.debug("graph made: %s bytes", len(content))
    spread, size = checkpoint.interface.state.std, checkpoint.interface.action.std
    offsets = numpy_stream(0, "export").uniform(-RANGE, RANGE, (STATES, policy.state_dim))
    states = (checkpoint.interface.state.mean + spread * offsets).astype(np.float32)
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
        deviation, ties = largest_deviation(policy, load_exported(temporary), states, ROUNDING * spread, size)
        if not deviation <= TOLERANCE:
            raise RunError(
                f"{path}: not written, because it does not act like {settings.checkpoint}: its actions deviate by up "
                f"to {deviation:.1e}, expected at most {TOLERANCE:.0e}."
            )
    return Exported(policy.name, path, STATES, deviation, ties)


def largest_deviation(
    policy: Policy, exported: ExportedPolicy, states: Floats, rounding: Floats, size: Floats
) -> tuple[float, int]:
    """Return the largest deviation over `states (B, S)`, in a batch and one at a time, and the number of ties.

    Deviations are relative to `size (A,)`, the standard deviations of the actions, or to larger actions of the chunk.

    A plan of tokens can depend on rounding, if two tokens are equally likely. So if the plans differ, the file's plan
    may also be the model's plan for one of several states perturbed by `rounding (S,)`.
    """
    plans = policy.act(states)
    singles = [exported.act(state[None]) for state in states[:SINGLE]]
    found = np.concatenate((exported.act(states), *singles))
    deviations = _largest(found, np.concatenate((plans, plans[:SINGLE])), size)
    differing = np.flatnonzero(~(deviations <= TOLERANCE))
    random = numpy_stream(0, "export", "nudges")
    for row in differing:
        nudged = states[row % len(states)] + rounding * random.standard_normal((NUDGES, states.shape[1]))
        deviations[row] = min(deviations[row], _largest(found[row], policy.act(nudged), size).min())
        if not deviations[row] <= TOLERANCE:
            break  # one fault is enough
    return float(deviations.max()), len(np.unique(differing % len(states)))


def _largest(found: Floats, expected: Floats, size: Floats) -> Floats:
    """Return each chunk's largest deviation, `(B, H, A) -> (B,)`, relative as said in `compare`."""
    largest: Floats = (np.abs(found - expected).max(-2) / np.maximum(size, np.abs(expected).max(-2))).max(-1)
    return largest


def _check_out(path: Path, checkpoint: Path) -> None:
    """Raise `SettingsError` unless the path is valid for an exported file."""
    if path.suffix != ".onnx":
        raise SettingsError(f"out: expected a file name ending in .onnx, found '{path}'. See --help.")
    check_file(path)
    if path.resolve() == checkpoint.resolve():
        raise SettingsError(f"out: expected another file than the model '{path}'. See --help.")
