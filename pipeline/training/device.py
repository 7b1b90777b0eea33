"""The device of a training, and its effect on reproducibility."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.config import AUTO
from pipeline.errors import RunError, SettingsError
from pipeline.methods.settings import TrainSettings

NO_PROMISE = "only on the CPU, or with --deterministic yes on CUDA, does one seed give the same bits each time"


def find_device(settings: TrainSettings) -> torch.device:
    """Return the device that `settings.device` names; "auto" takes a GPU if there is one.

    Raises `SettingsError` if the device is absent, or cannot train with these settings.
    """
    name = settings.device
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == AUTO:
        name = next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available.get(name):  # a run's record may name any
        raise SettingsError(f"device: expected one that this machine has, found '{name}'. Use --device auto.")
    if name == "mps" and settings.dropout:
        raise SettingsError(
            f"dropout: expected 0 on the device mps, where torch cannot seed it per step, found {settings.dropout}. "
            "Use --device cpu."
        )
    if name == "mps" and settings.deterministic == "yes":
        raise SettingsError(
            "deterministic: expected 'no' on the device mps, whose sums run in any order, found 'yes'. "
            "Use --device cpu."
        )
    return torch.device(name)


def use_device(settings: TrainSettings) -> torch.device:
    """Make this process ready to train on the device, and return it; raises `SettingsError` as `find_device` does.

    On CUDA, torch uses deterministic algorithms where it has them; with `settings.deterministic` it uses no others, and
    raises where it has none. (Otherwise it takes a faster gradient of masked attention, pi0-FAST's, whose sums run in
    any order.)
    """
    device = find_device(settings)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.use_deterministic_algorithms(True, warn_only=settings.deterministic == "no")
        # Torch would fill what is about to be written: twice the launches, to find nothing but faults.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return device


def same_bits(settings: TrainSettings) -> bool:
    """Whether a training alone with these settings gives the same bits each time."""
    return find_device(settings).type == "cpu" or settings.deterministic == "yes"


@contextmanager
def faults_said() -> Iterator[None]:
    """Within it, two faults of a device are one line with what to do, a `RunError`.

    They are a memory that is too small, and an operation that torch has no deterministic algorithm for, where no other
    is allowed.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(
            "device: expected enough memory for the training, found too little. Train fewer models at once, by the "
            "study's --n-models; or, under another name, by the search's --parallel, --together no, a smaller "
            "batch_size, width or layers, or device cpu."
        ) from error
    except RuntimeError as error:
        if "does not have a deterministic implementation" not in str(error):
            raise
        operation = str(error).split(" does not")[0]
        raise RunError(
            f"deterministic: expected an algorithm that gives the same bits each time, found none for {operation}. "
            "Use --deterministic no, or --device cpu."
        ) from error
