"""How work tells its user something: a line at a time."""

from collections.abc import Callable

Say = Callable[[str], None]


def silent(_line: str) -> None:
    """Say nothing."""
