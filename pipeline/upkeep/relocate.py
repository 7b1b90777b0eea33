"""A local store at its new place."""

from pipeline.tracking import relocate as tracking
from pipeline.upkeep.settings import RelocateSettings


def relocate(settings: RelocateSettings) -> list[tuple[str, str]]:
    """Rewrite the addresses of a store's artifacts; what was done, as names and values. Raises `StoreError`."""
    changed, folders = tracking.relocate(settings.store)
    rows = [
        (str(old), f"is now {new}{'' if new.is_dir() else ', and has no file yet'}") for old, new in folders.items()
    ]
    return [*rows, ("addresses", f"{changed} rewritten" if changed else "none had to be rewritten")]
