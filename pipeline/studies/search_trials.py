"""The trials of a search: each is opened with what it tries, and closed with what came of it.

What is true stands in MLflow's runs, search > method > trial > models.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pipeline.errors import SettingsError, one_line
from pipeline.names import GROUP, KIND, METHOD, SEARCH, TRAIN_SECONDS, TRIAL, Kind
from pipeline.report.search import COMPLETE, FAILED, PRUNED, Tried
from pipeline.stages.say import Say
from pipeline.streams import derive
from pipeline.studies.groups import Member
from pipeline.studies.jobs import Runs
from pipeline.studies.sampler import suggest
from pipeline.studies.search_plan import Plan
from pipeline.studies.space import Params
from pipeline.tracking.query import search_study
from pipeline.tracking.run import TrackedRun
from pipeline.tracking.store import Store
from pipeline.tracking.study import open_group

TRIED, OUTCOME = "tried", "outcome"  # tags of a trial, as JSON: its settings, and what came of it
REASON = "reason"  # tag of a trial: why its settings make no model, as soon as that is known


@dataclass(frozen=True)
class Begun:
    """What is settled of a trial from its beginning."""

    params: Params
    reason: str = ""  # why these settings make no model, if an earlier call found that


@dataclass
class Trial:
    """A trial under way."""

    method: str
    number: int
    params: Params
    run: TrackedRun
    members: list[Member]  # by seed; none where such settings cannot be
    reason: str = ""  # why it failed
    scores: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    hopeless: bool = False

    def fail(self, reason: str) -> None:
        """Note why it has failed, in the store at once: no later call trains these settings again."""
        if not self.reason:
            self.reason = reason
            self.run.tags({REASON: reason})

    def finished(self) -> Tried:
        """What came of it."""
        state = FAILED if self.reason else PRUNED if self.hopeless else COMPLETE
        scores = () if self.reason else tuple(self.scores)
        return Tried(self.method, self.number, self.params, state, scores, tuple(self.seconds), self.reason)


Finished = dict[str, dict[int, Tried]]
"""The finished trials by method and number."""


def find_trials(store: Store, plan: Plan) -> tuple[Finished, dict[tuple[str, int], Begun]]:
    """The finished trials of earlier calls, and those that were begun, by method and number."""
    finished: Finished = {method: {} for method in plan.groups}
    begun: dict[tuple[str, int], Begun] = {}
    for run in search_study(store, plan.study, plan.experiment):
        if run.tags.get(KIND) != Kind.TRIAL or TRIED not in run.tags or run.tags[METHOD] not in finished:
            continue
        method, number = run.tags[METHOD], int(run.tags[TRIAL])
        begun[method, number] = Begun(json.loads(run.tags[TRIED]), run.tags.get(REASON, ""))
        if OUTCOME in run.tags:
            told = json.loads(run.tags[OUTCOME])
            finished[method][number] = Tried(
                method, number, begun[method, number].params, told["state"], tuple(told["scores"]),
                tuple(told["seconds"]), told["reason"],
            )  # fmt: skip
            if run.status == "RUNNING":  # its process was killed before it could say so
                TrackedRun(store, run.run_id).end("FAILED" if told["state"] == FAILED else "FINISHED")
    return finished, begun


def open_trials(
    store: Store,
    plan: Plan,
    runs: Runs,
    finished: Finished,
    begun: Mapping[tuple[str, int], Begun],
    numbers: range,
) -> list[Trial]:
    """The trials of a round that are not finished, each with its run; what it tries is there before it is trained.

    One that was begun goes on with what it tried, whatever would be suggested now.
    """
    trials = []
    for method in plan.groups:
        before = [finished[method][number] for number in range(numbers[0])]
        beside: list[Params] = []
        for number in numbers:
            known = begun.get((method, number))
            if known is None:
                seed = derive(plan.settings.seed, "search", method)
                known = Begun(suggest(plan.spaces[method], plan.settings.sampler, seed, number, before, beside))
            beside.append(known.params)
            if number not in finished[method]:
                trials.append(_open(store, plan, runs, method, number, known))
    return trials


def _open(store: Store, plan: Plan, runs: Runs, method: str, number: int, begun: Begun) -> Trial:
    name = f"{method} trial {number}"
    tags = {GROUP: name, METHOD: method, TRIAL: str(number), SEARCH: plan.settings.search}
    run = open_group(store, runs.groups[method], runs.place(runs.groups[method], Kind.TRIAL, tags))
    run.params(begun.params)
    run.tags({TRIED: json.dumps(begun.params)})
    try:
        group = replace(plan.settings_of(method, begun.params), name=name, trained=name)
        members = [group.member(seed) for seed in plan.seeds]
    except SettingsError as error:
        return Trial(method, number, begun.params, run, [], one_line(error))
    return Trial(method, number, begun.params, run, members, begun.reason)


def close(plan: Plan, each: Trial, say: Say) -> Tried:
    """Log what came of a trial, and end its run."""
    made = each.finished()
    for number, score in enumerate(made.scores):
        each.run.metrics({"score_by_seed": score}, number)
    if made.scores:
        each.run.metrics({"score": made.value, TRAIN_SECONDS: made.cost})
    each.run.flush()
    told = {"state": made.state, "scores": made.scores, "seconds": made.seconds, "reason": made.reason}
    each.run.tags({OUTCOME: json.dumps(told), "state": made.state})
    each.run.end("FAILED" if made.state == FAILED else "FINISHED")
    primary = plan.task.scores[plan.task.primary]
    words = {
        COMPLETE: f"{primary.short} {primary.text(made.value)}, {made.cost:.1f} s of training",
        PRUNED: f"given up after its first seed, {primary.short} {primary.text(made.value)}",
        FAILED: f"failed: {made.reason}",
    }
    say(f"{each.method} trial {each.number}: {words[made.state]}")
    return made
