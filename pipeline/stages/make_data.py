"""Make missing default data of a training."""

from pathlib import Path

from pipeline.config import NONE, make
from pipeline.data.lock import data_lock
from pipeline.data.pairs import ActionPairs, load_action_pairs, load_token_pairs
from pipeline.errors import DataError
from pipeline.files import file_digest
from pipeline.methods.settings import TrainSettings
from pipeline.names import PAIRS_SHA256
from pipeline.stages.collect import BEGIN_AS, CUT_FROM, collect
from pipeline.stages.say import Say
from pipeline.stages.settings import CollectSettings, TokenizeSettings
from pipeline.stages.tokenize import SCHEMES, token_files, tokenize
from pipeline.tasks.settings import at_task, require_demonstrator
from pipeline.tasks.task import Task


def make_missing_data(settings: TrainSettings, task: Task, say: Say) -> None:
    """Collect or tokenize if a default file of the task is missing. A file that the user named is never made.

    The settings are settled. Raises `DataError` if the default token pairs were made from other pairs than the present
    ones, or the pairs of a data set that is named are missing: it is of other demonstrators; `SettingsError` if they
    are missing and the task has no demonstrator.
    """
    chosen = {"task": settings.task, "horizon": settings.horizon, "data": settings.data}
    own = settings.model_dump(include={"scheme"})
    default = at_task(make(type(settings), chosen | own), task)
    names = [name for name in ("pairs", "tokenizer") if name in type(settings).model_fields]
    if any(getattr(settings, name) != getattr(default, name) for name in names):
        return
    imported = settings.data != NONE or task.world is None
    name_of_set = task.name if settings.data == NONE else settings.data
    tokenizing = _tokenizing(settings, task)

    def make_file(path: Path) -> None:
        if path.exists():
            return
        if path == tokenizing.pairs and imported:
            raise DataError(
                f"{path}: expected the action pairs of the data set '{name_of_set}', found none. Make it again, or "
                "name another: 'python -m pipeline data list'."
            )
        if path == tokenizing.pairs:
            collecting = at_task(make(CollectSettings, {"task": settings.task, "horizon": settings.horizon}), task)
            say(f"{path} is missing: collecting {collecting.trajectories:,} demonstrations")
            collect(collecting)
        for scheme, name in SCHEMES.items():
            if path in token_files(tokenizing.out, scheme):
                make_file(tokenizing.pairs)
                say(f"{path} is missing: fitting the {name} tokenizer")
                tokenize(tokenizing.model_copy(update={"scheme": scheme}))

    if not imported:
        if not tokenizing.pairs.exists():
            require_demonstrator(task)
        tokenizing.out.mkdir(parents=True, exist_ok=True)
    with data_lock(tokenizing.out):  # other processes that need the same data wait
        for name in names:
            make_file(getattr(settings, name))
    if "tokenizer" in names and tokenizing.pairs.exists():
        require_same_data(getattr(settings, names[0]), tokenizing.pairs)


def require_same_data(tokens: Path, actions: Path) -> None:
    """Raise `DataError` if the token pairs record that they were made from other action pairs."""
    made_from = load_token_pairs(tokens).metadata.get(PAIRS_SHA256)
    if made_from not in (None, file_digest(actions)):
        raise DataError(
            f"{tokens}: was made from pairs {str(made_from)[:12]}, but {actions} is now {file_digest(actions)[:12]}: "
            "the methods would train on different data. Run 'python -m pipeline tokenize'."
        )


def default_pairs(settings: TrainSettings, task: Task) -> Path:
    """Return the default action pairs of a training: its task's or data set's, with its horizon."""
    return _tokenizing(settings, task).pairs


def _tokenizing(settings: TrainSettings, task: Task) -> TokenizeSettings:
    """Return the settings that tokenize the default data of a training."""
    chosen = {"task": settings.task, "horizon": settings.horizon, "data": settings.data}
    return at_task(make(TokenizeSettings, chosen), task)


def require_same_trajectories(pairs: Path, others: Path, loaded: ActionPairs) -> None:
    """Raise `DataError` if two files of action pairs, `others` as `loaded`, record that they were cut from others."""
    own, of_others = (
        found.metadata.get(BEGIN_AS) or found.metadata.get(CUT_FROM) for found in (load_action_pairs(pairs), loaded)
    )
    if own and of_others and own != of_others:
        raise DataError(
            f"{pairs}: was cut from demonstrations {own[:12]}, and {others} from {of_others[:12]}: the groups would "
            "not compare. Run 'python -m pipeline collect --horizon' with the settings that made the others."
        )
