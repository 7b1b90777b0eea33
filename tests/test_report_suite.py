"""The report across tasks: what is best where, in tables, values and one figure."""

import csv
import io
import json
import re
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes

from pipeline.report.comparison import Comparison, Model, compare_models
from pipeline.report.design import Design
from pipeline.report.suite import (
    best_of,
    draw_suite,
    methods_of,
    spread,
    suite_csv,
    suite_markdown,
    suite_rows,
    suite_table,
    suite_text,
    suite_values,
    verdict_of,
)
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.task import Task
from tests.puck import PUCK


def made_up(task: Task, means: dict[str, float], models: int = 6, **yardsticks: float) -> Comparison:
    """Groups whose primary score has these means, and yardsticks."""
    chance = np.random.default_rng(0)
    where = tuple((each.action_noise, each.replan) for each in task.conditions)

    def model(group: str, mean: float, seed: int | None) -> Model:
        own = mean + chance.normal(0, 0.005)
        primary = chance.normal(own, 0.05, (len(where), 40))
        kind = "yardstick" if seed is None else "model"
        return Model(
            group, kind, group, seed, f"{group} {seed}", f"{group}{seed}", where,
            {task.primary: primary, "success": np.ones((len(where), 40))}, {},
        )  # fmt: skip

    found = [model(group, mean, seed) for group, mean in means.items() for seed in range(models)]
    found += [model(name, mean, None) for name, mean in yardsticks.items()]
    design = Design(task.primary, 0.01, "all", 40, 0)
    return compare_models(task, f"study {task.name}", "40 episodes per condition, seed 0", design, found, ["a note"])


@pytest.fixture(scope="module")
def suite() -> dict[str, Comparison]:
    """Of two tasks, with the order of the methods turned round, and a third task without a difference."""
    return {
        "pendulum": made_up(PENDULUM, {"pi0": 0.8, "regression": 0.6}, LQR=0.95),
        "puck": made_up(PUCK, {"pi0": 0.7, "pi0_fast": 0.9, "regression": 0.1}, mean=0.05, above=0.97),
        "even": made_up(replace(PUCK, name="even"), {"pi0": 0.5, "regression": 0.5}, models=2),
    }


def test_the_best_is_bold_and_named_in_words(suite: dict[str, Comparison]) -> None:
    assert methods_of(suite) == ["pi0", "regression", "pi0_fast"]
    assert [best_of(each) for each in suite.values()] == [{"pi0"}, {"pi0_fast"}, set()]
    assert verdict_of(suite["pendulum"]) == "pi0 is better than regression"
    assert verdict_of(suite["puck"]) == "pi0_fast is better than pi0 and regression"
    assert "pi0 and regression" in verdict_of(suite["even"])
    table = suite_table(suite, bold=True)
    assert table.columns == ("task", "score", "pi0", "regression", "pi0_fast", "verdict")
    assert [row[:2] for row in table.rows] == [("pendulum", "calm"), ("puck", "near"), ("even", "near")]
    bold = [[bool(re.fullmatch(r"\*\*0\.\d{3} ± 0\.\d{3}( a)?\*\*", cell)) for cell in row[2:5]] for row in table.rows]
    assert bold == [[True, False, False], [False, False, True], [False, False, False]]
    assert table.rows[0][4] == "-" and table.rows[1][3].endswith(" c")
    assert "**" not in suite_text(suite)


def test_groups_that_are_equally_good_are_all_best() -> None:
    found = made_up(PUCK, {"a": 0.8, "b": 0.8, "c": 0.3})
    assert best_of(found) == {"a", "b"} and verdict_of(found) == "a is better than c; b is better than c"
    alone = made_up(PUCK, {"a": 0.8})
    assert best_of(alone) == set() and verdict_of(alone) == "nothing to compare"


def test_all_formats_say_the_same(suite: dict[str, Comparison]) -> None:
    values = json.loads(json.dumps(suite_values(suite), allow_nan=False))
    rows = list(csv.DictReader(io.StringIO(suite_csv(suite))))
    assert len(rows) == len(values["scores"]) == len(suite_rows(suite)) == 2 + 3 + 2 + 3
    for row, value in zip(rows, values["scores"], strict=True):
        assert (row["task"], row["group"], float(row["mean"])) == (value["task"], value["group"], value["mean"])
    means = {(each["task"], each["group"]): each["mean"] for each in values["scores"]}
    markdown = suite_markdown(suite)
    assert all(f"{mean:.3f}" in markdown for mean in means.values())
    assert [each["verdict"] for each in values["tasks"]] == [verdict_of(each) for each in suite.values()]
    yardsticks = markdown[markdown.index("Yardsticks") :]
    assert yardsticks.index("| puck | above |") < yardsticks.index("| puck | mean |"), "the best first"
    assert "Note, puck: a note" in markdown
    for table in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def marks(axes: Axes) -> dict[float, tuple[object, float]]:
    """The row, colour and place of each group's mean."""
    found = [line for line in axes.lines if line.get_marker() in ("o", "s", "^")]
    return {float(line.get_ydata()[0]): (line.get_color(), float(line.get_xdata()[0])) for line in found}


def test_the_figure_has_a_method_in_one_place_and_colour(suite: dict[str, Comparison]) -> None:
    figure = draw_suite("Suite x", suite)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == list(suite)
    for axes, (_, comparison) in zip(panels, suite.items(), strict=True):
        shown = marks(axes)
        for row, method in enumerate(methods_of(suite)):
            group = next((each for each in comparison.of_kind("model") if each.name == method), None)
            if group is None:
                assert row not in shown and "not evaluated" in [text.get_text() for text in axes.texts]
            else:
                colour = {"pi0": "#0072B2", "regression": "#D55E00", "pi0_fast": "#009E73"}[method]
                mean = group.scores[comparison.design.primary][None].mean
                assert shown[row] == (colour, pytest.approx(mean))
        assert verdict_of(comparison) in [text.get_text().replace("\n", " ") for text in axes.texts]


def test_a_long_verdict_stays_in_its_panel() -> None:
    means = {"pi0_fast decoding=greedy": 0.9, "pi0": 0.8, "regression patch=50": 0.5, "pi0 start_noise=1": 0.1}
    suite = {task: made_up(replace(PUCK, name=task), means) for task in "abcde"}
    assert len(verdict_of(suite["a"])) > 80
    figure = draw_suite("x", suite)
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.get_visible()]
    boxes = [axes.get_tightbbox() for axes in panels]
    for one, other in combinations(boxes, 2):
        assert one is not None and other is not None and not one.overlaps(other)


def test_names_of_yardsticks_that_are_close_do_not_overlap() -> None:
    close = {"zero action": 0.0, "mean of all ways": 0.001, "demonstrator, planned": 0.99, "in closed loop": 0.97}
    suite = {task: made_up(replace(PUCK, name=task), {"pi0": 0.5}, **close) for task in "abc"}
    figure = draw_suite("x", suite)
    figure.draw_without_rendering()
    for axes, comparison in zip(figure.axes, suite.values(), strict=True):
        primary = comparison.design.primary
        ordered = sorted(comparison.of_kind("yardstick"), key=lambda group: group.scores[primary][None].mean)
        texts = {text.get_text(): text for text in axes.texts}
        boxes = [texts[group.name].get_window_extent() for group in ordered]
        assert all(left.x1 <= right.x0 for left, right in pairwise(boxes)) and len(boxes) == len(close)
        assert all(axes.bbox.x0 - 1 <= box.x0 and box.x1 <= axes.bbox.x1 + 1 for box in boxes)


@given(st.lists(st.floats(0, 1), max_size=8).map(sorted), st.floats(0.001, 0.1))
def test_spread_keeps_the_order_and_moves_only_what_is_too_close(places: list[float], apart: float) -> None:
    found = spread(places, apart, 0.0, 1.0)
    assert all(after - before >= apart - 1e-9 for before, after in pairwise(found))
    assert all(-1e-9 <= place <= 1.0 for place in found)
    if all(after - before >= apart for before, after in pairwise(places)):
        assert found == pytest.approx(places)


def test_without_anything_there_is_an_empty_table() -> None:
    assert suite_table({}).rows == [] and suite_csv({}).strip() == "" and suite_values({})["scores"] == []
