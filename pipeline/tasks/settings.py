"""The settings that name a task, and where its data are: `data/` for the default task, `data/TASK/` for others."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import Field

from pipeline.config import Settings
from pipeline.tasks.registry import DEFAULT, TASKS

if TYPE_CHECKING:
    from pipeline.tasks.task import Task

DATA = Path("data")
ABOUT = f"{', '.join(TASKS)}, an imported data set, or your own: path/to/file.py:NAME or package.module:NAME"


class ForTask(Settings):
    """Settings of what is done for a task."""

    task: str = Field(DEFAULT, min_length=1, description=f"task: {ABOUT}")


class WithHorizon(ForTask):
    """Settings of what is done with a task's chunks."""

    horizon: int = Field(0, ge=0, le=1000, description="actions per chunk; 0: the task's own")


S = TypeVar("S", bound=ForTask)


def data_folder(settings: ForTask, task: "Task") -> Path:
    """Return the folder of a task's data, with another one for chunks of another horizon."""
    folder = DATA if task.name == DEFAULT else DATA / task.name
    horizon = horizon_of(settings, task)
    return folder if horizon == task.horizon else folder / f"horizon_{horizon}"


def horizon_of(settings: ForTask, task: "Task") -> int:
    """Return the number of actions per chunk."""
    return getattr(settings, "horizon", 0) or task.horizon


def at_task(settings: S, task: "Task") -> S:
    """Return the settings with the task's own files in place of default ones; what the user named stays."""
    folder = data_folder(settings, task)
    moved = {
        name: folder / field.default.relative_to(DATA)
        for name, field in type(settings).model_fields.items()
        if isinstance(field.default, Path)
        and field.default.is_relative_to(DATA)
        and getattr(settings, name) == field.default
    }
    return settings.model_copy(update=moved)
