"""From the store to a comparison: a query over MLflow runs. Without torch, so that a report is fast."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ALL, AUTO
from pipeline.errors import SettingsError, StoreError, one_line
from pipeline.evaluation.protocol import VERSION, Protocol
from pipeline.evaluation.stored import EPISODES_FILE, FOLDER, protocol_of, read_episodes
from pipeline.names import (
    BEST_TEST_LOSS,
    CHUNK_MAE,
    CHUNK_MSE,
    KIND,
    LOOKED,
    METHOD,
    SEARCH,
    SEED,
    STUDY,
    TRAINED,
    WEIGHTS_SHA256,
    Kind,
)
from pipeline.report.comparison import Comparison, Model, compare_models
from pipeline.report.design import MARGIN, NO_LOOKS, PREFIX, Design, design_of, earlier_of
from pipeline.report.scores import COSTS
from pipeline.results.groups import DIGESTS, computed_groups, data_notes
from pipeline.results.task import task_of_runs
from pipeline.stages.changed import changed_data
from pipeline.tasks.score import PLANNED, REBUILT, error_metrics
from pipeline.tasks.task import Task
from pipeline.tracking.query import (
    StoredRun,
    artifact,
    group_of,
    is_acting,
    is_average,
    is_model,
    search,
    search_study,
    task_of,
)
from pipeline.tracking.store import Store

BESIDE = (Kind.AVERAGE, Kind.ORIGINAL, Kind.YARDSTICK)  # kinds of runs that are shown next to models
ORDER = ("pi0", "pi0_fast", "regression", "binning")  # order of groups by method; others follow by name
EARLIER_NAMES = {"best_test_loss": BEST_TEST_LOSS}  # of metrics, in runs of early versions


@dataclass(frozen=True)
class Gathered:
    """A comparison, with what it was made from."""

    comparison: Comparison
    protocol: Protocol | None  # of its evaluations; None if no model was evaluated
    runs: Mapping[str, StoredRun] = field(default_factory=dict)  # those compared, by id
    study_run: str | None = None  # the id of the study's run, if a study is compared


def gather(store: Store, study: str = ALL, experiment: str = ALL, task: str = AUTO) -> Gathered:
    """Query the store and compare; `study` "all" means every finished model of the task, of a study or not.

    `task` is a name or a reference, or "auto", see `task_of_runs`. Raises `SettingsError` if there is nothing to
    compare, or it is of another task.
    """
    found = search(store, experiment=None if experiment == ALL else experiment) if study == ALL else None
    found = search_study(store, study, experiment) if found is None else found
    studied = [run for run in found if study != ALL and run.tags.get(KIND) == Kind.STUDY]
    found = [run for run in found if run.status == "FINISHED" and SEARCH not in run.tags]
    models = [run for run in found if is_model(run)]
    if not models:
        what = "a store with finished models" if study == ALL else f"a study '{study}' with finished models"
        raise SettingsError(
            f"report: expected {what}, found none. Train some, e.g. with 'python -m pipeline ensemble'."
        )
    known = task_of_runs([task_of(run) for run in models], task)
    others = sum(task_of(run) != known.name for run in models)
    found = [run for run in found if task_of(run) == known.name]
    models = [run for run in found if is_model(run)] + [run for run in found if is_acting(run)]
    beside = newest_averages([run for run in found if run.tags.get(KIND) in BESIDE and METHOD in run.tags])
    design = design_of(studied[-1].tags) if studied else None
    protocol = Protocol(design.episodes, design.seed) if design else most_common_protocol(models)
    notes = [f"{others} models of other tasks are left out: name one by --task."] if others else []
    notes += evaluation_notes(models, beside, protocol)
    notes += design_notes(studied[-1].tags) if studied and design else []
    names = computed_groups(models) if study == ALL else {run.run_id: group_of(run) for run in models}
    chosen = one_per_seed(models, names, protocol)
    if len(chosen) < len(models):
        repeated = len(models) - len(chosen)
        notes.append(
            f"{repeated} runs repeat the settings and seed of another run, which is used instead (evaluated or newer)."
        )
    notes += acting_notes(chosen, names)
    notes += data_notes(chosen, names, known)
    notes += [f"{line}." for line in changed_data(chosen)]
    read = [to_model(store, run, known, names[run.run_id], protocol, notes) for run in chosen]
    judged = newest([run for run in beside if protocol is not None and protocol_of(run.tags) == protocol])
    read += [to_model(store, run, known, name_beside(run, beside), protocol, notes) for run in judged]
    methods = {run.run_id: run.tags[METHOD] for run in [*models, *beside]}
    read.sort(key=lambda model: (_rank(methods[model.run_id]), methods[model.run_id], model.group))
    title = "all runs" if study == ALL else f"study {study}"
    if design is None:
        episodes, seed = (protocol.episodes, protocol.seed) if protocol else (0, 0)
        design = Design(known.primary, MARGIN, ", ".join(map(str, known.conditions)), episodes, seed)
        notes += ["The terms of this comparison were not fixed before the evaluation."] if protocol else []
    comparison = compare_models(known, title, str(protocol or "none yet"), design, read, notes)
    compared = {run.run_id: run for run in [*chosen, *judged]}
    return Gathered(comparison, protocol, compared, studied[-1].run_id if studied else None)


def most_common_protocol(models: Sequence[StoredRun]) -> Protocol | None:
    """Return the protocol by which most models were evaluated; None if none was, or by an earlier version."""
    found = (protocol_of(run.tags) for run in models)
    protocols = Counter(protocol for protocol in found if protocol and protocol.version == VERSION)
    return protocols.most_common(1)[0][0] if protocols else None


def design_notes(tags: Mapping[str, str]) -> list[str]:
    """Return notes on a study that looked more than once, or at other terms, from the tags of its run."""
    notes = []
    for number, each in enumerate(earlier_of(tags), start=1):
        notes.append(f"Earlier terms {number}: {each['design']}. The verdict then: {each['verdict']}.")
    looked = tags.get(LOOKED, "").split()
    if len(looked) > 1 and tags.get(f"{PREFIX}looks", NO_LOOKS) == NO_LOOKS:
        notes.append(
            f"The verdict was read with {', '.join(looked)} models per group: whoever goes on until it pleases finds "
            "more differences than there are. until=decided looks at numbers that are fixed in advance."
        )
    return notes


def _rank(method: str) -> int:
    return ORDER.index(method) if method in ORDER else len(ORDER)


def newest_averages(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """Drop averaged policies that a newer one of the same study and group, of more models, replaces."""
    averages = [run for run in runs if is_average(run)]
    last = {(run.experiment_id, run.tags.get(STUDY), group_of(run)): run.run_id for run in averages}
    kept = {*last.values()}
    return [run for run in runs if not is_average(run) or run.run_id in kept]


def newest(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """Drop yardsticks and originals that several studies have evaluated by one protocol, but for the newest.

    Of other weights in a file of the same name a study keeps the newest too.
    """
    of_study = {(run.tags[KIND], run.name, run.experiment_id, run.tags.get(STUDY)): run for run in runs}
    last = {(run.tags[KIND], run.name, run.tags.get(WEIGHTS_SHA256)): run.run_id for run in of_study.values()}
    kept = {*last.values()}
    return [run for run in runs if is_average(run) or run.run_id in kept]


def evaluation_notes(models: Sequence[StoredRun], beside: Sequence[StoredRun], protocol: Protocol | None) -> list[str]:
    """Return notes about runs that were not evaluated, or by another protocol than most."""
    notes = []
    unjudged = [run for run in models if protocol_of(run.tags) is None]
    if unjudged:
        notes.append(
            f"{len(unjudged)} of {len(models)} models have not been evaluated and have only losses and costs: "
            f"{evaluate_command(protocol, unjudged)}"
        )
    others = [run for run in [*models, *beside] if protocol_of(run.tags) not in (None, protocol)]
    older = [run for run in others if of_another_version(run)]
    notes += left_out(older, "by another version of tinypi, on other episodes", protocol)
    notes += left_out(
        [run for run in others if not of_another_version(run)], f"by another protocol than {protocol}", protocol
    )
    return notes


def of_another_version(run: StoredRun) -> bool:
    """Tell whether a run was evaluated on episodes that this version does not draw."""
    found = protocol_of(run.tags)
    return found is not None and found.version != VERSION


def left_out(runs: Sequence[StoredRun], how: str, protocol: Protocol | None) -> list[str]:
    """Return a note about runs that were evaluated in another way than the others, if there are any."""
    if not runs:
        return []
    again = evaluate_command(protocol, [run for run in runs if is_model(run) or is_acting(run) or is_average(run)])
    return [f"{len(runs)} runs were evaluated {how}: their scores are left out. To include them: {again}"]


def acting_notes(models: Sequence[StoredRun], names: dict[str, str]) -> list[str]:
    """Return a note for each group of models that were not trained for it, with the group whose weights they have."""
    groups = {names[run.run_id]: names.get(run.tags[TRAINED], "") for run in models if is_acting(run)}
    weights: dict[str, set[str]] = {}
    for run in models:
        weights.setdefault(names[run.run_id], set()).add(run.tags[WEIGHTS_SHA256])
    return [
        f"{group}: its models are those of {trained or 'another group'} and act by another rule. "
        + (
            "The two are compared model by model."
            if weights[group] == weights.get(trained)
            else "Not all models are in both, so the two are compared as if they had been trained apart."
        )
        for group, trained in groups.items()
    ]


def evaluate_command(protocol: Protocol | None, runs: Sequence[StoredRun]) -> str:
    """Return the command that evaluates runs by a protocol; it names the first three."""
    options = f" --episodes {protocol.episodes} --seed {protocol.seed}" if protocol else ""
    ids = " ".join(run.run_id for run in runs[:3])
    return f"python -m pipeline evaluate{options} --run {ids}{' ...' if len(runs) > 3 else ''}"


def one_per_seed(models: Sequence[StoredRun], names: dict[str, str], protocol: Protocol | None) -> list[StoredRun]:
    """Keep one of the runs that repeat a group and seed: an evaluated one if there is one, else the newest."""
    ordered = sorted(models, key=lambda run: (protocol_of(run.tags) == protocol, run.started))
    return list({(names[run.run_id], run.params[SEED]): run for run in ordered}.values())


def name_beside(run: StoredRun, beside: Sequence[StoredRun]) -> str:
    """Return the group of a run that is shown next to models; averages with one name in two studies get the study's."""
    if run.tags[KIND] == Kind.ORIGINAL:
        return f"original {run.tags[METHOD]}"
    studies = {each.tags.get(STUDY) for each in beside if each.name == run.name}
    return f"{run.name} ({run.tags.get(STUDY)})" if is_average(run) and len(studies) > 1 else run.name


def is_withdrawn(name: str, value: float) -> bool:
    """Whether an evaluation without the expert's chunks has taken back what an earlier one measured against them."""
    return name in (CHUNK_MAE, CHUNK_MSE) and math.isnan(value)


def to_model(
    store: Store, run: StoredRun, task: Task, group: str, protocol: Protocol | None, notes: list[str]
) -> Model:
    """Read a run's scores, if they are of this protocol, and its costs; unusable values are left out and noted."""
    kind = Kind.MODEL if is_acting(run) else run.tags.get(KIND, Kind.MODEL)
    metrics = {EARLIER_NAMES.get(name, name): value for name, value in run.metrics.items()}
    costs = {name: metrics[name] for name in COSTS if name in metrics and not is_withdrawn(name, metrics[name])}
    odd = [name for name, value in costs.items() if not math.isfinite(value)]
    if odd:
        notes.append(f"{run.name}: left out because they are not finite: {', '.join(odd)}.")
    episodes: dict[str, NDArray[np.float64]] = {}
    if protocol is not None and protocol.version == VERSION and protocol_of(run.tags) == protocol:
        try:
            with artifact(store, run.run_id, f"{FOLDER}/{EPISODES_FILE}") as path:
                episodes = read_episodes(path, protocol.episodes, task)
        except (StoreError, ValueError) as error:
            notes.append(f"{run.name}: its scores cannot be read and are left out: {one_line(error)[:200]}")
    channels = [channel.name for channel in task.action]
    by_dimension = error_metrics(PLANNED, channels) + error_metrics(REBUILT, channels) if episodes else []
    return Model(
        group=group,
        kind=kind,  # type: ignore[arg-type]
        loss_unit=" ".join([run.tags[METHOD], *(run.tags.get(name, "") for name in DIGESTS)]),
        seed=int(run.params[SEED]) if kind == Kind.MODEL else None,
        name=run.name,
        run_id=run.run_id,
        conditions=tuple((each.action_noise, each.replan) for each in task.conditions) if episodes else (),
        episodes=episodes,
        costs={name: value for name, value in costs.items() if name not in odd},
        errors={name: metrics[name] for name in by_dimension if math.isfinite(metrics.get(name, math.nan))},
        method=run.tags[METHOD],
        averages=group_of(run) if is_average(run) else "",
        weights=run.tags.get(WEIGHTS_SHA256, "") if kind == Kind.MODEL else "",
    )
