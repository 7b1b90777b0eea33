"""Small studies inside a large one: their verdicts are the report's, and are counted right; the page shows them."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.marks import parts_of
from docs.renew_lesson import PAGE, example_of, named_table, of_methods, pairs_of, panels_of, render, share, size_table
from pipeline.errors import SettingsError
from pipeline.report.comparison import Comparison, Model, compare_models
from pipeline.report.design import Design
from pipeline.report.small_studies import (
    Pair,
    contradicts,
    draw_parts,
    judge_part,
    sizes_of,
    stretches,
    summarise_parts,
)
from pipeline.report.small_study_figures import draw_small_studies
from pipeline.report.verdicts import judge_pairs
from pipeline.tasks.pendulum import PENDULUM

CONDITIONS = tuple((each.action_noise, each.replan) for each in PENDULUM.conditions)


def pair_of(difference: float, models: float = 0.005, n: int = 8, starts: int = 200, seed: int = 0) -> Pair:
    """Two groups whose models differ by `models`, on starts that are easy or hard for all."""
    generator = np.random.default_rng(seed)
    shared = generator.normal(0.75, 0.05, starts)
    a, b = (shared + generator.normal(0, models, (n, 1)) + generator.normal(0, 0.02, (n, starts)) for _ in range(2))
    return Pair(("a", "b"), a + difference, b, 0.01, +1)


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.05, 0.05), st.sampled_from([0.001, 0.01, 0.05]), st.integers(2, 6), st.integers(0, 99))
def test_a_part_is_judged_as_a_report_judges_two_groups(difference: float, models: float, n: int, seed: int) -> None:
    pair = pair_of(difference, models, n, 40, seed)
    part = judge_part(pair, range(n), range(1, n), range(5, 30))
    (found,) = judge_pairs({"a": pair.first[:, 5:30], "b": pair.second[1:, 5:30]}, 0.01, +1)
    assert part.word == found.word and part.interval == found.interval
    assert part.difference == pytest.approx(found.difference, abs=1e-15) and part.models == n - 1


def test_stretches_are_consecutive_and_whole() -> None:
    assert stretches(1000, 300) == [range(0, 300), range(300, 600), range(600, 900)]
    assert stretches(300, 300) == [range(300)] and stretches(200, 300) == []


def test_parts_are_choices_without_repetition_on_every_stretch() -> None:
    """Model i has the outcome 2^i: a sum of three different ones tells which they were."""
    powers = np.repeat(2.0 ** np.arange(6), 20).reshape(6, 20)
    pair = Pair(("a", "b"), powers, np.zeros((6, 20)), 0.01, +1)
    parts = draw_parts(pair, 3, 10, 100, np.random.default_rng(0))
    assert [part.starts for part in parts] == [range(10), range(10, 20)] * 100
    chosen = {round(3 * part.difference) for part in parts}
    assert all(total.bit_count() == 3 for total in chosen) and len(chosen) == 20  # all choices of 3 of 6
    assert len(draw_parts(pair, 6, 10, 100, np.random.default_rng(0))) == 2  # there is one choice of all
    assert parts == draw_parts(pair, 3, 10, 100, np.random.default_rng(0))


def test_all_of_it_is_the_whole_study() -> None:
    pair = pair_of(0.02)
    assert draw_parts(pair, pair.models, pair.starts, 9, np.random.default_rng(0)) == [pair.whole]
    assert sizes_of(pair) == [(n, count) for n in (1, 3, 5, 7, 8) for count in (100, 200)]


def test_what_contradicts() -> None:
    decided = ("better", "equivalent", "worse")
    assert not any(contradicts(word, "undecided") or contradicts("undecided", word) for word in decided)
    assert all(contradicts(a, b) == (a != b) for a in decided for b in decided)


def test_parts_are_counted() -> None:
    """Stretch by stretch the first group is ahead by 0.1, behind by 0.1, and ahead by 0.1."""
    steps = np.repeat([0.1, -0.1, 0.1], 50) + np.random.default_rng(0).normal(0, 0.01, 150)
    models = np.array([[-0.001], [0.0], [0.001]])
    pair = Pair(("a", "b"), models + steps, models + np.zeros(150), 0.01, +1)
    whole = pair.whole
    assert whole.word == whole.word_alone == "better"
    size = summarise_parts(draw_parts(pair, 3, 50, 1, np.random.default_rng(0)), whole)
    assert (size.models, size.episodes, size.parts) == (3, 50, 3)
    assert size.words == {"better": pytest.approx(2 / 3), "worse": pytest.approx(1 / 3)}
    assert size.contradicting == size.contradicting_alone == size.reversed == pytest.approx(1 / 3)


def test_an_interval_over_models_alone_believes_its_episodes() -> None:
    """Models agree nearly, episodes do not: 30 of them say nothing, and models alone decide."""
    episodes = np.random.default_rng(1).normal(0, 0.5, 30)
    models = np.linspace(-1e-4, 1e-4, 5)[:, None]
    pair = Pair(("a", "b"), models + episodes, models + np.zeros(30), 0.001, +1)
    assert pair.whole.word == "undecided" and pair.whole.word_alone in ("better", "worse")


def test_one_model_of_each_decides_nothing() -> None:
    size = summarise_parts(draw_parts(pair_of(0.02), 1, 100, 20, np.random.default_rng(0)), pair_of(0.02).whole)
    assert size.words == {"undecided": 1.0} and size.half_width is None and size.contradicting_alone == 0


@pytest.mark.parametrize(
    ("value", "told"), [(0, "0%"), (0.004, "< 1%"), (0.005, "< 1%"), (0.38, "38%"), (0.996, "> 99%"), (1, "100%")]
)
def test_shares_are_whole_only_if_they_are(value: float, told: str) -> None:
    assert share(value) == told


# The page


def comparison(n: int = 6, starts: int = 200) -> Comparison:
    def model(group: str, seed: int, mean: float) -> Model:
        scores = np.random.default_rng([ord(group), seed]).normal(mean, 0.05, (9, starts))
        return Model(group, "model", group, seed, f"{group}{seed}", f"{group}{seed}", CONDITIONS, {"calm": scores}, {})

    models = [model(group, seed, mean) for group, mean in (("a", 0.7), ("b", 0.69), ("c", 0.5)) for seed in range(n)]
    return compare_models(PENDULUM, "study x", "", Design("calm", 0.01, "nine", starts, 7), models, [])


def test_the_page_has_what_is_asked_for() -> None:
    pairs = pairs_of(comparison())
    assert [pair.names for pair in pairs] == [("a", "b"), ("a", "c")]
    assert pairs[0].first.shape == (6, 200) and example_of(comparison()).names == ("a", "b")
    blocks = render(pairs[0], [("pendulum", pair) for pair in pairs], "The example.")
    for text, count in zip(blocks.values(), (1, 1, 1), strict=True):
        tables = re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE)
        assert len(tables) == count and all(
            len({line.count("|") for line in table.splitlines()}) == 1 for table in tables
        )
    whole = pairs[0].whole
    assert f"| all 6 models, all 200 episodes | {whole.difference:+.4f} |" in blocks["example"]
    assert blocks["pairs"].index("a minus c") < blocks["pairs"].index("a minus b")  # the largest difference first
    assert re.search(r"a minus c \| \+0.2\d\d \[.*\] \| a is better \| 100% \| 0% \| 0% \| 0% \|", blocks["pairs"])
    assert parts_of(PAGE) == list(blocks)


def test_the_example_is_of_two_methods_as_they_are() -> None:
    """Beside the same method by another rule of acting, which may come first."""
    found = comparison()
    models = [model for group in found.groups for model in group.models]
    renamed = [replace(model, group={"b": "a x=1"}.get(model.group, model.group)) for model in models]
    other = compare_models(PENDULUM, "study x", "", found.design, renamed, [])
    assert [pair.names for pair in pairs_of(other)] == [("a", "a x=1"), ("a", "c")]
    assert example_of(other).names == ("a", "c") and [each.names for each in of_methods(pairs_of(other))] == [
        ("a", "c")
    ]


def test_an_undecided_study_is_not_contradicted() -> None:
    pair = pair_of(0.0, models=0.05)
    assert pair.whole.word == "undecided"
    size = summarise_parts(draw_parts(pair, 3, 100, 5, np.random.default_rng(0)), pair.whole)
    assert "| - | - |" in size_table(pair, [size], 4).markdown()
    assert named_table(pair, 3).rows[0][-1] == "undecided"


def test_the_figure_has_a_line_for_every_part_and_the_whole() -> None:
    pair = pair_of(0.02)
    panels = panels_of(pair)
    figure = draw_small_studies(pair, "calm", panels)
    assert [len(parts) for parts in panels.values()] == [2, 10, 2]
    for axes, parts in zip(figure.axes, panels.values(), strict=True):
        ends = [segment for lines in axes.collections for segment in lines.get_segments()]
        shown = [(part.interval.low, part.interval.high) for part in (*parts, pair.whole) if part.interval]
        assert [tuple(end[:, 0]) for end in ends] == shown


@pytest.mark.parametrize(("n", "starts"), [(5, 200), (6, 199)])
def test_a_study_that_is_small_itself_is_refused(n: int, starts: int) -> None:
    with pytest.raises(SettingsError, match="study x: expected two groups of 6 models or more, evaluated on 200"):
        example_of(comparison(n, starts))
