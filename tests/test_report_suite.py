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
from pipeline.report.group_styles import ORIGINAL, SHADES, styles_in, styles_of
from pipeline.report.headline import headline
from pipeline.report.leaders import best_of, leaders_of, verdict_of
from pipeline.report.overview import as_markdown, as_text, told
from pipeline.report.suite import (
    methods_of,
    suite_csv,
    suite_markdown,
    suite_rows,
    suite_table,
    suite_text,
    suite_values,
)
from pipeline.report.suite_figure import draw_suite, without_overlap
from pipeline.tasks.pendulum import PENDULUM
from pipeline.tasks.score import shares_of
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
        scores = {name: np.ones((len(where), 40)) for name in shares_of(task.scores)}
        scores[task.primary] = primary
        name, run_id, method = f"{group} {seed}", f"{group}{seed}", group.split()[0]
        return Model(group, kind, group, seed, name, run_id, where, scores, {}, method=method)

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
    assert verdict_of(suite["puck"]) == "pi0_fast is best"
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
    assert best_of(found) == set(leaders_of(found)) == {"a", "b"}
    alone = made_up(PUCK, {"a": 0.8})
    assert best_of(alone) == set() and verdict_of(alone) == "nothing to compare"


@pytest.mark.parametrize(
    ("words", "said"),  # of a and b, a and c, b and c; c has the best mean, a the worst
    [
        ("worse worse worse", "c is best"),
        ("worse worse undecided", "c and b lead, undecided among them"),
        ("worse worse equivalent", "c and b lead, equivalent within 0.01"),
        ("worse undecided undecided", "c and b lead, undecided among them"),
        ("better undecided worse", "c and a lead, undecided among them"),
        ("worse undecided worse", "c leads, not shown to be better than a"),
        ("undecided undecided undecided", "undecided between any two"),
        ("undecided undecided equivalent", "no difference shown; b and c are equivalent within 0.01"),
        ("equivalent equivalent equivalent", "no difference shown, equivalent within 0.01"),
    ],
)
def test_the_verdict_says_what_is_known_of_those_in_front(three: Comparison, words: str, said: str) -> None:
    verdicts = [replace(each.verdict, word=word) for each, word in zip(three.contrasts, words.split(), strict=True)]
    assert [(each.first, each.second) for each in verdicts] == [("a", "b"), ("a", "c"), ("b", "c")]
    contrasts = [replace(each, verdict=verdict) for each, verdict in zip(three.contrasts, verdicts, strict=True)]
    assert verdict_of(replace(three, contrasts=tuple(contrasts))) == said


@pytest.fixture(scope="module")
def three() -> Comparison:
    """Three groups."""
    return made_up(PUCK, {"a": 0.2, "b": 0.5, "c": 0.8}, models=2)


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


def panels(suite: dict[str, Comparison]) -> list[Axes]:
    """The rows of the figure, drawn."""
    figure = draw_suite("x", suite)
    figure.draw_without_rendering()
    return list(figure.axes)


def test_the_figure_has_a_method_in_one_place_and_colour(suite: dict[str, Comparison]) -> None:
    colours = {"pi0": "#0072B2", "regression": "#D55E00", "pi0_fast": "#009E73"}
    for axes, (name, comparison) in zip(panels(suite), suite.items(), strict=True):
        assert axes.get_yticklabels()[0].get_text() == f"{name}\n{comparison.primary.short}"
        marks = [line for line in axes.lines if line.get_marker() in ("o", "s", "^")]
        shown = {float(line.get_ydata()[0]): (line.get_color(), float(line.get_xdata()[0])) for line in marks}
        texts = [text.get_text().replace("\n", " ") for text in axes.texts]
        assert verdict_of(comparison) in texts
        for row, method in enumerate(methods_of(suite)):
            group = next((each for each in comparison.of_kind("model") if each.name == method), None)
            if group is None:
                assert row not in shown and f"{method}: not evaluated" in texts
            else:
                mean = group.scores[comparison.design.primary][None].mean
                assert shown[row] == (colours[method], pytest.approx(mean))


def test_groups_of_a_method_have_its_colour_and_marks_of_their_own() -> None:
    styles = styles_of({"pi0": "pi0", "as published": "pi0", "regression": "regression", "two steps": "pi0"})
    assert len({styles[name]["color"] for name in ("pi0", "as published", "two steps")}) == 1
    assert styles["pi0"]["color"] != styles["regression"]["color"]
    assert styles["as published"]["markerfacecolor"] == "white"
    for told_apart in ("markerfacecolor", "linestyle"):
        assert len({styles[name][told_apart] for name in ("pi0", "as published", "two steps")}) == 3
    widths = dict.fromkeys(("pi0", "pi0 width=64"), "pi0")
    more = dict.fromkeys(("pi0 width=32", "pi0 width=16"), "pi0")
    for groups in (widths, widths | more | {"regression": "regression"}):
        assert len({style["color"] for style in styles_of(groups).values()}) == len(groups)


def test_weights_of_the_reference_system_are_grey() -> None:
    comparison = made_up(PENDULUM, {"pi0": 0.5}, models=2)
    original = replace(comparison.groups[0], name="original pi0", kind="original")
    styles = styles_in(replace(comparison, groups=(*comparison.groups, original)))
    assert styles["original pi0"] == {**ORIGINAL, "color": SHADES[0], "marker": styles["pi0"]["marker"]}


def test_nothing_in_the_figure_overlaps() -> None:
    """Long verdicts, and names of yardsticks that are close."""
    means = {"pi0_fast decoding=greedy": 0.9, "pi0": 0.9, "regression patch=50": 0.9, "pi0 start_noise=1": 0.1}
    close = {"PID, planned": 0.95, "LQR, planned": 0.951, "zero action": 0.0}
    suite = {name: made_up(replace(PENDULUM, name=name), means, **close) for name in "abc"}
    rows = panels(suite)
    for one, other in combinations([axes.get_tightbbox() for axes in rows], 2):
        assert one is not None and other is not None and not one.overlaps(other)
    for axes in rows:
        drawn = {text.get_text(): text.get_window_extent() for text in axes.texts}
        left, right = sorted((drawn["PID, planned"], drawn["LQR, planned"]), key=lambda box: box.x0)
        assert left.x1 <= right.x0 and axes.bbox.x0 - 1 <= left.x0 and right.x1 <= axes.bbox.x1 + 1
        assert "zero action" not in drawn, "it plans nothing"


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.001, 0.1)), max_size=8).map(sorted))
def test_spread_keeps_the_order_and_moves_only_what_is_too_close(things: list[tuple[float, float]]) -> None:
    places, widths = [place for place, _ in things], [width for _, width in things]
    found = without_overlap(places, widths, 0.0, 1.0)
    ends = [(place - width / 2, place + width / 2) for place, width in zip(found, widths, strict=True)]
    assert all(right[0] - left[1] >= -1e-9 for left, right in pairwise(ends))
    assert all(low >= -1e-9 and high <= 1 + 1e-9 for low, high in ends)
    free = [(place - width / 2, place + width / 2) for place, width in things]
    if all(right[0] >= left[1] for left, right in pairwise([(0.0, 0.0), *free, (1.0, 1.0)])):
        assert found == pytest.approx(places)


def test_without_anything_there_is_an_empty_table() -> None:
    assert suite_table({}).rows == [] and suite_csv({}).strip() == "" and suite_values({})["scores"] == []


def test_of_many_groups_only_those_in_front_have_a_sentence_of_their_own() -> None:
    """Tables have every two; a terminal has none per pair and score, the report as Markdown has."""
    task = PENDULUM
    few = made_up(task, {"a": 0.8, "b": 0.5, "c": 0.3})
    assert told(few)[0] == "A is best, by calm." and len(told(few)) == 4
    many = made_up(task, {"a": 0.8, "b": 0.8, "c": 0.3, "d": 0.2})
    assert told(many)[0] == "A and b lead, undecided among them, by calm."
    assert len(told(many)) == 2 and " a minus b is " in told(many)[1]
    text, markdown = as_text(many), as_markdown(many)
    assert "b and c" in text and "Success" in text and "b minus c" not in text and "b minus c" in markdown
    assert "b and c, success" not in text and "b and c, success" in markdown
    assert [verdict for verdict, _ in headline(many)] == [told(many)[0], "Undecided between a and b in calm."]
