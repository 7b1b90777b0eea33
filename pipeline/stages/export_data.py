"""Write demonstrations in a format that other systems read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.targets.registry import find_writer
from pipeline.data.trajectories import load_trajectories
from pipeline.errors import DataError, SettingsError
from pipeline.files import check_folder, whole_folder
from pipeline.stages.collect import TRAJECTORIES_FILE
from pipeline.stages.settings import ExportDataSettings
from pipeline.stages.tokenize import REBUILD
from pipeline.tasks.dataset import told_in
from pipeline.tasks.facts import require_fit
from pipeline.tasks.settings import settle


@dataclass(frozen=True)
class ExportedData:
    """What was written."""

    folder: Path
    task: str
    episodes: int
    frames: int
    files: int
    size: int  # bytes


def export_data(settings: ExportDataSettings, watch: Callable[[int, int], None]) -> ExportedData:
    """Write the folder `settings.out`, whole or not at all; `watch` is told episodes done and in all.

    Raises `SettingsError` if the folder is there, `DataError` for demonstrations of another task or damaged ones.
    """
    settings, task = settle(settings)
    if settings.out.exists() or settings.out.is_symlink():
        raise SettingsError(f"out: expected a folder that does not exist yet, found '{settings.out}'. Name another.")
    check_folder(settings.out.parent, f"'{settings.out.name}'")
    found = load_trajectories(settings.trajectories)
    sizes = found.states.shape[-1], found.actions.shape[-1]
    require_fit(str(settings.trajectories), found.task, sizes, task, DataError, REBUILD)
    count, frames = len(found.gains), found.actions.size // sizes[1]
    own = settings.trajectories.name == TRAJECTORIES_FILE  # of the data set in whose folder it is
    dataset = told_in(settings.trajectories.parent) if own else None
    told = (dataset.instruction, dataset.licence) if dataset else ("", "")
    with whole_folder(settings.out) as folder:
        find_writer(settings.format)(folder, task, found, lambda done: watch(done, count), *told)
        written = [path for path in folder.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in written)
    return ExportedData(settings.out, task.name, count, frames, len(written), size)
