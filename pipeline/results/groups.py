"""What a group of models is called that no study named, and on what data groups were trained."""

from collections.abc import Mapping, Sequence

from pipeline.config import NONE
from pipeline.methods.settings import NOT_THE_RECIPE
from pipeline.names import (
    DATA_ASKED,
    DATA_SET,
    DATA_SHA256,
    DEVICE,
    HORIZON,
    METHOD,
    PAIRS_SHA256,
    SHA256,
    TOKENIZER_SHA256,
)
from pipeline.tasks.task import Task
from pipeline.tracking.query import StoredRun, chunk_of

DIGESTS = (DATA_SHA256, TOKENIZER_SHA256)
# Neither are names and places: the digests of the data count, and that of a tokenizer tells its scheme.
NOT_A_DIFFERENCE = NOT_THE_RECIPE | {"device", "data", "pairs", "tokenizer", "task", "scheme"}


def computed_groups(models: Sequence[StoredRun]) -> dict[str, str]:
    """Return the name of each model's group, by run id: its method, and what differs between models of the method.

    Data that differ have the name of their set, where that tells them apart, else their digest.
    """
    names = {}
    for method in {run.tags[METHOD] for run in models}:
        same = [run for run in models if run.tags[METHOD] == method]
        labels = _labels(same, DATA_SHA256)
        recipes = {run.run_id: _recipe(run, labels) for run in same}
        keys = sorted({key for found in recipes.values() for key in found})
        differing = [key for key in keys if len({found.get(key, "-") for found in recipes.values()}) > 1]
        for run in same:
            parts = [f"{key.removesuffix(SHA256)}={recipes[run.run_id].get(key, '-')}" for key in differing]
            names[run.run_id] = " ".join([method, *parts])
    return names


def _recipe(run: StoredRun, labels: Mapping[str, str]) -> dict[str, str]:
    known = {HORIZON: "0"}  # early runs do not tell it
    settings = known | {name: _number(value) for name, value in run.params.items() if name not in NOT_A_DIFFERENCE}
    settings[DEVICE] = run.tags.get(DEVICE, "cpu")  # the resolved device; early runs have no such tag
    return settings | {name: labels.get(run.tags[name], run.tags[name][:12]) for name in DIGESTS if name in run.tags}


def _number(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def data_notes(models: Sequence[StoredRun], names: Mapping[str, str], task: Task) -> list[str]:
    """A note if not all groups were trained on the same action pairs, which have a length of chunks too.

    Groups whose runs, of early versions, do not tell what pairs theirs were are left out.
    """
    told = {run.run_id: digest for run in models if (digest := _pairs_digest(run))}
    labels = _labels([run for run in models if run.run_id in told], PAIRS_SHA256)
    groups: dict[str, list[str]] = {}  # by what they were trained on
    for run in models:
        if run.run_id in told:
            digest = told[run.run_id]
            pairs = f"{labels.get(digest, 'pairs')} ({chunk_of(run, task)} actions a chunk, sha256 {digest[:12]})"
            if names[run.run_id] not in groups.setdefault(pairs, []):
                groups[pairs].append(names[run.run_id])
    if len(groups) < 2:
        return []
    listed = "; ".join(f"{', '.join(found)} on {pairs}" for pairs, found in groups.items())
    return [f"Not all groups were trained on the same pairs, so differences between them may be of the data: {listed}."]


def _pairs_digest(run: StoredRun) -> str:
    """The digest of the action pairs that a run was trained on, if it tells it."""
    return run.tags.get(PAIRS_SHA256) or ("" if TOKENIZER_SHA256 in run.tags else run.tags.get(DATA_SHA256, ""))


def _labels(runs: Sequence[StoredRun], tag: str) -> dict[str, str]:
    """The names of data sets by the digest in this tag, where a name stands for one digest only."""
    digests: dict[str, set[str]] = {}
    for run in runs:
        name = run.tags.get(DATA_SET) or run.params.get(DATA_ASKED, NONE)
        if name != NONE and (digest := run.tags.get(tag) or _pairs_digest(run)):
            digests.setdefault(name, set()).add(digest)
    return {next(iter(found)): name for name, found in sorted(digests.items(), reverse=True) if len(found) == 1}
