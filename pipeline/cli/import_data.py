"""`import`."""

from typing import TYPE_CHECKING

from pipeline.cli.options import settings_command
from pipeline.stages.settings import ImportSettings

if TYPE_CHECKING:
    from pipeline.stages.import_data import Columns

EXAMPLES = (
    "import downloads/so101 --out data/so101",
    "import can.hdf5 --state obs/object,obs/robot0_eef_pos --out data/can",
    "import mine.npz --task reacher --out data/reacher_mine",
)
MOST = 20  # features that are shown


def run(settings: ImportSettings) -> None:
    """Say what was found, import it, and say what was written."""
    from pipeline.cli.console import ERR, print_rows
    from pipeline.cli.progress import count_display
    from pipeline.stages.import_data import import_data, look

    found = look(settings)
    source, dataset = found.source, found.dataset
    stated = "" if source.rate else ", not stated by the source"
    features = [f"{each.key} ({each.size})" for each in source.features.values()]
    rows = [
        ("episodes", f"{source.episodes:,}, {source.frames:,} frames"),
        ("rate", f"{1 / dataset.control_seconds:g} frames a second{stated}"),
        ("licence", source.licence or "not stated"),
        ("features", _list(features)),
        ("state", _taken(found.state)),
        ("action", _taken(found.action)),
        ("ignored", _list(list(source.ignored)) or "nothing"),
    ]
    rows += [("its task", _list([f"'{text}'" for text in source.tasks]))] if source.tasks else []
    print_rows(f"Found in {settings.path}: format {source.format}", rows)
    with count_display(ERR, "reading episodes") as watch:
        made = import_data(settings, found, watch)
    dataset = made.dataset
    rows = [
        ("task", dataset.task if dataset.has_simulator else f"{dataset.task}, its own, without a simulator"),
        ("episodes", f"{dataset.episodes:,}, {dataset.frames:,} frames"),
        ("training pairs", f"{made.pairs:,}, each a chunk of {dataset.horizon} actions"),
        *(("warning", warning) for warning in made.warnings),
        ("files", "\n".join(map(str, made.files))),
    ]
    print_rows(f"Imported the data set {dataset.name}", rows, "files")


def _taken(columns: "Columns") -> str:
    """The numbers that are taken, by the source's own names, and their order where it is another than the source's."""
    names = [columns.names[place] for place in columns.order]
    order = f", put in the order {_list(names)}" if tuple(names) != columns.names else ""
    return f"{', '.join(columns.keys)}: {_list(list(columns.names))}{order}"


def _list(names: list[str]) -> str:
    """Names in a line, the first of many."""
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join("".join(map(_printable, name[:100])) for name in names[:MOST]) + more


def _printable(letter: str) -> str:
    return letter if letter.isprintable() else "?"


COMMAND = settings_command("import", ImportSettings, run, EXAMPLES)
