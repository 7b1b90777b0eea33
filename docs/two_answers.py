"""Draw plans of all methods in a state with two good answers, for docs/explanation/two_answers.md.

    python -m docs.two_answers SUITE
    python -m docs.two_answers FILE.pth ...

takes the models of a suite's studies of avoiding and reacher, or model files of these tasks, and writes
docs/two_answers.png. Where a method is in a study with several recipes, its default one is taken.

The state is not chosen: it is the start of the first episode of evaluations with seed 0. A rule of acting that draws
nothing gives one plan a model; one that draws gives `PLANS` in all. Every plan is carried out in the simulator to its
end, without noise.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from docs.command import command
from docs.picture import save_small
from pipeline.errors import SettingsError
from pipeline.evaluation.control import draw_episodes
from pipeline.names import METHOD
from pipeline.policies.load import load_policy
from pipeline.policies.policy import noise_of
from pipeline.report.path_figures import draw_lines, limits
from pipeline.report.plotting import Axes, Figure, plain
from pipeline.report.scenes import draw_back, draw_front
from pipeline.stages.models import models_of_study
from pipeline.streams import numpy_stream, torch_stream
from pipeline.tasks.registry import find_task
from pipeline.tasks.task import Array, Ints, Task
from pipeline.tasks.ways import carry_out
from pipeline.tracking.query import group_of, is_model, model_artifact
from pipeline.tracking.store import open_store

PICTURE = Path(__file__).with_name("two_answers.png")
PLANS = 60
TASKS = ("avoiding", "reacher")
INKS = {0: "#56B4E9", 1: "#E69F00", -1: "#000000"}  # of plans with the first option, the second, neither


@dataclass(frozen=True)
class Rule:
    """A method and how it acts."""

    title: str
    method: str
    act: Mapping[str, Any]
    draws: bool = False  # whether two plans of a model differ


RULES = (
    Rule("regression", "regression", {}),
    Rule("pi0 from zero", "pi0", {"start_noise": 0}),
    Rule("pi0-FAST, expected token", "pi0_fast", {"decoding": "expected"}),
    Rule("pi0-FAST, likeliest token", "pi0_fast", {"decoding": "greedy"}),
    Rule("pi0-FAST, sampled token", "pi0_fast", {"decoding": "sampled"}, draws=True),
    Rule("pi0 from sampled noise", "pi0", {"start_noise": 1}, draws=True),
)
Models = Mapping[str, list[Path]]
"""Model files of one task by method."""


@dataclass(frozen=True)
class Fan:
    """Plans from one state: N plans of H actions."""

    paths: Array  # (N, H+1, 2), see `Ways.path`; NaN after an early end
    options: Ints  # (N,), what they take at the first decision, -1 for neither


def first_start(task: Task) -> Array:
    """The state `(1, P)` in which all plans begin."""
    return draw_episodes(task, task.conditions[:1], 1, seed=0).starts  # of these tasks, whole states


def fan_of(task: Task, states: Array) -> Fan:
    """Where plans lead, from their states `(N, H+1, P)`."""
    assert task.ways is not None
    over = np.logical_or.accumulate(task.simulator.ended(states), axis=1)
    return Fan(np.where(over[..., None], np.nan, task.ways.path(states)), task.ways.taken(states)[:, 0])


def demonstrated(task: Task, start: Array) -> Fan:
    """What demonstrators do from the state, for the length of a plan."""
    assert task.demonstrator is not None
    variation = task.demonstrator.draw_variation(numpy_stream(0, "two answers", "gains"), PLANS)
    starts = start.repeat(PLANS, 0)
    noise = np.zeros((PLANS, task.horizon, task.action_dim))
    controller = task.demonstrator.controller(variation, starts)
    return fan_of(task, task.simulator.simulate(controller, starts, noise, 1)[0])


def planned(task: Task, start: Array, rule: Rule, files: list[Path]) -> Fan:
    """What a method's models plan in the state, acting by a rule."""
    plans, each = [], -(-PLANS // len(files)) if rule.draws else 1
    for number, path in enumerate(files):
        noise = noise_of(torch_stream(0, "two answers", number))
        plans.append(load_policy(path, act=rule.act).act(task.simulator.observe(start.repeat(each, 0)), noise))
    chunks = np.concatenate(plans).astype(np.float64)
    return fan_of(task, carry_out(task.simulator, start.repeat(len(chunks), 0), chunks))


def counts(task: Task, fan: Fan) -> dict[int, str]:
    """How many plans take each option of the first decision, in words."""
    assert task.ways is not None
    names = dict(zip((0, 1, -1), [*task.ways.decisions[0], "neither"], strict=True))
    return {option: f"{name}: {(fan.options == option).sum()} of {len(fan.options)}" for option, name in names.items()}


@plain()
def draw(fans: Mapping[str, Mapping[str, Fan]], demonstrators: Mapping[str, Fan]) -> Figure:
    """A row a task, a panel a rule, over the demonstrators' paths by task."""
    titles = [rule.title for rule in RULES if any(rule.title in found for found in fans.values())]
    figure = Figure(figsize=(2.7 * len(titles), 3.1 * len(fans) + 0.5), layout="constrained")
    figure.suptitle("Where plans lead from a state with two good answers (grey: what demonstrators do from it)")
    panels = figure.subplots(len(fans), len(titles), squeeze=False)
    places = []  # panels that show places in a scene
    for row, (name, found) in zip(panels, fans.items(), strict=True):
        task = find_task(name)
        assert task.scene is not None and task.ways is not None
        scene = task.scene(first_start(task).repeat(2, 0), np.zeros((1, task.action_dim)))
        within = limits(np.concatenate([fan.paths for fan in (demonstrators[name], *found.values())]))
        for axes, title in zip(row, titles, strict=True):
            if title not in found:
                axes.remove()
                continue
            if task.ways.axes is None:
                axes.set(xlim=(scene.left, scene.right), ylim=(scene.bottom, scene.top), xticks=[], yticks=[])
                axes.set_aspect("equal")
                places.append((axes, scene))
            else:
                axes.set(**within, xlabel=task.ways.axes[0])
                axes.tick_params(labelsize=8, labelleft=axes is row[0])
            draw_fan(axes, task, found[title], demonstrators[name])
            axes.set_title(title, fontsize=11)
        what = task.ways.axes[1] if task.ways.axes else " or ".join(task.ways.decisions[0])
        row[0].set_ylabel(f"{name}: {what}", fontsize=11)
    figure.draw_without_rendering()  # the layout must be known, so that lines of the scene have their width
    for axes, scene in places:
        draw_back(axes, scene)
        draw_front(axes, scene, 0, 0.3)
    return figure


def draw_fan(axes: Axes, task: Task, fan: Fan, demonstrators: Fan) -> None:
    """Draw plans in the colours of what they take, and say how many take it."""
    draw_lines(axes, demonstrators.paths, color="0.8", linewidth=0.8)
    lines, few = counts(task, fan), len(fan.paths) < PLANS
    top = 0.14 if task.ways is None or task.ways.axes is None else 0.46  # where nothing is drawn
    style = {"linewidth": 2.2 if few else 1.4, "alpha": 0.6}
    for number, (option, ink) in enumerate(INKS.items()):
        draw_lines(axes, fan.paths[fan.options == option], color=ink, **style)
        axes.text(0.03, top - 0.055 * number, lines[option], color=ink, fontsize=9, transform=axes.transAxes)


def models_of(words: Iterable[str], stack: ExitStack) -> dict[str, Models]:
    """The model files by task and method, of a suite or as named; raises `SettingsError` if there are none."""
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for word in words:
        if word.endswith(".pth"):
            policy = load_policy(word)
            found[policy.task.name][policy.method].append(Path(word))
            continue
        store = open_store()
        for task in TASKS:
            for run in models_of_study(store, f"{word}-{task}"):
                method = run.tags[METHOD]
                if is_model(run) and group_of(run) == method:
                    path = stack.enter_context(model_artifact(store, run))
                    found[task][method].append(path)
    chosen: dict[str, Models] = {task: found[task] for task in TASKS if task in found}
    if not chosen:
        raise SettingsError(f"two_answers: expected a suite or model files of {' or '.join(TASKS)}, found none.")
    return chosen


@command
def main(words: Sequence[str]) -> int:
    """Draw the picture."""
    with ExitStack() as stack:
        fans: dict[str, dict[str, Fan]] = {}
        demonstrators: dict[str, Fan] = {}
        for name, models in models_of(words, stack).items():
            task = find_task(name)
            start = first_start(task)
            demonstrators[name] = demonstrated(task, start)
            fans[name] = {
                rule.title: planned(task, start, rule, models[rule.method]) for rule in RULES if rule.method in models
            }
            for title, fan in {"demonstrators": demonstrators[name], **fans[name]}.items():
                print(f"{name}, {title}: {', '.join(counts(task, fan).values())}")
    save_small(draw(fans, demonstrators), PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
