"""Registering trained models in MLflow's model registry, and choosing a study's best.

The best member of a method is the one that controls best in the first check after its training: by `check_SCORE` of the
task's primary score, then of its other scores in [0, 1], then by the lower validation loss. Those 100 episodes are not
the ones that an evaluation reports, so that the scores of the best are not flattered by the choice; neither test loss
nor reported scores have a say. Without a simulator there is no check: the validation loss alone chooses. Where seeds
of a method differ little, 100 episodes do not tell them apart, and the best is one of equals.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from pipeline.config import ALL, AUTO, NONE
from pipeline.errors import SettingsError, UserError, one_line
from pipeline.evaluation.stored import protocol_of
from pipeline.locks import file_lock
from pipeline.names import BEST_VAL_LOSS, KIND, METHOD, STUDY, Kind
from pipeline.policies.load import load_policy
from pipeline.registry.settings import RegisterSettings
from pipeline.report.model_card import model_card, training_facts
from pipeline.report.scores import COSTS
from pipeline.results.gather import to_model
from pipeline.results.task import task_of_runs
from pipeline.stages.changed import changed_data
from pipeline.stages.finish import CHECK, CHECK_EPISODES, FINAL_METRICS
from pipeline.stages.judging import MEAN
from pipeline.stages.models import models_of_study, require_finished
from pipeline.stages.say import Say, silent
from pipeline.tasks.project import DEFAULT
from pipeline.tasks.score import shares_of
from pipeline.tasks.task import Task
from pipeline.tracking.query import (
    StoredRun,
    chunk_of,
    experiments_of,
    fetch,
    is_average,
    is_model,
    model_artifact,
    search_study,
    task_of,
)
from pipeline.tracking.registry import (
    Version,
    add_version,
    log_model,
    logged_model,
    registry_errors,
    renew_version,
    set_alias,
    versions_of,
)
from pipeline.tracking.store import Store, home, open_store

CHOSEN_BY = (
    "by {scores}, in the first check after training ({episodes} episodes, action noise {noise:g}, replan {replan}), "
    "which are not the episodes reported below, then by validation loss"
)


@dataclass(frozen=True)
class Registered:
    """A version, and of what run it is."""

    version: Version
    run: StoredRun
    best: bool  # of its study and group
    new: bool  # registered by this call


def register_models(settings: RegisterSettings, say: Say) -> list[Registered]:
    """Register what is named; raises `UserError` kinds before anything is registered."""
    store = open_store()
    runs = [fetch(store, run_id) for run_id in dict.fromkeys(settings.run)]
    for run in runs:
        require_finished(run)
    if settings.study != NONE:
        members = models_of_study(store, settings.study, settings.experiment)
        runs += [run for run in members if run.run_id not in settings.run]
    if not runs:
        raise SettingsError("run: name MLflow runs, or a study with --study. See --help.")
    for line in changed_data(runs):
        say(f"warning: {line}")
    return register_runs(store, runs, say, settings.task)


def register_members(store: Store, study: str, experiment: str, say: Say, task: str = AUTO) -> bool:
    """Register all models of a study; False, and a warning, where the store has no registry that takes them."""
    try:
        made = register_runs(store, models_of_study(store, study, experiment), silent, task)
    except UserError as error:
        say(f"warning: not registered: {one_line(error)} 'python -m pipeline register --study {study}' tries again")
        return False
    new, names = sum(each.new for each in made), ", ".join(sorted({each.version.name for each in made}))
    say(f"registered in MLflow's registry: {new} new models, {len(made) - new} known, as {names}")
    return True


def registered_name(task: str, method: str) -> str:
    """The registered model of a method: `pi0`, and of another task than the default one `TASK-pi0`."""
    return method if task == DEFAULT else f"{task}-{method}"


def register_runs(store: Store, runs: Sequence[StoredRun], say: Say, task: str = AUTO) -> list[Registered]:
    """Register each run's model with its card, and let `best-STUDY` stand for the best of a study, see `best_alias`.

    A model that its training has logged is taken as it is; of others the file is fetched and logged now. `task` is a
    reference to a user's own task, if they are of one.
    """
    made = []
    tasks = {name: task_of_runs([name], task) for name in {task_of(run) for run in runs}}
    names = {run.run_id: registered_name(task_of(run), run.tags[METHOD]) for run in runs}
    home().mkdir(parents=True, exist_ok=True)
    with file_lock(home() / ".registry.lock"):  # two at once would register a run twice
        versions = {name: versions_of(store, name) for name in set(names.values())}
        experiments = experiments_of(store, runs)
        parts = {
            (task_of(run), run.tags[STUDY], run.tags[METHOD], experiments[run.experiment_id])
            for run in runs
            if is_model(run) and STUDY in run.tags
        }
        holders = {
            (name, alias): each.tags.get("experiment")
            for name, found in versions.items() for each in found for alias in each.aliases
        }  # fmt: skip
        bests = {found.run_id for part in parts if (found := best_of(store, tasks[part[0]], *part[1:]))}
        for run in runs:
            name, study, best = names[run.run_id], run.tags.get(STUDY), run.run_id in bests
            tags = {KIND: run.tags.get(KIND, Kind.MODEL), "experiment": experiments[run.experiment_id]}
            tags |= {STUDY: study} if study else {}
            card = card_of(store, tasks[task_of(run)], run, best)
            version = next((each for each in versions[name] if each.run_id == run.run_id), None)
            new = version is None
            if version is None:
                model_id = logged_model(store, run.run_id) or _log(store, run, card)
                version = add_version(store, name, run.run_id, model_id, card, tags)
            else:
                renew_version(store, version, card, tags)
            if study and best:
                alias, own = best_alias(study), experiments[run.experiment_id]
                if holders.setdefault((name, alias), own) not in (own, None):  # a study of this name elsewhere
                    alias = best_alias(study, own)
                if alias not in version.aliases:
                    set_alias(store, alias, version)
            say(f"registered {run.name} as {version}{f', the best of {study}' if best else ''}")
            made.append(Registered(version, run, best, new))
    return made


def _log(store: Store, run: StoredRun, card: str) -> str:
    metrics = [name for name in run.metrics if name in (*FINAL_METRICS, *COSTS)]
    metrics += [name for name in run.metrics if name.startswith(CHECK) or name.endswith(f"/{MEAN}")]
    with model_artifact(store, run) as path, registry_errors(f"model of {run.name}"):
        return log_model(store, run.run_id, load_policy(path), path, card, metrics)


def best_alias(study: str, experiment: str = "") -> str:
    """The alias of a study's best model, with the experiment where another one's study of that name has the plain one.

    MLflow takes no dots, and `a.b` must not be `a_b`: a digest says which.
    """
    plain, whole = study.replace(".", "_"), f"{experiment}/{study}" if experiment else study
    return f"best-{plain}" if plain == whole else f"best-{plain}-{sha256(whole.encode()).hexdigest()[:6]}"


def choosing(task: Task) -> tuple[str, ...]:
    """The scores that choose a study's best, the primary one before the others; none without a simulator."""
    others = (name for name in shares_of(task.scores) if name != task.primary)
    return (task.primary, *others) if task.world else ()


def best_of(store: Store, task: Task, study: str, method: str, experiment: str = ALL) -> StoredRun | None:
    """The best member of a method in a study of a task, as said at the top; None if none was looked at."""
    looks = [f"{CHECK}{name}" for name in choosing(task)]

    def known(run: StoredRun, name: str) -> bool:
        return math.isfinite(run.metrics.get(name, math.nan))

    def looked(run: StoredRun, name: str) -> float:
        return run.metrics[name] if known(run, name) else -math.inf  # runs of early versions have fewer scores

    found = [
        run
        for run in search_study(store, study, experiment)
        if run.status == "FINISHED"
        and is_model(run)
        and run.tags[METHOD] == method
        and known(run, BEST_VAL_LOSS)
        and (not looks or any(known(run, name) for name in looks))
    ]
    return max(
        found,
        default=None,
        key=lambda run: (
            *(looked(run, name) for name in looks),
            -run.metrics[BEST_VAL_LOSS],
            -run.started,
        ),
    )


def chosen_by(task: Task) -> str:
    """Say how a study's best is chosen."""
    if task.world is None:
        return "by validation loss"
    looked = task.middle_condition
    return CHOSEN_BY.format(
        scores=", then ".join(choosing(task)), episodes=CHECK_EPISODES, noise=looked.action_noise, replan=looked.replan
    )


def card_of(store: Store, task: Task, run: StoredRun, best: bool) -> str:
    """The card of a run's model as Markdown."""
    method, protocol = run.tags[METHOD], protocol_of(run.tags)
    scores = to_model(store, run, task, method, protocol, notes=[]).scores
    complete = all(name in scores for name in shares_of(task.scores))
    facts = training_facts(task, chunk_of(run, task), run.name, run.run_id, run.tags, run.params)
    if is_average(run):
        about = f"The mean of the chunks of all {method} models of the study '{run.tags[STUDY]}': one policy."
        facts = replace(
            facts, about=about, chosen="Not chosen: it is the average of all finished members, good and bad."
        )
    elif study := run.tags.get(STUDY):
        chosen = f"{'The best' if best else 'A member'} of its method in the study '{study}'"
        facts = replace(facts, chosen=chosen + (f", chosen {chosen_by(task)}." if best else ", and not its best."))
    return model_card(
        replace(
            facts,
            protocol=str(protocol) if complete else "",
            episodes=protocol.episodes if protocol else 0,
            scores=scores,
        )
    )
