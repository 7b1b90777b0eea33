"""A search: trials of recipes for each method, all with the same budget; the best of each becomes a preset.

Trials have numbers, and all that is true of them stands in MLflow's runs, so a search that was killed goes on to the
trials of an undisturbed one.
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.config import NONE
from pipeline.executors.run import Watch
from pipeline.files import write_text
from pipeline.methods.preset import Preset, preset_of, write_preset
from pipeline.names import FAILURES, GROUP, METHOD, SEARCH, TASK, Kind
from pipeline.report.plotting import save
from pipeline.report.search import (
    COMPLETE,
    FAILED,
    PRUNED,
    Found,
    Searched,
    Tried,
    best_table,
    failures,
    notes,
    search_csv,
    search_markdown,
    winners_table,
)
from pipeline.report.search_figures import draw_searched
from pipeline.stages.remote import ready_to_run
from pipeline.stages.say import Say
from pipeline.studies.jobs import Runs
from pipeline.studies.publish import FOLDER, REPORTS
from pipeline.studies.sampler import importances
from pipeline.studies.search_plan import EPISODES, PLAN_FILE, Plan, known_terms, plan_search, require_same_terms
from pipeline.studies.search_rounds import run_rounds
from pipeline.studies.search_trials import Finished
from pipeline.studies.settings import SearchSettings
from pipeline.studies.space import log_settings, space_text
from pipeline.studies.verdict import NOTE, as_note
from pipeline.tracking.begin import experiment_of
from pipeline.tracking.store import Store, open_store
from pipeline.tracking.study import (
    as_tag,
    describe_call,
    end_all,
    ended_by_errors,
    one_at_a_time,
    open_group,
    open_study,
)

MOST_SCORES = 400  # that a preset tells, of the first trials: their digest is of all


@dataclass(frozen=True)
class Made:
    """What a search left."""

    run_id: str
    url: str
    searched: Searched
    files: tuple[Path, ...]
    presets: tuple[Path, ...]
    seconds: float


def run_search(settings: SearchSettings, say: Say, watch: Watch) -> Made:
    """Do what is missing of a search, by the executor that the settings name, see `_run_search`."""
    with ready_to_run(settings, in_store=True):
        return _run_search(settings, say, watch)


def _run_search(settings: SearchSettings, say: Say, watch: Watch) -> Made:
    """Do what is missing of a search, and report on all of it.

    Bad input raises a `UserError` before any work. A trial whose training diverges has failed, and is not tried again.
    If a training fails otherwise, the others of its round go on, and then `RunError` is raised: the same command
    continues.
    """
    started = time.monotonic()
    plan = plan_search(settings, say)
    store = open_store()
    plan = replace(plan, experiment=experiment_of(store, settings.experiment))
    with one_at_a_time(plan.study, Kind.SEARCH):
        known = known_terms(store, plan)
        require_same_terms(plan, known)
        run = open_study(store, plan.study, plan.experiment, Kind.SEARCH)
        runs = Runs(plan.study, plan.task.name, run, {})
        with ended_by_errors(store, run, runs.groups, f"search '{settings.search}'"):
            describe(store, plan, known, runs)
            finished = run_rounds(store, plan, runs, watch, say)
            searched = report_of(plan, finished)
            files, presets = publish(plan, runs, searched)
        end_all(store, run, runs.groups, "FINISHED")
    return Made(run.run_id, run.url, searched, files, presets, time.monotonic() - started)


def describe(store: Store, plan: Plan, known: Mapping[str, Any], runs: Runs) -> None:
    """Log what the search is, before any trial, and open a run for each method."""
    runs.study.json(PLAN_FILE, {**known, **plan.terms})
    lasting = {"sampler", "pruning", "parallel", "seeds_per_trial", "seed"}
    describe_call(runs.study, plan.settings.model_dump(mode="json"), lasting)
    seeds = f"{plan.seeds[0]} to {plan.seeds[-1]}"
    runs.study.tags(
        {
            TASK: plan.task.name,
            SEARCH: plan.settings.search,
            "search.score": plan.task.primary,
            EPISODES: str(plan.evaluation.protocol),
            "search.seeds": seeds,
            "search.max_seconds": limits_text(plan.settings),  # no param: calls may differ in it
        }
    )
    for method, group in plan.groups.items():
        place = runs.place(runs.study, Kind.GROUP, {GROUP: method, SEARCH: plan.settings.search})
        run = open_group(store, runs.study, place)
        runs.groups[method] = run
        run.tags({METHOD: method})
        run.params(
            {
                name: value
                for name, value in plan.terms[f"recipe of {method}"].items()
                if name not in plan.spaces[method]
            }
        )
        assert group.name == method, "a group of a search is a method"


def report_of(plan: Plan, finished: Finished) -> Searched:
    """What the finished trials tell."""
    settings, limits = plan.settings, plan.settings.limits
    found = []
    for method, by_number in finished.items():
        tried = tuple(by_number[number] for number in range(settings.trials))  # an earlier call may have had more
        space = plan.spaces[method]
        found.append(Found(method, tried, importances(space, tried), log_settings(space), limits[method]))
    sizes = " or ".join(dict.fromkeys(str(len(space)) for space in plan.spaces.values()))
    terms = (
        f"Each method: {settings.trials} trials by {settings.sampler}, {sizes} searched settings, "
        f"{settings.seeds_per_trial} seeds from {settings.base_seed}, rounds of {settings.parallel}, pruning "
        f"{settings.pruning}; longest training of a winner {limits_text(settings)}; {plan.evaluation.protocol}."
        + (f" Trained together: {', '.join(sorted(plan.together))}." if plan.together else "")
    )
    return Searched(settings.search, plan.task.name, plan.task.scores[plan.task.primary], terms, tuple(found))


def limits_text(settings: SearchSettings) -> str:
    """The longest training of each method's winner, in words."""
    limits = {name: limit for name, limit in settings.limits.items() if limit is not None}
    if len(limits) == len(settings.names) and len(set(limits.values())) == 1:
        return f"{min(limits.values()):g} s"
    return ", ".join(f"{name} {limit:g} s" for name, limit in limits.items()) or NONE


def publish(plan: Plan, runs: Runs, searched: Searched) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Write report, figures and presets into the mirror and the search's run; returns reports, and presets."""
    folder = REPORTS / plan.settings.search
    texts = {
        "search.md": search_markdown(searched),
        "trials.csv": search_csv(searched),
        "space.yaml": space_text(plan.spaces),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    drawn = draw_searched(searched)
    for name, figure in drawn.items():
        save(figure, folder / f"{name}.png")
    files = (*(folder / name for name in texts), *(folder / f"{name}.png" for name in drawn))
    presets = []
    for each in searched.found:
        path = folder / f"{each.method}.yaml"
        if each.winner is None:
            path.unlink(missing_ok=True)  # of an earlier call, with another limit
            runs.study.remove_file(f"{FOLDER}/{path.name}")
            runs.groups[each.method].metrics({"best_score": math.nan, "best_trial": math.nan})
            runs.groups[each.method].flush()
            continue
        write_preset(path, preset_for_winner(plan, runs, each, each.winner))
        presets.append(path)
        runs.groups[each.method].metrics({"best_score": each.winner.value, "best_trial": float(each.winner.number)})
        runs.groups[each.method].flush()
    for path in (*files, *presets):
        runs.study.file(path, FOLDER)
    lines = "\n".join(f"- {line}" for line in notes(searched))
    tables = [winners_table(searched).markdown(), best_table(searched).markdown()]
    told = as_note([f"**Search {searched.name}**", *tables, lines])
    runs.study.tags({NOTE: told, FAILURES: as_tag("; ".join(failures(searched)))})
    return files, tuple(presets)


def preset_for_winner(plan: Plan, runs: Runs, each: Found, won: Tried) -> Preset:
    """The preset of a method's winner, with the trials that it came from."""
    tried = [
        {"number": one.number, "params": dict(one.params), "state": one.state, "scores": [*one.scores]}
        for one in each.tried
    ]
    states = [one.state for one in each.tried]
    found = {
        "search": plan.settings.search,
        "run_id": runs.study.run_id,
        "task": plan.task.name,
        "trial": won.number,
        "searched": [*won.params],
        "score": plan.task.primary,
        "mean": won.value,
        "scores": [*won.scores],
        "seeds": [*plan.seeds],
        "train_seconds": round(won.cost, 2),
        "max_seconds": each.limit,
        "episodes": str(plan.evaluation.protocol),
        "trials": {state: states.count(state) for state in (COMPLETE, PRUNED, FAILED)},
        "trials_sha256": sha256(json.dumps(tried, sort_keys=True).encode()).hexdigest(),
        "tried": tried[: max(1, MOST_SCORES // len(plan.seeds))],
    }
    group = plan.settings_of(each.method, dict(won.params))
    return preset_of(group.method, group.settings, found)
