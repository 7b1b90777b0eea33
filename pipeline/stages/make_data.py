"""Make missing default data of a training."""

from collections.abc import Callable
from pathlib import Path

from pipeline.config import make
from pipeline.data.lock import data_lock
from pipeline.data.pairs import load_token_pairs
from pipeline.errors import DataError
from pipeline.files import file_digest
from pipeline.methods.settings import BinningSettings, Pi0FastSettings, TrainSettings
from pipeline.stages.collect import collect
from pipeline.stages.settings import CollectSettings, TokenizeSettings
from pipeline.stages.tokenize import tokenize


def make_missing_data(settings: TrainSettings, say: Callable[[str], None]) -> None:
    """Collect or tokenize if a default file is missing. A file that the user named is never made.

    Raises `DataError` if the default token pairs were made from other pairs than the present ones.
    """
    fields = type(settings).model_fields
    files = {name: getattr(settings, name) for name in ("pairs", "tokenizer") if name in fields}
    if any(path != fields[name].default for name, path in files.items()):
        return
    CollectSettings().out.mkdir(parents=True, exist_ok=True)
    with data_lock(CollectSettings().out):  # other processes that need the same data wait
        for path in files.values():
            _make(path, say)
    if "tokenizer" in files and TokenizeSettings().pairs.exists():
        require_same_data(files["pairs"], TokenizeSettings().pairs)


def require_same_data(tokens: Path, actions: Path) -> None:
    """Raise `DataError` if the token pairs record that they were made from other action pairs."""
    made_from = load_token_pairs(tokens).metadata.get("pairs_sha256")
    if made_from not in (None, file_digest(actions)):
        raise DataError(
            f"{tokens}: was made from pairs {str(made_from)[:12]}, but {actions} is now {file_digest(actions)[:12]}: "
            "the methods would train on different data. Run 'python -m pipeline tokenize'."
        )


def _make(path: Path, say: Callable[[str], None]) -> None:
    if path.exists():
        return
    if path == TokenizeSettings().pairs:
        say(f"{path} is missing: collecting {CollectSettings().trajectories:,} demonstrations")
        collect(CollectSettings())
    for scheme, name, kind in (("fast", "FAST", Pi0FastSettings()), ("bins", "binning", BinningSettings())):
        if path in (kind.pairs, kind.tokenizer):
            _make(TokenizeSettings().pairs, say)
            say(f"{path} is missing: fitting the {name} tokenizer")
            tokenize(make(TokenizeSettings, {"scheme": scheme}))
