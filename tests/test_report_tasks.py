"""Nothing in the report knows a task: a made-up one of two action dimensions goes through all of it."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from pipeline.errors import SettingsError
from pipeline.evaluation.control import draw_episodes
from pipeline.evaluation.protocol import Protocol
from pipeline.evaluation.stored import EPISODES_FILE, FOLDER, PATHS_FILE, protocol_tags, write_episodes
from pipeline.evaluation.yardsticks import evaluate_yardstick
from pipeline.registry.register import choosing, chosen_by, registered_name
from pipeline.report.comparison import Comparison
from pipeline.report.comparison_tables import averages_table
from pipeline.report.group_styles import styles_of
from pipeline.report.headline import headline
from pipeline.report.model_card import model_card, training_facts
from pipeline.report.overview import as_markdown, as_text
from pipeline.report.page import Page, captions_of, main_tables, render_page
from pipeline.report.path_figures import Beneath, draw_paths
from pipeline.report.plan_figures import Plans, draw_plans
from pipeline.report.plotting import as_svg
from pipeline.report.score_figures import draw_scores
from pipeline.report.tables import Table
from pipeline.report.values import as_values
from pipeline.report.words import as_sentence, listed
from pipeline.results.episodes import show_episodes
from pipeline.results.figures import backdrop, demonstrated_paths, draw_figures
from pipeline.results.gather import Gathered, gather
from pipeline.results.task import task_of_runs
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.project import TASKS
from pipeline.tracking.query import StoredRun, chunk_of
from pipeline.tracking.store import open_store
from tests.puck import PUCK, WITHOUT_SCENE
from tests.test_report_suite import made_up

STYLES = styles_of({"pi0": "pi0"})


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The made-up task as one of the project's."""
    monkeypatch.setitem(TASKS, "puck", "tests.puck:PUCK")


@pytest.fixture(scope="module")
def compared() -> Comparison:
    return made_up(PUCK, {"pi0": 0.8, "regression": 0.6})


def test_tables_have_the_scores_of_the_task(compared: Comparison) -> None:
    assert compared.main == ("near", "success", "ways", "switches")
    assert averages_table(compared).columns == ("group", "models", "near", "success", "ways", "switches")
    assert headline(compared)[0][0] == "pi0 is better than regression in near."
    assert main_tables(compared)[1].title.startswith("Nearness to the goal")
    for text in (as_text(compared), as_markdown(compared), str(as_values(compared))):
        assert "near" in text and not any(word in text for word in ("calm", "converge", "pole", "cart"))
    assert as_values(compared)["task"] == "puck"


def test_scores_and_plans_are_drawn_of_every_dimension(compared: Comparison) -> None:
    figure = draw_scores(compared)
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["near", "success"], "those that were scored"
    chance = np.random.default_rng(0)
    plans = {"pi0": Plans(*(chance.normal(size=shape) for shape in ((3, 10, 2), (2, 3, 10, 2), (2, 10))))}
    figure = draw_plans("x", plans, {"pi0": "MAE 1"}, tuple(map(str, PUCK.action)), PUCK.control_seconds, STYLES)
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == [
        "push along, N",
        "push across, N",
        "MAE, action units",
    ]
    assert "actions" not in figure.get_suptitle()
    more = {"pi0": Plans(*(chance.normal(size=shape) for shape in ((1, 10, 5), (1, 1, 10, 5), (1, 10))))}
    assert ", actions 1 to 3 of 5: thin lines" in draw_plans("x", more, {}, "abcde", 0.1, STYLES).get_suptitle()
    drawn = figure.axes[3].lines[-1]
    assert drawn.get_label() == "expert" and (drawn.get_ydata() == plans["pi0"].expert[0, :, 1]).all()


def test_long_names_of_groups_stay_in_the_figures() -> None:
    """As those of a suite: the legend of scores, that of plans, and the titles of the panels of paths."""
    names = ["pi0_fast scheme=one_scale decoding=greedy", "pi0 start_noise=1", "pi0", "regression patch=50"]
    chance = np.random.default_rng(0)
    plans = {
        name: Plans(*(chance.normal(size=shape) for shape in ((4, 50, 1), (2, 4, 50, 1), (2, 50)))) for name in names
    }
    paths, styles = {name: chance.normal(size=(3, 5, 2)) for name in names}, styles_of({name: name for name in names})
    figures = [
        draw_scores(made_up(PENDULUM, dict.fromkeys(names, 0.5), models=2)),
        draw_plans("x", plans, dict.fromkeys(names, "MAE 1"), ("force",), 0.04, styles),
        draw_paths("x", paths, dict.fromkeys(names, "entropy"), styles, Beneath()),
    ]
    for figure in figures:
        figure.draw_without_rendering()
        legends = [legend for axes in figure.axes if (legend := axes.get_legend())]
        for part in (*figure.legends, *legends, *(axes.title for axes in figure.axes)):
            box = part.get_window_extent()
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1


def test_paths_lie_over_those_of_the_demonstrators() -> None:
    """Both ways are there, a cross marks an early end, and the post is drawn beneath."""
    demonstrated, scene = demonstrated_paths(PUCK), backdrop(PUCK)
    assert demonstrated is not None and demonstrated.shape == (200, PUCK.episode_steps + 1, 2)
    sides = np.sign(demonstrated[np.arange(200), np.abs(demonstrated[:, :, 0]).argmin(1), 1])
    assert 60 < (sides > 0).sum() < 140
    ending = demonstrated[:5].copy()
    ending[:, 12:] = np.nan
    paths, notes, styles = (
        {"a": demonstrated[:50], "b": ending},
        {"a": "entropy 1.000"},
        styles_of({"a": "a", "b": "b"}),
    )
    figure = draw_paths("x", paths, notes, styles, Beneath(demonstrated, scene))
    assert [axes.get_title() for axes in figure.axes] == ["a\nentropy 1.000", "b"]
    (cross,) = [line for line in figure.axes[1].lines if line.get_marker() == "x"]
    assert (np.stack(cross.get_data(), 1) == ending[:, 11]).all()
    assert len(figure.axes[0].patches) == 2 and b"<svg" in as_svg(figure)
    assert not {*figure.axes[0].get_xlim()} - {scene.left, scene.right}
    named = draw_paths("x", paths, notes, styles, Beneath(demonstrated, axes=("distance, m", "side, m")))
    assert (named.get_supxlabel(), named.get_supylabel()) == ("distance, m", "side, m")
    for axes in named.axes:  # all that demonstrators do is in sight
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert left < demonstrated[..., 0].min() < demonstrated[..., 0].max() < right
        assert bottom < demonstrated[..., 1].min() < demonstrated[..., 1].max() < top
    few = demonstrated_paths(replace(PUCK, world=replace(PUCK.world, most=7)))
    assert few is not None and (few == demonstrated).all(), "in a world with room for few episodes the same"
    assert demonstrated_paths(PENDULUM) is None and backdrop(WITHOUT_SCENE) is None


def test_the_page_of_a_task_without_a_scene_says_so(compared: Comparison) -> None:
    bare = Gathered(replace(compared, task=WITHOUT_SCENE), Protocol(40, 0))
    drawings, choice, missing = show_episodes(open_store, bare)  # type: ignore[arg-type]
    assert (drawings, missing) == ([], []) and choice == "The task 'puck' has no scene, so no episodes are drawn."
    page = render_page(Page(bare.comparison, {}, [], choice, Table("Settings", ("setting",), []), []))
    assert "has no scene" in page and "One task, puck, in simulation" in page


def test_the_card_says_what_the_task_says() -> None:
    card = model_card(training_facts(PUCK, 10, "a", "0" * 32, {"method": "pi0"}, {"seed": 3}))
    assert "**Task** `puck`: Push a puck past a post." in card
    assert "states `(N, 4)`: place along, m; place across, m; speed along, m/s; speed across, m/s." in card
    assert "chunks `(N, 10, 2)`: actions for the next 10 steps of 0.1 s: push along, N, applied within ±2; push" in card
    assert "Tested were the first 5 and 10 actions, and uniform action noise up to ±0.1." in card
    other = training_facts(PENDULUM, 25, "a", "0" * 32, {"method": "pi0"}, {})
    assert "chunks `(N, 25, 1)`" in model_card(other) and "first 10, 13 and 15 actions" in model_card(other)
    begun = [as_sentence(text) for text in ("", "two lead", "é", "pi0_fast leads", "pi0 leads", "k-means leads")]
    assert begun == ["", "Two lead", "É", "pi0_fast leads", "pi0 leads", "K-means leads"]
    assert [listed(values) for values in ((), (1,), (1, 2), (1, 2, 3))] == ["", "1", "1 and 2", "1, 2 and 3"]


@pytest.mark.parametrize(
    ("chunk", "horizon", "expected"), [("20", "0", 20), ("20", "25", 20), ("", "25", 25), ("", "0", 10), ("", "", 10)]
)
def test_the_chunk_of_a_run_is_that_of_its_data_whatever_its_version_told(
    chunk: str, horizon: str, expected: int
) -> None:
    tags, params = ({name: value} if value else {} for name, value in (("chunk", chunk), ("horizon", horizon)))
    assert chunk_of(StoredRun("0", "a", "FINISHED", 0, params, {}, tags, "1"), PUCK) == expected


def test_the_best_of_a_study_is_chosen_by_the_tasks_own_scores() -> None:
    assert choosing(PENDULUM) == ("calm", "success", "converge") and choosing(PUCK)[0] == PUCK.primary
    assert chosen_by(PUCK).startswith("by near, then success, in the first check")
    assert registered_name("pendulum", "pi0") == "pi0" and registered_name("puck", "pi0") == "puck-pi0"


# From a store


def add_run(client: MlflowClient, experiment: str, group: str, seed: int, task: str | None, **tags: str) -> None:
    """A finished model with a yardstick's scores and paths, of a task, or from before there were tasks."""
    run = client.create_run(experiment, run_name=f"{group}_{seed}").info.run_id
    known = {"kind": "model", "method": group, "name": f"{group}_{seed}", "weights_sha256": "w"} | (
        {"task": task} if task else {}
    )
    for name, value in (known | protocol_tags(Protocol(8, 0)) | tags).items():
        client.set_tag(run, name, value)
    client.log_param(run, "seed", seed)
    kind = PUCK if task == "puck" else PENDULUM
    episodes = draw_episodes(kind, kind.conditions, 8, 0)
    judged = evaluate_yardstick("zero action" if task is None else "above", episodes, 1)
    with tempfile.TemporaryDirectory() as folder:
        write_episodes(Path(folder, EPISODES_FILE), kind, judged.by_condition())
        client.log_artifact(run, f"{folder}/{EPISODES_FILE}", FOLDER)
        if judged.paths is not None:
            np.savez(Path(folder, PATHS_FILE), paths=judged.paths[8:16], condition=(0.02, 10))
            client.log_artifact(run, f"{folder}/{PATHS_FILE}", FOLDER)
    client.set_terminated(run)


@pytest.mark.usefixtures("with_store", "known")
def test_a_study_is_of_the_task_in_its_tag(workplace: Path) -> None:
    client = open_store()
    experiment = client.create_experiment("e")
    for seed in range(2):
        add_run(client, experiment, "pi0", seed, None, study="before")
        add_run(client, experiment, "pi0", seed, "puck", study="pucks")
    before, pucks = gather(client, "before").comparison, gather(client, "pucks").comparison
    assert (before.task, pucks.task) == (PENDULUM, PUCK) and pucks.groups[0].scores["success"][None].mean == 1
    assert pucks.conditions == [(0.02, 5), (0.02, 10), (0.1, 10)]

    everything = gather(client).comparison
    assert everything.task == PENDULUM and len(everything.groups[0].models) == 2
    assert everything.notes[0] == "2 models of other tasks are left out: name one by --task."
    assert gather(client, task="puck").comparison.task == PUCK
    with pytest.raises(SettingsError, match="task: expected 'puck', as the runs are, found 'pendulum'"):
        gather(client, "pucks", task="pendulum")

    drawn, missing = draw_figures(client, pucks, None)
    assert set(drawn) == {"scores", "paths"} and missing == []
    (axes,) = drawn["paths"].axes
    assert axes.get_title() == "pi0\nentropy 0.000 of the demonstrators'", "always the same way"
    assert "noise ±0.02, replan 10: paths" in drawn["paths"].get_suptitle(), "the least noise, the longest plans"
    assert len([line for line in axes.lines if line.get_marker() == "None"]) == 200 + 16, "all that is kept"
    assert "converge_steps" in draw_figures(client, before, None)[0]
    assert captions_of(PENDULUM)["converge_steps"].title == "When episodes have converged"
    assert list(captions_of(PENDULUM))[:3] == ["verdicts", "scores", "converge_steps"]
    assert "converge_steps" not in captions_of(PUCK)


def test_a_task_of_ones_own_must_be_named(known: None) -> None:
    with pytest.raises(SettingsError, match=r"found runs of 'mine'\. .* your own task, say where it is: --task path"):
        task_of_runs(["mine"])
    with pytest.raises(SettingsError, match="expected one of 'mine', 'yours', as the runs are, found none"):
        task_of_runs(["mine", "yours"])
    assert task_of_runs(["puck", "pendulum"]) is PENDULUM and task_of_runs([], "puck") is PUCK
    assert task_of_runs(["puck", "puck"]) is PUCK and task_of_runs([]) is PENDULUM
