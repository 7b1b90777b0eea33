"""The settings that name a task, and where its data are: `data/` for the default task, `data/TASK/` for others."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import Field

from pipeline.config import DATA, NONE, Settings
from pipeline.errors import SettingsError
from pipeline.tasks.facts import require_length
from pipeline.tasks.project import DEFAULT, TASKS
from pipeline.tasks.registry import find_task

if TYPE_CHECKING:
    from pipeline.tasks.task import Demonstrator, Task

ABOUT = f"{', '.join(TASKS)}, an imported data set, or your own: path/to/file.py:NAME or package.module:NAME"


class ForTask(Settings):
    """Settings of what is done for a task."""

    task: str = Field(DEFAULT, min_length=1, description=f"task: {ABOUT}")

    def default_files(self) -> dict[str, Path]:
        """The files below `data/` that are taken if none is named, of the default task, by the setting's name."""
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        return {name: path for name, path in defaults.items() if isinstance(path, Path) and path.is_relative_to(DATA)}


class WithHorizon(ForTask):
    """Settings of what is done with a task's chunks."""

    horizon: int = Field(0, ge=0, le=1000, description="actions per chunk; 0: the task's own")


class ForData(ForTask):
    """Settings of what is done with the data of a task, its own or another set."""

    data: str = Field(
        NONE, min_length=1, description="data set, which implies its task: see 'python -m pipeline data list'"
    )


S = TypeVar("S", bound=ForTask)


def settle(settings: S) -> tuple[S, "Task"]:
    """Return the settings with the task and the files of the data set that they name, if any, and the task.

    Settled settings stay as they are. Raises `SettingsError` for unknown names, a data set of another task than the
    one that is named (the default one counts as not named), and a horizon that is too short for the task; `DataError`
    for a data set whose file is faulty.
    """
    name = getattr(settings, "data", NONE)
    if name != NONE:
        own, simulated = _task_of(name)
        if settings.task == DEFAULT:
            if simulated and own not in TASKS:
                raise SettingsError(
                    f"data: '{name}' is data of your own task '{own}'. Name it by --task path/to/file.py:NAME, for its "
                    "code is run."
                )
            settings = settings.model_copy(update={"task": own})
        elif (found := find_task(settings.task).name) != own:
            raise SettingsError(f"data: expected data of the task '{found}', found that '{name}' is of '{own}'.")
    task = find_task(settings.task)
    return at_task(settings, task), task


def _task_of(name: str) -> tuple[str, bool]:
    """The task of a data set, and whether it has a simulator; early versions wrote no file about a task's own data."""
    from pipeline.tasks.dataset import find_dataset, folder_of, read_dataset

    if name in TASKS and read_dataset(name) is None and any(folder_of(name).glob("*.npz")):
        return name, True
    dataset = find_dataset(name)
    return dataset.task, dataset.has_simulator


def data_folder(settings: ForTask, task: "Task") -> Path:
    """Return the folder of the data, with another one for chunks of another horizon."""
    from pipeline.tasks.dataset import folder_of, read_dataset

    name = getattr(settings, "data", NONE)
    dataset = read_dataset(name) if name != NONE else None
    own = dataset.horizon if dataset else task.horizon
    asked = getattr(settings, "horizon", 0)
    return folder_of(task.name if name == NONE else name, 0 if asked == own else asked)


def horizon_of(settings: ForTask, task: "Task") -> int:
    """Return the number of actions per chunk."""
    return getattr(settings, "horizon", 0) or task.horizon


def require_demonstrator(task: "Task") -> "Demonstrator":
    """Return the demonstrator of a task; raises `SettingsError` where it has none."""
    if task.demonstrator is None:
        raise SettingsError(
            f"task: '{task.name}' has no demonstrator, so its data are imported, not collected. See 'import --help'."
        )
    return task.demonstrator


def at_task(settings: S, task: "Task") -> S:
    """Return the settings with the task's own files in place of default ones; what the user named stays.

    Raises `SettingsError` for a horizon that is shorter than what the task's evaluation executes of a plan.
    """
    asked = getattr(settings, "horizon", 0)
    if asked and task.world is not None:
        require_length("horizon", asked, task, SettingsError, "See --help.")
    folder = data_folder(settings, task)
    moved = {
        name: folder / path.relative_to(DATA)
        for name, path in settings.default_files().items()
        if getattr(settings, name) == type(settings).model_fields[name].default
    }
    return settings.model_copy(update=moved)
