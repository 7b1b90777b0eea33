"""Named random streams: each random draw has its own generator, derived from the run's seed and a name.

Streams are independent, so drawing more from one (e.g. by evaluating more often) never shifts another.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import numpy as np


def derive(seed: int, *name: str | int) -> int:
    """Return a 63-bit seed for the stream `name` of `seed`; different names give unrelated streams.

    The parts of a name must not contain "/", which would make names ambiguous. Torch's generator on the CPU uses the
    lower 32 bits of a seed.
    """
    assert not any("/" in str(part) for part in name), f"the parts of a stream's name have no '/', found {name}"
    text = "/".join(map(str, (seed, *name)))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_stream(seed: int, *name: str | int) -> np.random.Generator:
    """Return NumPy's generator of the stream `name` of `seed`."""
    return np.random.default_rng(derive(seed, *name))


def torch_stream(seed: int, *name: str | int):  # type: ignore[no-untyped-def]  # torch is imported on use
    """Return a CPU `torch.Generator` of the stream `name` of `seed`."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *name))


@contextmanager
def global_torch_stream(seed: int, *name: str | int) -> Iterator[None]:
    """Run the body with torch's global generator set to the stream, and restore the caller's (CPU) state.

    Layer initialisation and dropout accept no generator; this gives them a named one. It is entered at every training
    step, so it does not use `torch.random.fork_rng` and `torch.manual_seed`, which look for GPUs each time and take
    milliseconds.
    """
    import torch

    stream, before = derive(seed, *name), torch.get_rng_state()
    torch.default_generator.manual_seed(stream)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(stream)
    try:
        yield
    finally:
        torch.set_rng_state(before)
