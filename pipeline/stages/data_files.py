"""The files of a data set in its folder, and how to be rid of what is there."""

from pathlib import Path

from pipeline.stages.collect import PAIRS_FILE, TRAJECTORIES_FILE
from pipeline.stages.tokenize import SCHEMES, token_files
from pipeline.tasks.dataset import FILE, folder_of, horizons_of

OWN = {TRAJECTORIES_FILE, PAIRS_FILE, FILE} | {path.name for scheme in SCHEMES for path in token_files(Path(), scheme)}
"""Their names."""


def files_of_set(folder: Path) -> list[Path]:
    """Return the files of the data set in a folder, sorted."""
    return sorted(path for path in folder.glob("*") if path.name in OWN and path.is_file())


def how_to_remove(name: str) -> str:
    """Say how to be rid of all that is in the folder of a data set."""
    folder = folder_of(name)
    if folder.is_symlink() or not folder.is_dir():
        return f"remove {folder} yourself"
    sets = [horizon for horizon in (0, *horizons_of(name)) if files_of_set(folder_of(name, horizon))]
    commands = [f"'python -m pipeline data rm {name}{f' --horizon {each}' if each else ''}'" for each in sets]
    removed = {folder_of(name, horizon) for horizon in sets if horizon} | {*files_of_set(folder)}
    rest = sorted(path.name for path in folder.glob("[!.]*") if path not in removed)
    steps = [f"run {' and '.join(commands)}"] if commands else []
    steps += [f"move or remove {', '.join(rest)} in {folder} yourself"] if rest else []
    return " and ".join(steps) or f"remove the empty folder {folder}"
